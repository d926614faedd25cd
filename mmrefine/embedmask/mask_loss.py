"""Which proposals learn which masks, and how their losses are averaged.

Shapes: B images, P points, G objects of one image, K chosen proposals, D embedding dimensions, h x
        w cells of
the embedding map, N cells of the mask map (half its stride).
"""

import math
from typing import NamedTuple

import torch
from mmdet.models.utils import aligned_bilinear
from mmdet.utils import InstanceList
from torch import Tensor

from .kernel import box_regions, mask_exponent, padded_boxes
from .losses import dice_from_exponent, group_means, lovasz_from_exponent, smooth_loss
from .proposal import Proposals
from .targets import best_of_group, dilated_targets, overlapping_of_group, sampled_targets


class Chosen(NamedTuple):
    """Proposals of one image that take part in the mask loss.

    Attributes:
        embeds: Tensor[K, D].
        margins: Tensor[K, M].
        gt_index: LongTensor[K].
        smooth: Scalar, smooth loss summed over the objects.
    """

    embeds: Tensor
    margins: Tensor
    gt_index: Tensor
    smooth: Tensor


class EmbedMaskLoss:
    """Mask losses of a batch; a callable without weights.

    Args:
        kind: ``'lovasz'`` hinge or ``'dice'``.
        select: Proposals of an object: its ``'best'`` overlapping one (v2, v3); the ``'mean'`` over
            those with an IoU above ``min_overlap`` (v1); or ``'all'`` (adet).
        min_overlap: For ``'mean'``; an object without such a proposal takes its best one.
        max_proposals: Largest number of proposals of a batch, a random choice if there are more;
            None: no limit.
        box_padding: Count only cells inside the object's box, grown by this share and one cell (v1,
            v2: 0.1). None (v3, adet) counts all cells, those of the padding too.
        targets: ``'dilated'`` (v1-v3) or ``'sampled'`` (adet), see the functions of these names.
        average: ``'sampled'``: over the objects with a proposal, then over images (v2, v3);
            ``'objects'``: over all objects, then over images (v1); ``'batch'``: over all proposals
            of the batch (adet).
        min_probability: Probabilities are kept in [min, 1 - min]; cells below get no gradient. 0:
            no limit.
        loss_weight: Factor of ``loss_mask``.
        stride: Pixels per cell of the mask map.
        smooth_weight: Factor of ``loss_smooth``, which draws the proposals of an object together
            (v1: 0.1).

    Raises:
        ValueError: For unknown settings.
    """

    def __init__(
        self,
        kind: str = 'lovasz',
        select: str = 'best',
        min_overlap: float = 0.5,
        max_proposals: int | None = None,
        box_padding: float | None = None,
        targets: str = 'dilated',
        average: str = 'sampled',
        min_probability: float = 1e-9,
        loss_weight: float = 0.5,
        smooth_weight: float = 0.0,
        stride: int = 4,
    ) -> None:
        for name, value, choices in (
            ('kind', kind, ('lovasz', 'dice')),
            ('select', select, ('best', 'mean', 'all')),
            ('targets', targets, ('dilated', 'sampled')),
            ('average', average, ('sampled', 'objects', 'batch')),
        ):
            if value not in choices:
                raise ValueError(f'{name} must be one of {choices}, got {value!r}')
        if not 0 <= min_probability < 0.2:
            raise ValueError(f'min_probability must lie in [0, 0.2), got {min_probability}')
        self.kind, self.select, self.min_overlap = kind, select, min_overlap
        self.max_proposals, self.box_padding, self.average = max_proposals, box_padding, average
        self.make_targets = dilated_targets if targets == 'dilated' else sampled_targets
        self.low = max(min_probability, 1e-6)
        self.high = -math.log(min_probability) if min_probability else None
        self.loss_weight, self.smooth_weight = loss_weight, smooth_weight
        self.stride = stride

    def __call__(
        self, pixels: Tensor, objects: InstanceList, proposals: Proposals, aligned: bool = False
    ) -> dict[str, Tensor]:
        """``loss_mask``, and ``loss_smooth`` if it has a weight.

        Args:
            pixels: Tensor[B, D, h, w], embeddings on the mask map, or with ``aligned`` on half its
                size.
            objects: One per image: ``bboxes``, ``masks`` BoolTensor[G, H, W] that fills the map.
            proposals: From the box head.
            aligned: Double the probabilities with aligned corners.
        """
        learning = self._limit(proposals.gt_index)
        masks, smooths, counts = [], [], []
        for b, gt in enumerate(objects):
            chosen = self.choose(proposals, learning, b, len(gt.bboxes))
            masks.append(self.instance_losses(pixels[b], chosen, gt.bboxes, gt.masks, aligned))
            smooths.append(chosen.smooth)
            counts.append(max(len(gt.bboxes), 1))
        losses = dict(loss_mask=self.loss_weight * self._average(masks, counts))
        if self.smooth_weight:
            smooth = sum(s / n for s, n in zip(smooths, counts)) / len(counts)
            losses['loss_smooth'] = self.smooth_weight * smooth
        return losses

    def _average(self, losses: list[Tensor], counts: list[int]) -> Tensor:
        if self.average == 'batch':
            joined = torch.cat(losses)
            return joined.sum() / max(len(joined), 1)
        sizes = counts if self.average == 'objects' else [max(len(each), 1) for each in losses]
        return sum(each.sum() / size for each, size in zip(losses, sizes)) / len(losses)

    def _limit(self, gt_index: Tensor) -> Tensor:
        """LongTensor[B, P] with at most ``max_proposals`` entries left; the others become -1."""
        if self.max_proposals is None:
            return gt_index
        order = torch.rand(gt_index.shape, device=gt_index.device).masked_fill(gt_index < 0, -1)
        keep = order.flatten().topk(min(self.max_proposals, order.numel())).indices
        limited = torch.full_like(gt_index, -1).flatten()
        return limited.scatter(0, keep, gt_index.flatten()[keep]).view_as(gt_index)

    def choose(
        self, proposals: Proposals, learning: Tensor, image: int, num_objects: int
    ) -> Chosen:
        """The proposals of one image that learn.

        Args:
            proposals: All of the batch.
            learning: LongTensor[B, P], object of each point, -1 for none.
            image: Index in the batch.
            num_objects: G of that image.
        """
        index = (learning[image] >= 0).nonzero().squeeze(1)
        groups, overlap = learning[image, index], proposals.overlap[image, index]
        if self.select == 'best':
            index = index[best_of_group(overlap, groups, num_objects)]
        elif self.select == 'mean':
            index = index[overlapping_of_group(overlap, groups, num_objects, self.min_overlap)]
        groups = learning[image, index]
        embeds, margins = proposals.embeds[image, index], proposals.margins[image, index]
        smooth = embeds.new_zeros(())
        if self.select == 'mean':
            smooth = smooth_loss(embeds, margins, groups, num_objects).sum()
            present = torch.unique(groups)
            embeds = group_means(embeds, groups, num_objects)[present]
            margins = group_means(margins, groups, num_objects)[present]
            groups = present
        elif self.smooth_weight:
            smooth = smooth_loss(embeds, margins, groups, num_objects).sum()
        return Chosen(embeds, margins, groups, smooth)

    def instance_losses(
        self, pixels: Tensor, chosen: Chosen, boxes: Tensor, masks: Tensor, aligned: bool = False
    ) -> Tensor:
        """Loss of every chosen proposal of one image, without weight: Tensor[K].

        Args:
            pixels: Tensor[D, h, w].
            chosen: Its proposals.
            boxes: Tensor[G, 4] in pixels.
            masks: BoolTensor[G, H, W].
            aligned: See ``__call__``.
        """
        exponent = mask_exponent(pixels, chosen.embeds, chosen.margins)
        if aligned:
            exponent = _doubled_exponent(exponent)
        size = exponent.shape[1:]
        targets = self.make_targets(masks, self.stride)[chosen.gt_index].flatten(1)
        valid = None
        if self.box_padding is not None:
            grown = padded_boxes(boxes[chosen.gt_index] / self.stride, size, self.box_padding)
            valid = box_regions(grown, size).flatten(1)
        if self.kind == 'dice':
            return dice_from_exponent(exponent.flatten(1), targets, valid)
        return lovasz_from_exponent(exponent.flatten(1), targets, valid, self.low, self.high)


def _doubled_exponent(exponent: Tensor) -> Tensor:
    """Double the probabilities, corners aligned: exponents [K, h, w] -> [K, 2h, 2w]."""
    probability = aligned_bilinear(torch.exp(-exponent.clamp(min=0))[:, None], 2)[:, 0]
    return -torch.log(probability.clamp(min=torch.finfo(torch.float32).tiny))
