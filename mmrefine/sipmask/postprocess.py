"""From detections and mask values at half resolution to boxes and masks of the image.

The originals carry one scale through the pipeline and size their masks by it. mmdet 3 stores the
factors of the rounded image instead, so the rule is named (``test_cfg.scale``):

* ``'exact'`` samples a mask where its pixel lies in the network input;
* ``'floor'``, ``'floor_single'`` (mmdet generation) and ``'floor_min'`` (benchmark) resize the
  whole padded map to a rounded size and put it at the corner of the image.
"""

import math

import numpy as np
from mmdet.utils import ConfigType
from torch import Tensor

from mmrefine.masks import RLEMasks, map_masks, output_size, scale_factors

from .assembly import BoxPixels

RULES = ('exact', 'floor', 'floor_single', 'floor_min')


def image_scale(meta: dict, cfg: ConfigType) -> tuple[float, float]:
    """(x, y) factors from pixels of the original image to pixels of the network input.

    Args:
        meta: ``ori_shape``, ``img_shape`` and ``scale_factor`` of the image.
        cfg: ``scale``, one of the rules: ``'floor_min'`` takes the smaller axis for both, the
            others take the axes as they are. ``scale_limits``, the (longest, shortest) side that a
            keep-ratio resize aimed at. Parity: SipMask (mmdet) uses the factor before the image
            size is rounded; None, and images that were resized otherwise, take ``scale_factor``.
    """
    rule, limits = cfg.get('scale', 'exact'), cfg.get('scale_limits')
    if rule not in RULES:
        raise ValueError(f'unknown scale rule {rule!r}: use one of {RULES}')
    if limits is None and rule != 'floor_min':
        return scale_factors(meta)  # of the rounded image, one per axis
    size, input_size = output_size(meta, rescale=True), output_size(meta, rescale=False)
    if limits is not None:
        factor = min(max(limits) / max(size), min(limits) / min(size))
        if all(abs(factor * side - given) <= 1 for side, given in zip(size, input_size)):
            return factor, factor
    if rule == 'floor_min':
        factor = min(given / side for side, given in zip(size, input_size))
        return factor, factor
    return scale_factors(meta)


def resized_side(side: int, scale: float, single: bool = False) -> int:
    """Output pixels that ``side`` half-resolution cells become: floor(side * (2 / scale)).

    ``scale`` is input pixels per output pixel. ``single``: Parity: the real-time SipMask (mmdet)
    rounds 2 / scale to single precision first.
    """
    ratio = float(np.float32(2) / np.float32(scale)) if single else 2 / scale
    return math.floor(side * ratio)


def resized_size(
    map_size: tuple[int, int], meta: dict, rescale: bool, cfg: ConfigType
) -> tuple[float, float]:
    """(h, w) of the whole half-resolution map, (Hb, Wb) cells, in pixels of the output image: the
    original if ``rescale``, or the network input."""
    rule = cfg.get('scale', 'exact')
    if rule == 'exact':
        # A cell covers 2 x 2 input pixels, so a map of Hb cells is 2 Hb * ori / img pixels high.
        sizes = zip(map_size, output_size(meta, rescale), output_size(meta, rescale=False))
        height, width = (2 * cells * output / given for cells, output, given in sizes)
        return height, width
    x, y = image_scale(meta, cfg) if rescale else (1.0, 1.0)
    single = rule == 'floor_single'
    height, width = (resized_side(*axis, single) for axis in zip(map_size, (y, x)))
    return max(height, 1), max(width, 1)


def output_boxes(boxes: Tensor, meta: dict, rescale: bool, cfg: ConfigType) -> Tensor:
    """Boxes Tensor[n, 4] of the network input -> Tensor[n, 4] of the output image, see
    ``resized_size``.

    Parity: ``cfg.box_export_offset=1`` adds the legacy pixel to x2 and y2, since the original
    writes w = x2 - x1 + 1.
    """
    x, y = image_scale(meta, cfg) if rescale else (1.0, 1.0)
    extra = cfg.get('box_export_offset', 0)
    return boxes / boxes.new_tensor((x, y, x, y)) + boxes.new_tensor((0, 0, extra, extra))


def output_masks(
    probs: Tensor,
    pixels: BoxPixels,
    map_size: tuple[int, int],
    meta: dict,
    rescale: bool,
    cfg: ConfigType,
) -> Tensor | RLEMasks:
    """Binary masks of the output image, see ``resized_size``: BoolTensor[n, h, w] or n RLEs.

    Args:
        probs: Tensor[M], probabilities inside the boxes.
        pixels: Those of the n boxes.
        map_size: (Hb, Wb) of the map they lie on.
        cfg: ``mask_thr`` (0.4, strictly above), ``mask_format`` (``'dense'`` or ``'rle'``), and the
            rule of the scale.
    """
    threshold = cfg.get('mask_thr', 0.4)
    if not 0 < threshold < 1:
        raise ValueError(f'test_cfg.mask_thr is a probability between 0 and 1, got {threshold}')
    return map_masks(
        pixels.crops(probs),
        resized_size(map_size, meta, rescale, cfg),
        output_size(meta, rescale),
        threshold,
        cfg.get('mask_format', 'dense'),
        probs.device,
        offsets=pixels.corners,
        map_size=map_size,
    )
