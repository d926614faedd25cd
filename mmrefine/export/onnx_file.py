"""Write a part of a model as an ONNX file and compare it with the model."""

import inspect
import io
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from mmrefine.results.files import atomic_file

from .parts import Part, part_of
from .pooling import OPSET

TOLERANCE = 1e-4
CHECKED = (0, 1, 2, 5)  # numbers of objects; the graph is traced with TRACED
TRACED = 3


class UnusableGraph(ValueError):
    """A file that onnxruntime cannot load, or run on other sizes than it was traced with."""


class Difference(NamedTuple):
    """Comparison for one number of objects."""

    objects: int
    image_size: tuple[int, int]  # ``(h, w)`` of the image behind the features
    largest: float  # largest difference of any output; NaN if a value is none
    share: float  # share of values further apart than 1e-4, or no numbers


def export_onnx(
    model: nn.Module,
    path: str | Path,
    image_size: tuple[int, int] = (320, 320),
    with_backbone: bool = False,
) -> Part:
    """Write the mask part of a model; return it, for ``check_onnx``.

    Number of objects, of images and the sizes of the maps stay open in the file.

    Args:
        model: Detector with a mask head of this package, on the CPU; it is put in evaluation mode.
        path: The file.
        image_size: ``(h, w)`` of the input used for tracing, in pixels, multiples of 32.
        with_backbone: Take images instead of feature maps.

    Raises:
        TypeError: The model has no such head.
        ValueError: A RoI extractor without ONNX form, or a bad ``image_size``.
    """
    needed('onnx')
    check_size(image_size)
    part = part_of(model.eval(), with_backbone).eval()
    with torch.no_grad():
        example = part.example(TRACED, image_size)
    names = part.input_names(example)
    maps = names[: len(names) - len(part.object_names)]
    # windows are objects themselves
    if part.object_names:
        axes = {name: {0: 'batch', 2: f'{name}_h', 3: f'{name}_w'} for name in maps}
    else:
        axes = {name: {0: 'count'} for name in maps}
    axes.update({name: {0: 'count'} for name in (*part.object_names, *part.output_names)})
    if part.open_masks:
        axes['masks'].update({1: 'mask_h', 2: 'mask_w'})
    graph = trace_graph(part, example, names, part.output_names, axes)
    with atomic_file(path, 'wb') as file:
        file.write(graph.SerializeToString())
    return part


def check_size(image_size: tuple[int, int]) -> None:
    """Refuse images ``(h, w)`` on which a pyramid cannot be traced."""
    if any(side < 64 or side % 32 for side in image_size):
        raise ValueError(f'image_size must be multiples of 32 of at least 64, got {image_size}')


def trace_graph(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> Any:
    """Trace a module -> ``onnx.ModelProto``; ``axes`` are the open ones of each input and output.

    A ValueError names operators of MMCV, which no runtime knows.
    """
    buffer = io.BytesIO()
    # where there is a choice: the exporter that keeps open sizes open and needs no more packages
    known = inspect.signature(torch.onnx.export).parameters
    options = {'dynamo': False} if 'dynamo' in known else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')  # of constants that are constant, and of its age
        torch.onnx.export(
            module,
            example,
            buffer,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes=axes,
            opset_version=OPSET,
            **options,
        )
    graph = needed('onnx').load_model_from_string(buffer.getvalue())
    if foreign := sorted({n.op_type for n in graph.graph.node if n.domain not in ('', 'ai.onnx')}):
        raise ValueError(
            f'the model has layers without ONNX form ({", ".join(foreign)}); a backbone with '
            'deformable convolutions has none: export the mask head without it'
        )
    return graph


def check_onnx(
    part: Part,
    path: str | Path,
    counts: Sequence[int] = CHECKED,
    image_sizes: Sequence[tuple[int, int]] = ((320, 320), (256, 352)),
) -> list[Difference]:
    """Run a file with onnxruntime on random inputs and compare it with the part of ``export_onnx``.

    Args:
        counts: Numbers of objects.
        image_sizes: Sizes of the images behind the features.

    Raises:
        UnusableGraph: onnxruntime cannot run the file, or gets other shapes than the model.
    """
    onnxruntime = needed('onnxruntime')
    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise UnusableGraph(f'onnxruntime cannot load {path}: {error}') from error
    used = {node.name for node in session.get_inputs()}  # not labels, if all classes share a mask
    found = []
    for size in image_sizes:
        for count in counts:
            with torch.no_grad():
                inputs = part.example(count, size)
                expected = part(*inputs)
            expected = expected if isinstance(expected, tuple) else (expected,)
            named = zip(part.input_names(inputs), inputs, strict=True)
            feed = {name: value.numpy() for name, value in named if name in used}
            try:
                outputs = session.run(None, feed)
            except Exception as error:
                raise UnusableGraph(
                    f'onnxruntime cannot run {path} on {count} objects in an image of {size}, '
                    f'traced with {TRACED}: {error}; a backbone that splits the image into windows '
                    'fixes its size in the graph: export without the backbone'
                ) from error
            found.append(_compare(outputs, expected, count, size))
    return found


def _compare(
    outputs: Sequence[np.ndarray], expected: Sequence[torch.Tensor], count: int, size: tuple
) -> Difference:
    shapes = [a.shape for a in outputs], [tuple(b.shape) for b in expected]
    if shapes[0] != shapes[1]:
        raise UnusableGraph(f'the graph gives shapes {shapes[0]}, the model {shapes[1]}')
    gaps = [(torch.from_numpy(a) - b).abs().flatten() for a, b in zip(outputs, expected)]
    gap = torch.cat([*gaps, torch.zeros(1)])
    apart = ~(gap <= TOLERANCE)  # NaN is apart from everything
    return Difference(count, size, float(gap.max()), float(apart.float().mean()))


def needed(package: str) -> Any:
    """Import a package that only exports need; an error that says how to install it."""
    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f'{package} is not installed: pip install onnx onnxruntime'
        ) from None
