"""Instance masks in image pixels, dense or run-length encoded, from values inside the boxes."""

import torch
from mmdet.utils import ConfigType
from torch import Tensor

from mmrefine.masks import boxed_masks_to_rle

from .cells import Regions
from .resize import Axis, resize_regions, sample_axis
from .scales import image_scale, resized_side


class InstanceMasks:
    """Turns half-resolution values of one image into its boxes and masks.

    Args:
        map_size: (Hb, Wb) of the basis map.
        meta: ``img_shape``, ``ori_shape``, ``scale_factor`` of the image.
        rescale: Results in pixels of the original image instead of the network input.
        cfg: ``mask_thr``; ``mask_format``, ``'dense'`` or ``'rle'``; ``scale``, by default
            ``'exact'``: a mask is sampled where its pixel lies in the network input. Parity: the
            rules of ``scales.image_scale`` resize the whole padded map to a rounded size and paste
            it at the corner; ``box_export_offset=1`` adds the legacy pixel to x2 and y2 of the
            result, since the original writes w = x2 - x1 + 1.

    Raises:
        ValueError: If ``mask_format`` is unknown.
    """

    def __init__(
        self, map_size: tuple[int, int], meta: dict, rescale: bool, cfg: ConfigType
    ) -> None:
        self.map_size = map_size
        self.threshold = cfg.get('mask_thr', 0.4)
        self.format = cfg.get('mask_format', 'dense')
        if self.format not in ('dense', 'rle'):
            raise ValueError(f"unknown mask_format {self.format!r}: use 'dense' or 'rle'")
        self.rule = cfg.get('scale', 'exact')
        self.box_offset = cfg.get('box_export_offset', 0)
        height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
        self.image_size = int(height), int(width)
        self.scale = (
            image_scale(meta, self.rule, cfg.get('scale_limits')) if rescale else (1.0, 1.0)
        )
        self.exact = (1.0, 1.0)
        if rescale:
            ratios = zip(meta['img_shape'][:2], meta['ori_shape'][:2])
            self.exact = tuple(after / before for after, before in ratios)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Tensor[n, 4] in input pixels -> Tensor[n, 4] in pixels of the result."""
        x, y = self.scale
        boxes = boxes / boxes.new_tensor((x, y, x, y))
        return boxes + boxes.new_tensor((0, 0, self.box_offset, self.box_offset))

    def axes(self, device: torch.device) -> tuple[Axis, Axis]:
        """Sampling of map rows by image rows, and of map columns by image columns."""
        axes = []
        for axis, (cells, pixels) in enumerate(zip(self.map_size, self.image_size)):
            if self.rule == 'exact':
                ratio = self.exact[axis] / 2
            else:
                whole = resized_side(cells, self.scale[1 - axis], self.rule == 'floor_single')
                ratio, pixels = cells / max(whole, 1), min(pixels, whole)
            axes.append(sample_axis(cells, pixels, ratio, device))
        return axes[0], axes[1]

    def soft(self, probs: Tensor, regions: Regions) -> tuple[list[Tensor], list[tuple[int, int]]]:
        """Soft crops of the image and their (x, y) offsets, one per box of ``regions``."""
        return resize_regions(probs, regions, *self.axes(probs.device))

    def masks(self, probs: Tensor, regions: Regions) -> Tensor | list[dict]:
        """Probabilities Tensor[M] inside the boxes -> BoolTensor[n, h, w] or n RLEs."""
        crops, offsets = self.soft(probs, regions)
        crops = [crop > self.threshold for crop in crops]
        if self.format == 'rle':
            return boxed_masks_to_rle([crop.cpu() for crop in crops], offsets, self.image_size)
        dense = probs.new_zeros(len(crops), *self.image_size, dtype=torch.bool)
        for mask, crop, (x, y) in zip(dense, crops, offsets):
            mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return dense
