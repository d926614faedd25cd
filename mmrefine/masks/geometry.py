"""Sizes and scale factors of an image, read from the meta information of its data sample."""

from collections.abc import Mapping
from typing import Any

import torch


def output_size(meta: Mapping[str, Any], rescale: bool) -> tuple[int, int]:
    """Size ``(h, w)`` of the image in which results are wanted: the original if ``rescale``, or the
    input.

    ``ori_shape`` or ``img_shape`` may hold channels too; a ValueError says that it is missing.
    """
    height, width = _entry(meta, 'ori_shape' if rescale else 'img_shape')[:2]
    if torch.jit.is_tracing():
        return height, width  # tensors that a graph computes with
    return int(height), int(width)


def scale_factors(meta: Mapping[str, Any]) -> tuple[float, float]:
    """How many pixels of the network input one pixel of the original image became: width, height.

    ``scale_factor`` is a tuple, list, array or tensor of two entries, or of four as MMDetection 2
    writes them, (w, h, w, h). A ValueError says that it is missing or has another number of
    entries.
    """
    factor = _entry(meta, 'scale_factor')
    values = factor.tolist() if hasattr(factor, 'tolist') else factor
    if not isinstance(values, (list, tuple)) or len(values) not in (2, 4):
        raise ValueError(
            f'scale_factor must have two entries (width, height) or four, got {factor!r}'
        )
    return float(values[0]), float(values[1])


def _entry(meta: Mapping[str, Any], key: str) -> Any:
    if meta.get(key) is None:
        raise ValueError(
            f'the meta information of the image has no {key}, only {sorted(meta)}: name it in '
            'meta_keys of the transform that packs the inputs (PackDetInputs)'
        )
    return meta[key]
