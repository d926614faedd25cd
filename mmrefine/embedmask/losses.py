"""Mask losses of EmbedMask: Lovász hinge, Dice, smooth loss, semantic focal loss.

Paper:   EmbedMask, https://arxiv.org/abs/1912.01954, sections 3.3-3.4; Lovász hinge:
         https://arxiv.org/abs/1705.08790.
Changes: all instances at once; only cells that have a positive error are sorted; the logit comes
         from the exponent of the mask kernel, so that its gradient is finite everywhere.

Shapes:  K instances, N cells of the map, S cells with a positive error, J proposals, D dimensions.
"""

import math

import torch
from torch import Tensor

# logit(exp(-d)) = 1 and = -1: beyond them a foreground or background cell has no hinge error left
_FOREGROUND_DONE = math.log1p(math.exp(-1.0))
_BACKGROUND_DONE = math.log1p(math.exp(1.0))


def exponent_to_logit(exponent: Tensor, low: float = 1e-6, high: float | None = None) -> Tensor:
    """Logit of exp(-d), finite with a finite gradient for every d.

    ln p - ln(1 - p) with p = exp(-d) equals -d - ln(-expm1(-d)).

    Args:
        exponent: Tensor, d of the mask kernel.
        low: Smallest d, i.e. p at most exp(-low).
        high: Largest d, i.e. p at least exp(-high); cells beyond get no gradient. None: no limit.
    """
    exponent = exponent.clamp(low, high)
    return -exponent - torch.log(-torch.expm1(-exponent))


def probability_to_logit(probability: Tensor, eps: float = 0.0) -> Tensor:
    """ln p - ln(1 - p) with p limited to [eps, 1 - 2^-24], so that p = 1 stays finite."""
    top = 1 - max(eps, 2**-24)
    probability = probability.float().clamp(max(eps, torch.finfo(torch.float32).tiny), top)
    return probability.log() - torch.log1p(-probability)


def lovasz_from_exponent(
    exponent: Tensor,
    targets: Tensor,
    valid: Tensor | None = None,
    low: float = 1e-6,
    high: float | None = None,
) -> Tensor:
    """Lovász hinge of every instance, straight from the exponents of the mask kernel.

    Cells whose error is not positive are dropped before anything is computed for them: with
    p = exp(-d) the hinge error 1 - z (2y - 1) is positive for foreground beyond d = ln(1 + 1/e)
    and for background below d = ln(1 + e).

    Args:
        exponent: Tensor[K, N].
        targets: BoolTensor[K, N].
        valid: BoolTensor[K, N], cells that count; None for all.
        low, high: Limits of d, see ``exponent_to_logit``.

    Returns:
        Tensor[K].
    """
    with torch.no_grad():
        wrong = torch.where(targets, exponent > _FOREGROUND_DONE, exponent < _BACKGROUND_DONE)
        wrong = wrong if valid is None else wrong & valid
    chosen = wrong.flatten().nonzero().squeeze(1)
    logits = exponent_to_logit(exponent.flatten().index_select(0, chosen), low, high)
    return _lovasz(logits, chosen, targets, valid)


def lovasz_hinge(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Lovász hinge of every instance: Tensor[K, N], BoolTensor[K, N] -> Tensor[K]."""
    logits = logits.float()
    with torch.no_grad():
        wrong = torch.where(targets, logits < 1, logits > -1)
        wrong = wrong if valid is None else wrong & valid
    chosen = wrong.flatten().nonzero().squeeze(1)
    return _lovasz(logits.flatten().index_select(0, chosen), chosen, targets, valid)


def _lovasz(logits: Tensor, chosen: Tensor, targets: Tensor, valid: Tensor | None) -> Tensor:
    """Weighted sum of the positive errors.

    Args:
        logits: Tensor[S].
        chosen: LongTensor[S], ascending positions in the flattened K x N map.
        targets: BoolTensor[K, N].
        valid: As in ``lovasz_hinge``; matters for the number of foreground cells only.
    """
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
    """Slope of the Lovász extension of the Jaccard loss at every error.

    With the errors of one instance in descending order, n foreground cells and J_k = 1 - (n - P_k)
    / (n + B_k) after k cells, of which P_k are foreground and B_k background, cell k weighs J_k -
    J_(k-1).

    Args:
        errors: Tensor[S], positive.
        positive: BoolTensor[S], foreground cells.
        instance: LongTensor[S], ascending.
        foreground: LongTensor[K], foreground cells of each instance, those without error included.

    Returns:
        Tensor[S] in the order of ``errors``.
    """
    # The bits of positive floats order like the floats: one integer key sorts by instance, then by
    # falling error.
    falling = 0x7FFFFFFF - errors.float().contiguous().view(torch.int32).long()
    order = torch.argsort((instance << 32) | falling)
    # Instances stay in place, so ``instance`` describes the sorted cells too.
    sizes = torch.bincount(instance, minlength=len(foreground))
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
    """Pull the proposals of one object together.

    Args:
        embeds: Tensor[J, D].
        margins: Tensor[J, M].
        groups: LongTensor[J], the object of each proposal.
        num_groups: Number of objects G.

    Returns:
        Tensor[G], the squared distances to the object's mean, summed over its proposals.
    """
    # Parity: the paper divides by the number of proposals, the code does not.
    vectors = torch.cat((embeds, margins), dim=1).float()
    centered = vectors - group_means(vectors, groups, num_groups)[groups]
    return vectors.new_zeros(num_groups).index_add(0, groups, centered.square().sum(dim=1))


def group_means(values: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Mean row of each group, 0 if empty: Tensor[J, D], LongTensor[J] -> Tensor[G, D]."""
    sums = values.new_zeros(num_groups, values.shape[1]).index_add(0, groups, values)
    counts = torch.bincount(groups, minlength=num_groups).clamp(min=1)
    return sums / counts[:, None]
