"""From embeddings of detections to binary masks of the image.

Shapes: N detections, D embedding dimensions, h x w cells of the embedding map, Hm x Wm cells of the
        mask map.
"""

import math

import torch
import torch.nn.functional as F
from mmdet.models.utils import aligned_bilinear
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.masks import encode, map_masks_to_rle

from .kernel import box_regions, haloed_boxes, mask_exponent

FORMATS = ('dense', 'rle')
# log-probability that the v3 original writes outside the box
LOG_OUTSIDE = -10.0
# elements of resized maps held at a time
CHUNK = 2**24


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
        threshold: float = 0.5,
        mask_format: str = 'dense',
    ) -> Tensor | list[dict]:
        """Masks of one image.

        Args:
            pixels: Tensor[D, h, w], embeddings on the mask map, or with ``aligned`` on half its
                size.
            results: ``embeds``, ``margins``, and ``bboxes`` Tensor[N, 4] in pixels of the network
                input.
            network_size: (height, width) of the resized image without padding.
            image_size: (height, width) of the masks.
            threshold: Probability that a pixel must exceed.
            mask_format: ``'dense'`` or ``'rle'``.

        Returns:
            BoolTensor[N, height, width] or N RLEs.

        Raises:
            ValueError: For an unknown format or a threshold outside (0, 1).
        """
        if mask_format not in FORMATS:
            raise ValueError(f'test_cfg.mask_format must be one of {FORMATS}, got {mask_format!r}')
        if not 0 < threshold < 1:
            raise ValueError(f'test_cfg.mask_thr is a probability between 0 and 1, got {threshold}')
        if len(results) == 0:
            empty = torch.zeros((0, *image_size), dtype=torch.bool, device=pixels.device)
            return [] if mask_format == 'rle' else empty
        maps = self.soft_maps(pixels, results.embeds, results.margins, results.bboxes)
        if self.log_space:
            threshold = math.log(threshold)
        if mask_format == 'rle' and not self.aligned:
            size = resized_size(maps.shape[1:], self.stride, network_size, image_size)
            return map_masks_to_rle(maps, size, image_size, threshold)
        largest = max(math.prod(image_size), math.prod(network_size), 1)
        per_chunk = max(1, CHUNK // largest)
        dense = (
            self._resize(part, network_size, image_size) > threshold
            for part in maps.split(per_chunk)
        )
        if mask_format == 'rle':
            return [rle for part in dense for rle in encode(part)]
        return torch.cat(list(dense))

    def soft_maps(self, pixels: Tensor, embeds: Tensor, margins: Tensor, boxes: Tensor) -> Tensor:
        """Probabilities, or their logarithms with ``log_space``, on the mask map: Tensor[N, Hm,
        Wm].

        Args:
            pixels: Tensor[D, h, w].
            embeds: Tensor[N, D].
            margins: Tensor[N, M].
            boxes: Tensor[N, 4] in pixels of the network input.
        """
        exponent = mask_exponent(pixels, embeds, margins).clamp_(min=0)
        soft = exponent.neg_() if self.log_space else exponent.neg_().exp_()
        if self.aligned:
            soft = aligned_bilinear(soft[:, None], 2)[:, 0]
        if self.box_halo is None:
            return soft
        size = soft.shape[1:]
        boxes = haloed_boxes(boxes / self.stride, size, self.box_halo, self.truncate_boxes)
        outside = LOG_OUTSIDE if self.log_space else 0.0
        return torch.where(box_regions(boxes, size), soft, outside)

    def _resize(
        self, maps: Tensor, network_size: tuple[int, int], image_size: tuple[int, int]
    ) -> Tensor:
        """Tensor[N, Hm, Wm] -> Tensor[N, height, width]."""
        if self.aligned:
            maps = aligned_bilinear(maps[None], self.stride)
            maps = maps[..., : network_size[0], : network_size[1]]
            return F.interpolate(maps, size=image_size, mode='bilinear', align_corners=False)[0]
        size = resized_size(maps.shape[1:], self.stride, network_size, image_size)
        large = F.interpolate(maps[None], size=size, mode='bilinear', align_corners=False)[0]
        return large[:, : image_size[0], : image_size[1]]


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
