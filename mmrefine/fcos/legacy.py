"""Boxes and images as the 2019-2020 code bases read them."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import RandomFlip, Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import PolygonMasks


@TRANSFORMS.register_module()
class InclusiveBoxes(BaseTransform):
    """Move x2 and y2 to the last pixel of the box: ``x2 = x + w - 1``.

    Parity: the SipMask and EmbedMask originals read annotations that way, before any resizing.
    Place it right after ``LoadAnnotations``; boxes narrower than a pixel keep width 0.
    """

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Change ``gt_bboxes`` (N boxes or an array [N, 4], pixels of the loaded image)."""
        boxes = results['gt_bboxes'].clone()
        boxes.tensor[:, 2:] = (boxes.tensor[:, 2:] - 1).maximum(boxes.tensor[:, :2])
        results['gt_bboxes'] = boxes
        return results


@TRANSFORMS.register_module()
class InclusiveFlip(RandomFlip):
    """Flip inclusive boxes: x1 becomes ``width - x2 - 1``, where ``RandomFlip`` has ``width - x2``.

    Parity: as the SipMask and EmbedMask originals flip; the stock transform moves boxes that end
    at their last pixel by one pixel, in the flipped half of the samples. Polygons move with the
    boxes, as in the originals that keep them; bitmaps are flipped exactly by both.

    Args: see ``RandomFlip``.
    """

    @autocast_box_type()
    def _flip(self, results: dict) -> None:
        super()._flip(results)
        direction = results['flip_direction']
        across = float(direction in ('horizontal', 'diagonal'))
        down = float(direction in ('vertical', 'diagonal'))
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].translate_((-across, -down))
        masks = results.get('gt_masks')
        if isinstance(masks, PolygonMasks):
            # x and y alternate in a polygon
            moved = [
                [polygon - np.tile((across, down), len(polygon) // 2) for polygon in one]
                for one in masks.masks
            ]
            results['gt_masks'] = PolygonMasks(moved, masks.height, masks.width)


@TRANSFORMS.register_module()
class TruncatedResize(Resize):
    """Resize to a short side under a limit of the long side, as maskrcnn-benchmark rounds it.

    Parity: the long side is cut down to an integer, and the short side rounded only where the limit
    bites; ``Resize(keep_ratio=True)`` rounds both, which gives one pixel more or less on some
    images.

    Args:
        scale: ``(limit of the long side, short side)`` in pixels, in either order as in ``Resize``.
        backend: ``'pillow'`` gives the original's pixels.
        kwargs: See ``Resize``.
    """

    def __init__(self, scale: tuple[int, int], backend: str = 'pillow', **kwargs: Any) -> None:
        kwargs['keep_ratio'] = False
        super().__init__(scale=scale, backend=backend, **kwargs)

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        short, long = sorted((height, width))
        limit, side = max(self.scale), min(self.scale)
        if long / short * side > limit:
            side = round(limit * short / long)
        longer = long if side == short else int(side * long / short)
        results['scale'] = (side, longer) if width <= height else (longer, side)
        super()._resize_img(results)
