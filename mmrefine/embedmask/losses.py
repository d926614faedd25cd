"""Mask losses of EmbedMask: Lovász hinge, Dice and smooth loss, and their average over a batch.

Paper:   EmbedMask, https://arxiv.org/abs/1912.01954, sections 3.3-3.4; Lovász hinge:
         https://arxiv.org/abs/1705.08790.
Changes: all instances at once; only cells that have a positive error are sorted; the logit comes
         from the exponent of the mask kernel, so that its gradient is finite everywhere.

Shapes:  B images, P points, G objects of one image, J proposals that learn, K instances, N cells of
         the mask map (h x w, or twice that with aligned corners), S cells with a positive error, D
         embedding dimensions, M margin dimensions.
"""

import math
from typing import NamedTuple

import torch
from mmdet.models.utils import aligned_bilinear
from mmdet.utils import InstanceList
from torch import Tensor

from mmrefine.masks.trace import tally

from .kernel import box_regions, mask_exponent, padded_boxes
from .targets import Proposals, dilated_targets, learning_points, limit_positives, sampled_targets

# logit(exp(-d)) = 1 and = -1: beyond them a foreground or background cell has no hinge error left
_FOREGROUND_DONE = math.log1p(math.exp(-1.0))
_BACKGROUND_DONE = math.log1p(math.exp(1.0))


def exponent_to_logit(exponent: Tensor, low: float = 1e-6, high: float | None = None) -> Tensor:
    """Logit of exp(-d), finite with a finite gradient for every d of the mask kernel.

    ln p - ln(1 - p) with p = exp(-d) equals -d - ln(-expm1(-d)).

    Args:
        low: Smallest d, i.e. p at most exp(-low).
        high: Largest d, i.e. p at least exp(-high); cells beyond get no gradient. None: no limit.
    """
    exponent = exponent.clamp(low, high)
    return -exponent - torch.log(-torch.expm1(-exponent))


def lovasz_from_exponent(
    exponent: Tensor,
    targets: Tensor,
    valid: Tensor | None = None,
    low: float = 1e-6,
    high: float | None = None,
) -> Tensor:
    """Lovász hinge of every instance, straight from the exponents of the mask kernel.

    Cells whose error is not positive are dropped before anything is computed for them: with p =
    exp(-d) the hinge error 1 - z (2y - 1) is positive for foreground beyond d = ln(1 + 1/e) and for
    background below d = ln(1 + e).

    Exponents Tensor[K, N], targets BoolTensor[K, N] and ``valid`` ones, the cells that count (None
    for all) -> Tensor[K]; limits of d see ``exponent_to_logit``.
    """
    with torch.no_grad():
        wrong = torch.where(targets, exponent > _FOREGROUND_DONE, exponent < _BACKGROUND_DONE)
        wrong = wrong if valid is None else wrong & valid
    chosen = wrong.flatten().nonzero().squeeze(1)
    logits = exponent_to_logit(exponent.flatten().index_select(0, chosen), low, high)
    return lovasz_of_cells(logits, chosen, targets, valid)


def lovasz_of_cells(
    logits: Tensor, chosen: Tensor, targets: Tensor, valid: Tensor | None
) -> Tensor:
    """Weighted sum of the positive errors, from logits Tensor[S] of the cells ``chosen``
    LongTensor[S], ascending positions in the flattened K x N map."""
    num, cells = targets.shape
    positive = targets.flatten()[chosen]
    errors = torch.where(positive, 1 - logits, 1 + logits)
    foreground = (targets if valid is None else targets & valid).sum(dim=1)
    instance = chosen // max(cells, 1)
    with torch.no_grad():
        weights = lovasz_weights(errors.detach(), positive, instance, foreground)
    return errors.new_zeros(num).index_add(0, instance, errors * weights)


def lovasz_weights(
    errors: Tensor, positive: Tensor, instance: Tensor, foreground: Tensor
) -> Tensor:
    """Slope of the Lovász extension of the Jaccard loss at every error, Tensor[S].

    With the errors of one instance in descending order, n foreground cells and J_k = 1 - (n - P_k)
    / (n + B_k) after k cells, of which P_k are foreground and B_k background, cell k weighs J_k -
    J_(k-1).

    Errors are positive Tensor[S]; ``instance`` LongTensor[S] is ascending; ``foreground``
    LongTensor[K] counts the cells of each instance, those without error included.
    """
    # The bits of positive floats order like the floats: one integer key sorts by instance, then by
    # falling error.
    falling = 0x7FFFFFFF - errors.float().contiguous().view(torch.int32).long()
    order = torch.argsort((instance << 32) | falling)
    # Instances stay in place, so ``instance`` describes the sorted cells too.
    sizes = tally(instance, len(foreground))
    start = sizes.cumsum(0) - sizes
    rank = torch.arange(len(errors), device=errors.device) - start[instance] + 1
    running = torch.cat((rank.new_zeros(1), positive[order].long().cumsum(0)))
    hits = running[1:] - running[start[instance]]
    total = foreground[instance]
    jaccard = 1 - (total - hits).float() / (total + rank - hits).float()
    before = torch.where(rank == 1, 0.0, torch.cat((jaccard[:1], jaccard[:-1])))
    return torch.empty_like(jaccard).scatter_(0, order, jaccard - before)


def dice_from_exponent(exponent: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - Dice with squared sums: Tensor[K, N], BoolTensor[K, N] -> Tensor[K]."""
    probability = torch.exp(-exponent.clamp(min=0))
    if valid is not None:
        probability, targets = probability * valid, targets & valid
    overlap = (probability * targets).sum(dim=1)
    return 1 - 2 * overlap / (probability.square().sum(dim=1) + targets.sum(dim=1) + 1e-5)


def smooth_loss(embeds: Tensor, margins: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Pull the proposals of one object together: squared distances to their mean, summed.

    Embeddings Tensor[J, D], margins Tensor[J, M], objects LongTensor[J] -> Tensor[G].
    """
    # Parity: the paper divides by the number of proposals, the code does not.
    vectors = torch.cat((embeds, margins), dim=1).float()
    centered = vectors - group_means(vectors, groups, num_groups)[groups]
    return vectors.new_zeros(num_groups).index_add(0, groups, centered.square().sum(dim=1))


def group_means(values: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Mean row of each group, 0 if empty: Tensor[J, D], LongTensor[J] -> Tensor[G, D]."""
    sums = values.new_zeros(num_groups, values.shape[1]).index_add(0, groups, values)
    counts = tally(groups, num_groups).clamp(min=1)
    return sums / counts[:, None]


class Chosen(NamedTuple):
    """Proposals of one image that take part in the mask loss."""

    embeds: Tensor  # (K, D)
    margins: Tensor  # (K, M)
    gt_index: Tensor  # LongTensor[K]
    smooth: Tensor  # scalar, smooth loss summed over the objects


class EmbedMaskLoss:
    """Mask losses of a batch; a callable without weights.

    Args:
        kind: ``'lovasz'`` hinge or ``'dice'``.
        select: Proposals of an object: its ``'best'`` overlapping one (v2, v3); the ``'mean'`` over
            those with an IoU above ``min_overlap`` (v1), or the best one if it has none; or
            ``'all'`` (adet).
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
        self,
        pixels: Tensor,
        proposals: Proposals,
        gt_instances: InstanceList,
        aligned: bool = False,
    ) -> dict[str, Tensor]:
        """``loss_mask``, and ``loss_smooth`` if it has a weight.

        Args:
            pixels: Tensor[B, D, h, w], embeddings on the mask map, or with ``aligned`` on half its
                size, the probabilities then being doubled with aligned corners.
            proposals: From the box head.
            gt_instances: One per image: ``bboxes``, ``masks`` BoolTensor[G, H, W] that fills the
                map.
        """
        learning = limit_positives(proposals.gt_index, self.max_proposals)
        masks, smooths, counts = [], [], []
        for b, gt in enumerate(gt_instances):
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

    def choose(self, proposals: Proposals, learning: Tensor, image: int, count: int) -> Chosen:
        """The proposals of an image with ``count`` objects that learn; ``learning``
        LongTensor[B, P] is the object of each point, -1 for none."""
        index = learning_points(
            proposals.overlap[image], learning[image], count, self.select, self.min_overlap
        )
        groups = learning[image, index]  # (J)
        embeds, margins = proposals.embeds[image, index], proposals.margins[image, index]
        smooth = embeds.new_zeros(())
        if self.smooth_weight:
            smooth = smooth_loss(embeds, margins, groups, count).sum()
        if self.select == 'mean':
            present = torch.unique(groups)
            embeds = group_means(embeds, groups, count)[present]  # (K, D)
            margins = group_means(margins, groups, count)[present]  # (K, M)
            groups = present
        return Chosen(embeds, margins, groups, smooth)

    def instance_losses(
        self, pixels: Tensor, chosen: Chosen, boxes: Tensor, masks: Tensor, aligned: bool = False
    ) -> Tensor:
        """Loss of every chosen proposal of one image, without weight: pixels Tensor[D, h, w],
        boxes Tensor[G, 4], masks BoolTensor[G, H, W] -> Tensor[K]."""
        exponent = mask_exponent(pixels, chosen.embeds, chosen.margins)  # (K, h, w)
        if aligned:
            exponent = _doubled_exponent(exponent)  # (K, 2h, 2w)
        size = exponent.shape[1:]
        targets = self.make_targets(masks, self.stride)[chosen.gt_index].flatten(1)  # (K, N)
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
