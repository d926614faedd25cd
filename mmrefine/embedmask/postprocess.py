"""From predictions of all points to detections, and from their embeddings to binary masks.

Shapes: B images, P points of all levels, K classes, N detections of one image, D embedding
        dimensions, M margin dimensions, h x w cells of the embedding map, Hm x Wm cells of the
        mask map.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.utils import aligned_bilinear
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import clip_boxes, select_detections
from mmrefine.fcos.candidates import DEFAULT_NMS, least_sides
from mmrefine.layers import require_finite
from mmrefine.masks import RLEMasks, map_masks, output_size, scale_factors

from .kernel import box_regions, haloed_boxes, mask_exponent

# log-probability that the v3 original writes outside the box
LOG_OUTSIDE = -10.0
# elements of enlarged maps held at a time
CHUNK = 2**24


class PointPredictions(NamedTuple):
    """Everything predicted for a batch, in grid order."""

    class_probs: Tensor  # (B, P, K)
    # Tensor[B, P], multiplied into the scores (centerness), ones if the head has none
    factors: Tensor
    boxes: Tensor  # (B, P, 4), pixels of the network input, not clipped
    embeds: Tensor  # (B, P, D)
    margins: Tensor  # (B, P, M)


def detections_with_embeds(
    predictions: PointPredictions,
    counts: Sequence[int],
    metas: list[dict],
    cfg: ConfigType,
    pixel_offset: int = 0,
) -> InstanceList:
    """Rank, suppress and cut the predictions of every image.

    Args:
        predictions: Those of the batch.
        counts: Points per level.
        metas: Per image ``img_shape``.
        cfg: The keys of ``fcos.select_detections``; ``clip_before_nms`` (True) compares boxes that
            are cut to the image already.
        pixel_offset: 1 counts pixels in overlaps and limits boxes to the last pixel, as v1-v3 do.

    Returns:
        Per image, best score first: ``bboxes`` Tensor[N, 4] in pixels of the network input, cut to
        the image and not empty; ``scores``, ``labels``, ``embeds`` Tensor[N, D], ``margins``
        Tensor[N, M].
    """
    nms = cfg.get('nms', DEFAULT_NMS)
    if nms is not None and nms.get('type') != 'fast':  # which does not count pixels
        nms = {'offset': pixel_offset, **nms}
    results = []
    for probs, factors, boxes, embeds, margins, meta in zip(*predictions, metas):
        clipped = clip_boxes(boxes, output_size(meta, rescale=False), pixel_offset)
        compared = clipped if cfg.get('clip_before_nms', True) else boxes
        least = least_sides(cfg, scale_factors(meta)) if 'min_bbox_size' in cfg else None
        scores, index, labels = select_detections(
            compared, probs, factors, counts, {**cfg, 'nms': nms}, least
        )
        result = InstanceData(
            bboxes=clipped[index],
            scores=scores,
            labels=labels,
            embeds=embeds[index],
            margins=margins[index],
        )
        sides = result.bboxes[:, 2:] - result.bboxes[:, :2] + pixel_offset
        # The indices once: each field would search for them.
        results.append(result[(sides > 0).all(dim=1).nonzero()[:, 0]])
    return results


def export_boxes(boxes: Tensor, meta: dict, rescale: bool, pixel_offset: int = 0) -> Tensor:
    """Boxes Tensor[N, 4] in pixels of the network input -> exclusive ones, of the original image if
    ``rescale``.

    Parity: ``pixel_offset=1`` if the head's boxes end at their last pixel, which is added here.
    """
    if rescale:
        boxes = boxes / boxes.new_tensor(scale_factors(meta)).repeat(2)
    return boxes + boxes.new_tensor((0, 0, pixel_offset, pixel_offset))


class MaskOutput:
    """Turns detections into masks; a callable without weights.

    Args:
        aligned: Double the probabilities with aligned corners, enlarge to the network input the
            same way, and resize that to the original image (adet). Otherwise the map is resized to
            the image at once.
        box_halo: Cells that a mask may reach beyond its box; None: anywhere (adet).
        truncate_boxes: Parity: v3 cuts box corners in cells down to integers before adding its halo
            of 2, so masks leak up to 12 pixels out of their boxes.
        log_space: Parity: v3 resizes logarithms of probabilities instead of probabilities.
        stride: Pixels per cell of the mask map.
    """

    def __init__(
        self,
        aligned: bool = False,
        box_halo: int | None = 1,
        truncate_boxes: bool = False,
        log_space: bool = False,
        stride: int = 4,
    ) -> None:
        self.aligned, self.box_halo = aligned, box_halo
        self.truncate_boxes, self.log_space = truncate_boxes, log_space
        self.stride = stride

    def __call__(
        self,
        pixels: Tensor,
        results: InstanceData,
        network_size: tuple[int, int],
        image_size: tuple[int, int],
        cfg: ConfigType,
    ) -> Tensor | RLEMasks:
        """Masks of one image, BoolTensor[N, height, width] or N RLEs.

        Args:
            pixels: Tensor[D, h, w], embeddings on the mask map, or with ``aligned`` on half its
                size.
            results: ``embeds``, ``margins``, and ``bboxes`` Tensor[N, 4] in pixels of the network
                input.
            network_size: (height, width) of the resized image without padding.
            image_size: (height, width) of the masks.
            cfg: ``mask_thr`` (0.5), the probability that a pixel must exceed; ``mask_format``,
                ``'dense'`` or ``'rle'``.
        """
        mask_format = cfg.get('mask_format', 'dense')
        threshold = cfg.get('mask_thr', 0.5)
        if not 0 < threshold < 1:
            raise ValueError(f'test_cfg.mask_thr is a probability between 0 and 1, got {threshold}')
        threshold = math.log(threshold) if self.log_space else threshold
        common = (image_size, threshold, mask_format, pixels.device)
        if len(results) == 0:
            return map_masks(pixels[:0], image_size, *common)
        require_finite('embeddings or margins', pixels, results.embeds, results.margins)
        maps = self.soft_maps(pixels, results.embeds, results.margins, results.bboxes)
        if not self.aligned:
            size = resized_size(maps.shape[1:], self.stride, network_size, image_size)
            return map_masks(maps, size, *common)
        parts = []
        for part in maps.split(max(1, CHUNK // max(math.prod(network_size), 1))):
            large = aligned_bilinear(part[None], self.stride)[0]  # (n, H, W) of the padded input
            large = large[:, : network_size[0], : network_size[1]]
            parts.append(map_masks(large, image_size, *common))
        if mask_format == 'rle':
            return RLEMasks.cat(parts)
        return torch.cat(parts)

    def soft_maps(
        self, pixels: Tensor, embeds: Tensor, margins: Tensor, boxes: Tensor | None = None
    ) -> Tensor:
        """Probabilities on the mask map, Tensor[N, Hm, Wm], or their logarithms with ``log_space``.

        Pixels Tensor[D, h, w], proposals Tensor[N, D] and Tensor[N, M]; boxes Tensor[N, 4] in
        pixels of the network input, None where masks may reach anywhere.
        """
        soft = mask_exponent(pixels, embeds, margins).clamp_(min=0).neg_()  # (N, h, w)
        soft = soft if self.log_space else soft.exp_()
        # Exporters take the sizes of what comes out of the product for constants.
        height, width = pixels.shape[1:]
        if self.aligned:
            soft = double_aligned(soft, (height, width))  # (N, 2h, 2w)
            height, width = 2 * height, 2 * width
        if self.box_halo is None or boxes is None:
            return soft
        boxes = haloed_boxes(boxes / self.stride, self.box_halo, self.truncate_boxes)
        outside = LOG_OUTSIDE if self.log_space else 0.0
        return soft.masked_fill(~box_regions(boxes, (height, width)), outside)


def resized_size(
    map_size: tuple[int, int],
    stride: int,
    network_size: tuple[int, int],
    image_size: tuple[int, int],
) -> tuple[int, int]:
    """Size of the whole mask map, padding included, in pixels of the output image, rounded up."""
    height, width = (
        math.ceil(stride * cells * new / old)
        for cells, old, new in zip(map_size, network_size, image_size)
    )
    return height, width


def double_aligned(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """``aligned_bilinear(maps, 2)`` in operations that export.

    Its rule: cell i of the result lies at (i - 1) / 2 of the map, before which nothing changes.
    Tensor[N, h, w] of ``size`` (h, w) -> Tensor[N, 2h, 2w].
    """
    height, width = size
    # Odd cells of the result are those of the map, even ones the means of two neighbours.
    even = (torch.cat((maps[:, :1], maps[:, :-1]), 1) + maps) / 2
    maps = torch.stack((even, maps), 2).reshape(-1, 2 * height, width)
    even = (torch.cat((maps[..., :1], maps[..., :-1]), 2) + maps) / 2
    return torch.stack((even, maps), 3).reshape(-1, 2 * height, 2 * width)
