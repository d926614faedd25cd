"""Peers are formulations of their own: they run nothing of the package but what holds weights."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
import torch
from benchmark import crop_kernel, crop_split, embedmask, evaluation, masks, refinemask, sipmask
from benchmark.harness import Row, compare

PACKAGE = str(Path(refinemask.__file__).parents[2] / 'mmrefine')


@contextmanager
def recorded() -> Iterator[set[str]]:
    """Collect the package's functions that run meanwhile, as ``file:function``."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == 'call' and code.co_filename.startswith(PACKAGE):
            called.add(f'{code.co_filename[len(PACKAGE) + 1 :]}:{code.co_name}')

    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)


def rows_with_calls(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, rows: Callable[[], Any]
) -> list[tuple[Row, set[str], set[str]]]:
    """Rows of a benchmark, what ours called, and what its peer called."""
    seen = []

    def watched(name: str, case: str, ours: Callable, peer: Callable, **options: Any) -> Row:
        with recorded() as own:
            ours()
        with recorded() as other:
            peer()
        row = compare(name, case, ours, peer, **{**options, 'repeats': 1})
        seen.append((row, own, other))
        return row

    monkeypatch.setattr(module, 'compare', watched)
    list(rows())
    return seen


@pytest.mark.parametrize(
    ('module', 'name'),
    [(refinemask, 'B1'), (refinemask, 'B5'), (embedmask, 'B4'), (evaluation, 'B6')],
)
def test_peers_call_nothing_of_the_package(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    found = rows_with_calls(monkeypatch, module, lambda: module.BENCHMARKS[name]('cpu', quick=True))
    assert found
    for row, own, other in found:
        assert row.equal, row.case
        assert own, 'nothing was recorded'
        assert not other, row.case


def test_the_peer_of_mask_encoding_calls_nothing_of_the_package() -> None:
    logits, boxes = masks.detections(3, 28, (48, 64))
    with recorded() as other:
        masks.mmdet_rles(logits, boxes, (48, 64))
    assert not other


@pytest.mark.slow  # compiles the kernel
def test_the_peer_of_mask_assembly_calls_nothing_of_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for row, own, other in rows_with_calls(monkeypatch, sipmask, lambda: sipmask.b3('cpu', True)):
        assert row.equal and own and not other, row.case


@pytest.mark.slow
@pytest.mark.parametrize('k', [1, 2, 3])
def test_the_compiled_rule_is_the_rule(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    maps = torch.randn(k * k, 9, 13, 40, generator=generator)
    boxes = torch.rand(40, 4, generator=generator) * 16 - 2
    boxes[::2] = boxes[::2].round()
    boxes[0] = float('nan')
    given = [maps.clone().requires_grad_() for _ in range(2)]
    expected, output = (
        function(x, boxes)
        for function, x in zip((crop_split.crop_split, crop_kernel.crop_split), given)
    )
    assert torch.equal(output, expected) and output.any()
    weight = torch.randn(output.shape, generator=generator)
    pairs = zip((expected, output), given)
    gradients = [torch.autograd.grad((o * weight).sum(), x)[0] for o, x in pairs]
    assert torch.equal(*gradients)
