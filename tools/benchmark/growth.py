"""Growth: time and memory against objects, pixels, classes and positives, each alone.

A row is one system along one of them. What must be computed grows at most as the number itself;
the row's claim is that time and memory grow no faster, from any size to the next (10 % are left for
the clock). All models are random, on a ResNet-18, and measured as in the modules named below.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .detectors import BASELINE, Detector, Scene
from .harness import Row, interleave, peak_memory
from .refinemask import FINE_MAP, head_inputs, random_head
from .training import FULL, MODELS_BESIDE, Batch, Step, detector

DETECTING = (BASELINE, 'RefineMask', 'SipMask', 'EmbedMask v3')
TRAINING = (BASELINE, 'RefineMask')
SLACK = 1.1
REPEATS = 2

Call = Callable[[], Any]


def grow(
    name: str, system: str, numbers: Sequence[int], calls: Sequence[Call], device: str, quick: bool
) -> Row:
    """Measure one system at every number.

    Args:
        name: What is counted.
        system: What is measured.
        numbers: Ascending; the work is taken to grow as they do.
        calls: One for each number.
        device: ``cpu`` or ``cuda``.
        quick: Sizes are too small to keep the claim.
    """
    memory = [peak_memory(call, device) for call in calls]  # warms up, too
    times = [min(seconds) for seconds in interleave(calls, REPEATS, device)]
    pairs = list(zip(numbers, numbers[1:]))
    kept = quick or all(
        later <= SLACK * earlier * b / a
        for values in (times, memory)
        for (a, b), earlier, later in zip(pairs, values, values[1:])
    )
    details = dict(
        counted=name,
        system=system,
        numbers=list(numbers),
        times=[seconds / times[0] for seconds in times],
        memory_mib=[size / 2**20 for size in memory],
    )
    case = f'{name}: {system}'
    ratios = times[0] / times[-1], memory[0] / max(memory[-1], 1)
    return Row('growth', case, *ratios, 0.0, kept, details, 'limit')


def objects(device: str, quick: bool = False) -> Iterator[Row]:
    """Detections N, from the image to RLE."""
    numbers = (1, 3) if quick else (1, 10, 30, 100, 300)
    size = (64, 96) if quick else (480, 640)
    scene = Scene(size, size, 1, DETECTING, proposals=20 if quick else 1000, rle=True, depth=18)
    for system in DETECTING:
        calls = [Detector(system, replace(scene, count=n), device) for n in numbers]
        yield grow(f'detections, {size[0]} x {size[1]} px', system, numbers, calls, device, quick)


def pixels(device: str, quick: bool = False) -> Iterator[Row]:
    """Area of a square image, from the image to RLE."""
    sides, count = ((64, 96), 3) if quick else ((320, 640, 1280, 2048), 20)
    proposals = 20 if quick else 1000
    for system in DETECTING:
        calls = [
            Detector(system, Scene((n, n), (n, n), count, DETECTING, proposals, True, 18), device)
            for n in sides
        ]
        areas = [n * n for n in sides]
        yield grow(f'pixels, {count} detections', system, areas, calls, device, quick)


def classes(device: str, quick: bool = False) -> Iterator[Row]:
    """Classes of RefineMask's mask head."""
    numbers, rois, size = ((1, 3), 4, (24, 32)) if quick else ((1, 80, 1203), 100, FINE_MAP)

    def call(number: int) -> Call:
        head, inputs = random_head(number, device), head_inputs(rois, number, device, size)
        return torch.no_grad()(lambda: head.fused_masks(*inputs))

    calls = [call(number) for number in numbers]
    yield grow(f'classes, {rois} RoIs', "RefineMask's mask head", numbers, calls, device, quick)


def positives(device: str, quick: bool = False) -> Iterator[Row]:
    """Positive RoIs of a training step on two images."""
    size = (64, 96) if quick else FULL.size
    near = (0, 1) if quick else (0, 14, 49, 127)
    for system in TRAINING:
        batches = [Batch(size, 1, n, FULL.elsewhere) for n in near]
        calls = [Step(detector(MODELS_BESIDE[system], b, device), b, device) for b in batches]
        numbers = [2 * (n + 1) for n in near]
        yield grow(
            f'positives, 2 x {size[0]} x {size[1]} px', system, numbers, calls, device, quick
        )


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw rows of a ``--json`` file: a column of two plots, time and memory, for each count."""
    import matplotlib

    matplotlib.use('agg')
    from matplotlib import pyplot

    counted = list(dict.fromkeys(row['details']['counted'] for row in rows))
    figure, axes = pyplot.subplots(
        2, len(counted), figsize=(3.6 * len(counted), 6), squeeze=False, layout='constrained'
    )
    for name, (above, below) in zip(counted, axes.T):
        for row in (row for row in rows if row['details']['counted'] == name):
            details = row['details']
            above.plot(details['numbers'], details['times'], 'o-', label=details['system'])
            below.plot(details['numbers'], details['memory_mib'], 'o-', label=details['system'])
        above.set_ylabel('time / time of the smallest')
        below.set_ylabel('memory, MiB')
        below.set_xlabel(name)
        for axis in (above, below):
            axis.set_xscale('log')
            axis.set_ylim(bottom=0)
        above.legend(fontsize='small')
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


BENCHMARKS = {
    'growth': {
        'objects': objects, 'pixels': pixels, 'classes': classes, 'positives': positives,
    }
}  # fmt: skip
