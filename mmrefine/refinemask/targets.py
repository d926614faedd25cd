"""Mask targets of several sizes from one pass over the ground truth.

Polygons are rasterised by the COCO API, bitmaps are pooled by RoIAlign, as in MMDetection, to which
the results are bit-equal; the work per RoI in Python, repeated for every size there, is done once.

Shapes: P positive RoIs of one image, G its ground-truth masks, B images.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask
import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from torch import Tensor

from mmrefine.layers import roi_align
from mmrefine.masks.run_lengths import check_points


def multi_size_targets(
    boxes: Tensor, gt_inds: Tensor, masks: BitmapMasks | PolygonMasks, sizes: Sequence[int]
) -> list[Tensor]:
    """Crop each RoI's ground-truth mask by its box and resample it to every size.

    Args:
        boxes: Tensor[P, 4], pixels of the network input; clipped to the canvas of the masks.
        gt_inds: LongTensor[P], index into ``masks``.
        masks: Ground truth of the image; a ValueError names a polygon far outside of it.
        sizes: Sides of the square targets.

    Returns:
        BoolTensor[P, 1, S, S] per size, on the device of ``boxes``.
    """
    if len(boxes) == 0:
        return [boxes.new_zeros((0, 1, s, s), dtype=torch.bool) for s in sizes]
    limit = boxes.new_tensor([masks.width, masks.height, masks.width, masks.height])
    clipped = torch.minimum(boxes.detach().clamp(min=0), limit)
    if isinstance(masks, PolygonMasks):
        rows = torch.cat([clipped, gt_inds[:, None].to(clipped)], dim=1).cpu().numpy()
        crops = _polygon_targets(rows[:, :4], rows[:, 4].astype(int), masks, sizes)
        return [torch.from_numpy(crop)[:, None].to(boxes.device) for crop in crops]
    return _bitmap_targets(clipped, gt_inds, masks, sizes)


def _bitmap_targets(
    boxes: Tensor, gt_inds: Tensor, masks: BitmapMasks, sizes: Sequence[int]
) -> list[Tensor]:
    # every mask is an "image" to pool from, so that none is copied per RoI
    planes = torch.from_numpy(masks.masks).to(boxes.device).float()[:, None]  # (G, 1, h, w)
    rois = torch.cat([gt_inds[:, None].to(boxes.dtype), boxes], dim=1)  # (P, 5)
    return [roi_align(planes, rois, size, spatial_scale=1.0) >= 0.5 for size in sizes]


def _polygon_targets(
    boxes: np.ndarray, gt_inds: np.ndarray, masks: PolygonMasks, sizes: Sequence[int]
) -> list[np.ndarray]:
    """Bool array (P, S, S) per size; points of all polygons are moved and scaled at once."""
    parts = [(n, polygon) for n, g in enumerate(gt_inds) for polygon in masks.masks[g]]
    if not parts:
        return [np.zeros((len(boxes), s, s), dtype=bool) for s in sizes]
    roi_of_polygon = np.array([n for n, _ in parts])
    lengths = np.array([len(polygon) // 2 for _, polygon in parts])
    ends = 2 * np.cumsum(lengths)
    spans = list(zip(ends - 2 * lengths, ends))
    points = np.concatenate([polygon for _, polygon in parts]).reshape(-1, 2)  # (points, xy)
    check_points(points, (masks.height, masks.width), 'a polygon')
    roi_of_point = np.repeat(roi_of_polygon, lengths)
    points = points - boxes[roi_of_point, :2].astype(points.dtype)
    # Parity: mmdet widens boxes to one pixel, and multiplies in the type of the boxes
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    targets = []
    for size in sizes:
        scale = (size / sides).astype(boxes.dtype)[roi_of_point]  # (points, xy)
        flat = (points * scale).astype(np.float64).ravel()
        rles = coco_mask.frPyObjects([flat[a:b] for a, b in spans], size, size)
        crops = coco_mask.decode(_merge(rles, roi_of_polygon, len(boxes), size))
        targets.append(crops.view(bool).transpose(2, 0, 1))  # (S, S, P) -> (P, S, S), a view
    return targets


def _merge(rles: list[dict], roi: np.ndarray, count: int, size: int) -> list[dict]:
    """One RLE per RoI: the union of its parts; empty for RoIs without any."""
    first = np.searchsorted(roi, np.arange(count + 1))
    empty = coco_mask.frPyObjects([np.zeros(6)], size, size)[0]
    merged = []
    for begin, end in zip(first[:-1], first[1:]):
        parts = rles[begin:end]
        merged.append(parts[0] if len(parts) == 1 else coco_mask.merge(parts) if parts else empty)
    return merged


def foreground_union(masks: BitmapMasks | PolygonMasks) -> np.ndarray:
    """Union of all masks of an image: bool array (height, width)."""
    if isinstance(masks, BitmapMasks):
        return masks.masks.any(axis=0)  # (G, h, w) -> (h, w), false without masks
    polygons = [np.asarray(p, dtype=np.float64) for parts in masks.masks for p in parts]
    if not polygons:
        return np.zeros((masks.height, masks.width), bool)
    check_points(np.concatenate(polygons), (masks.height, masks.width), 'a polygon')
    rles = coco_mask.frPyObjects(polygons, masks.height, masks.width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


def semantic_targets(
    batch_masks: Sequence[BitmapMasks | PolygonMasks],
    size: tuple[int, int],
    device: torch.device,
    stride: int = 1,
) -> Tensor:
    """Foreground map of each image: the union of its masks, resized to logits of ``size`` (H, W).

    Args:
        batch_masks: Ground truth per image (no crowds, no ignored regions); canvases may differ,
            the smaller are padded.
        stride: Pixels per logit. Canvases are padded to cover all logits, since not every stock
            config pads masks with their image (HTC does not), which would stretch the target.

    Returns:
        BoolTensor[B, 1, H, W]; bilinear (align_corners=False) value at least one half.
    """
    height = max(size[0] * stride, *(masks.height for masks in batch_masks))
    width = max(size[1] * stride, *(masks.width for masks in batch_masks))
    canvas = np.zeros((len(batch_masks), 1, height, width), dtype=np.uint8)  # stride x logits
    for plane, masks in zip(canvas, batch_masks):
        plane[0, : masks.height, : masks.width] = foreground_union(masks)
    planes = torch.from_numpy(canvas).to(device).float()
    # (B, 1, height, width) -> (B, 1, H, W)
    return F.interpolate(planes, size=size, mode='bilinear', align_corners=False) >= 0.5
