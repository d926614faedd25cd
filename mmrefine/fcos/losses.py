"""Box losses on distances instead of corners.

A box seen from one of its points is the four distances ltrb, and overlap needs nothing else: the
common width of two boxes of one point is min(left) + min(right).
"""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

KINDS = ('giou', 'iou', 'linear_iou', 'area_iou')


@MODELS.register_module()
class LtrbIoULoss(nn.Module):
    """IoU or GIoU loss of boxes given as distances from a common point.

    Args:
        kind: ``'giou'`` is 1 - GIoU; ``'iou'`` is -log(IoU), which has no gradient where the boxes
            do not meet; ``'linear_iou'`` is 1 - IoU; ``'area_iou'`` is -log(IoU) with the offset of
            the others.
        offset: Parity: the SipMask and EmbedMask originals add one unit. With ``'iou'`` every width
            and height grows by it (legacy pixel counting, applied to stride units); with the other
            kinds intersection and union do.
        eps: Lower limit of the IoU inside the logarithm.
        hull_eps: Added to the area of the enclosing box.
    """

    def __init__(
        self,
        kind: str = 'giou',
        offset: float = 0.0,
        eps: float = 1e-6,
        hull_eps: float = 1e-7,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'unknown kind {kind!r}: use one of {KINDS}')
        self.kind = kind
        self.offset = offset
        self.eps = eps
        self.hull_eps = hull_eps
        self.loss_weight = loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """Weighted sum over the points, divided by ``avg_factor`` (default: the number of points,
        at least 1).

        Args:
            pred: Tensor[..., 4], predicted ltrb; may be negative.
            target: Tensor[..., 4], ltrb in the same unit.
            weight: Tensor[...], defaults to ones. Points of weight 0 are ignored, NaN included.
        """
        pred, target = pred.float(), target.float()
        if weight is not None:
            # Ignored points become unit boxes first: a zero weight alone would let 0 * inf through
            # in the backward pass.
            counts = (weight > 0).unsqueeze(-1)
            pred = torch.where(counts, pred, torch.ones_like(pred))
            target = torch.where(counts, target, torch.ones_like(target))
        each = self.each(pred, target)
        total = each.sum() if weight is None else (each * weight).sum()
        return (
            self.loss_weight * total / (max(each.numel(), 1) if avg_factor is None else avg_factor)
        )

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of every point: Tensor[..., 4], Tensor[..., 4] -> Tensor[...], not weighted."""
        return self._log_iou(pred, target) if self.kind == 'iou' else self._by_area(pred, target)

    def _log_iou(self, pred: Tensor, target: Tensor) -> Tensor:
        inter_w, inter_h = _extent(pred.minimum(target))
        inter = (inter_w + self.offset).clamp(min=0) * (inter_h + self.offset).clamp(min=0)
        union = self._area(pred) + self._area(target) - inter
        union = torch.where(inter > 0, union, torch.ones_like(union))
        return -(inter / union).clamp(min=self.eps).log()

    def _by_area(self, pred: Tensor, target: Tensor) -> Tensor:
        inter_w, inter_h = _extent(pred.minimum(target))
        hull_w, hull_h = _extent(pred.maximum(target))
        inter = inter_w.clamp(min=0) * inter_h.clamp(min=0)
        pred_w, pred_h = _extent(pred)
        target_w, target_h = _extent(target)
        union = pred_w * pred_h + target_w * target_h - inter
        hull = hull_w * hull_h + self.hull_eps
        overlap = (inter + self.offset) / (union + self.offset).clamp(min=self.eps)
        if self.kind == 'area_iou':
            return -overlap.clamp(min=self.eps).log()
        return 1 - overlap + ((hull - union) / hull if self.kind == 'giou' else 0)

    def _area(self, ltrb: Tensor) -> Tensor:
        width, height = _extent(ltrb)
        return (width + self.offset) * (height + self.offset)


def _extent(ltrb: Tensor) -> tuple[Tensor, Tensor]:
    left, top, right, bottom = ltrb.unbind(-1)
    return left + right, top + bottom
