"""Network-input pixels per pixel of the original image, by the rules of the originals.

The originals carry one scale through the pipeline and size their masks by it. mmdet 3 stores the
factors of the rounded image instead, so the rule has to be named (``test_cfg.scale``).
"""

import math

import numpy as np

Scale = tuple[float, float]
RULES = ('exact', 'floor', 'floor_single', 'floor_min')


def image_scale(meta: dict, rule: str = 'exact', limits: tuple[int, int] | None = None) -> Scale:
    """(x, y) factors from original pixels to network-input pixels.

    Args:
        meta: ``ori_shape`` and ``img_shape`` as (h, w), ``scale_factor`` as (x, y).
        rule: ``'floor_min'`` takes the smaller axis for both (SipMask benchmark); the other rules
            take the axes as they are.
        limits: (longest, shortest) side that a keep-ratio resize aimed at. Parity: SipMask (mmdet)
            uses the factor before the image size is rounded; None takes ``scale_factor``.

    Raises:
        ValueError: If the rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f'unknown scale rule {rule!r}: use one of {RULES}')
    height, width = meta['ori_shape'][:2]
    if limits is not None:
        longest, shortest = max(limits), min(limits)
        factor = min(longest / max(height, width), shortest / min(height, width))
        return factor, factor
    if rule == 'floor_min':
        factor = min(meta['img_shape'][0] / height, meta['img_shape'][1] / width)
        return factor, factor
    x, y = meta.get('scale_factor', (1.0, 1.0))[:2]
    return float(x), float(y)


def resized_side(side: int, scale: float, single: bool = False) -> int:
    """Output pixels that ``side`` half-resolution cells become: floor(side * (2 / scale)).

    Args:
        single: Parity: the real-time SipMask (mmdet) rounds 2 / scale to single precision first.
    """
    ratio = 2 / scale
    if single:
        ratio = float(np.float32(2) / np.float32(scale))
    return math.floor(side * ratio)
