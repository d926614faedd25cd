"""SipMask's tracking branch: a map of embeddings, and the loss that tells objects apart.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.4.
Origin:   JialeCao001/SipMask, ``SipMask-VIS``; written anew.
Changes:  a box whose centre left the image reads the nearest cell instead of one from the other
          side or none at all; images without samples take the same path; a frame under test gets
          its embeddings in the cells of its detections alone.

Shapes:   B images, E embedding channels, H x W cells of stride 8, n samples and G objects of one
          image, M objects of its reference frame.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, MultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrefine.fcos.head import GROUP_NORM
from mmrefine.layers import ConvStack, autocast_to, without_autocast

PRECISIONS = ('float32', 'bfloat16')


@MODELS.register_module()
class SipMaskTrackHead(BaseModule):
    """Two convolutions per level, one joint map of embeddings.

    Args:
        in_channels, feat_channels: Channels of the pyramid and of the tower.
        num_convs: Convolutions of the tower.
        num_levels: Pyramid levels, finest first, that feed the map.
        embed_channels: Channels E.
        stride: Pixels per cell of the finest level.
        jitter: Reference boxes move by up to this share of their sides in training.
        tower_dtype: Arithmetic of the tower under test: ``'float32'``, or ``'bfloat16'``, which
            halves its time where the processor has it. Embeddings are float32 either way.
        init_cfg: Defaults to N(0, 0.01) for the tower and PyTorch's first weights for the map.
    """

    def __init__(
        self,
        in_channels: int = 256,
        feat_channels: int = 256,
        num_convs: int = 2,
        num_levels: int = 3,
        embed_channels: int = 512,
        stride: int = 8,
        jitter: float = 0.05,
        loss_weight: float = 1.0,
        norm_cfg: ConfigType | None = GROUP_NORM,
        tower_dtype: str = 'float32',
        init_cfg: MultiConfig | None = None,
    ) -> None:
        if tower_dtype not in PRECISIONS:
            raise ValueError(f'tower_dtype must be one of {PRECISIONS}, got {tower_dtype!r}')
        override = {'type': 'TorchDefault', 'name': 'conv_embed'}
        default = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01, 'override': override}
        super().__init__(init_cfg=init_cfg or default)
        self.num_levels = num_levels
        self.stride = stride
        self.jitter = jitter
        self.loss_weight = loss_weight
        self.tower_dtype = tower_dtype
        self.convs = ConvStack(in_channels, feat_channels, num_convs, norm_cfg=norm_cfg)
        width = feat_channels if num_convs else in_channels
        self.conv_embed = nn.Conv2d(width * num_levels, embed_channels, 1)

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        """Pyramid maps Tensor[B, C, *, *], finest first -> embeddings Tensor[B, E, H, W]."""
        levels = self.towers(x)
        size = levels[0].shape[-2:]
        joined = [levels[0]] + [
            F.interpolate(level, size=size, mode='bilinear', align_corners=False)
            for level in levels[1:]
        ]
        return self.conv_embed(torch.cat(joined, dim=1))  # (B, 3 F, H, W) -> (B, E, H, W)

    def towers(self, x: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid maps -> tower maps Tensor[B, F, *, *] of the levels that feed the map."""
        levels = x[: self.num_levels]
        if self.training or self.tower_dtype == 'float32':
            return [self.convs(level) for level in levels]
        with autocast_to(levels[0].device, self.tower_dtype):
            return [self.convs(level).float() for level in levels]

    def embed(self, embed_map: Tensor, centers: Tensor) -> Tensor:
        """Read one cell per box.

        Map Tensor[E, H, W], (x, y) Tensor[n, 2] in pixels of the padded input, anywhere -> float32
        Tensor[n, E].
        """
        rows, columns = self.cells(centers, embed_map.shape[-2:])
        return embed_map[:, rows, columns].t().float()

    def embed_cells(self, levels: Sequence[Tensor], centers: Tensor) -> Tensor:
        """The same without the map: what is pointwise is computed in the cells that are read.

        The 3 x 3 convolutions stay whole, since their group norm looks at the whole level.
        ``levels`` is one image of the result of ``towers``, each Tensor[F, *, *].
        """
        size = levels[0].shape[-2:]
        rows, columns = self.cells(centers, size)
        joined = torch.cat([read_resized(level, rows, columns, size) for level in levels], dim=1)
        # (n, 3 F) -> (n, E): a 1 x 1 convolution is this product in every cell.
        weight, bias = self.conv_embed.weight.flatten(1), self.conv_embed.bias
        with without_autocast(joined.device):
            return F.linear(joined, weight.float(), bias.float())

    def cells(self, centers: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Row and column, two LongTensor[n], of the cells nearest to centres on a map (H, W)."""
        # Cells can be clamped but NaN cannot; a diverged network must not crash the look-up.
        cells = (centers.detach() / self.stride).nan_to_num(0.0).floor()
        columns = cells[:, 0].clamp(0, size[1] - 1).long()
        rows = cells[:, 1].clamp(0, size[0] - 1).long()
        return rows, columns

    def loss_by_feat(
        self,
        embed_map: Tensor,
        samples: InstanceList,
        ref_embed_map: Tensor,
        ref_centers: Sequence[Tensor],
        identities: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Classify every sample as one of the objects of the reference frame, or as new.

        Args:
            embed_map, ref_embed_map: Tensor[B, E, H, W] of the key and of the reference frames.
            samples: Per image ``bboxes`` Tensor[n, 4], predicted, input pixels, not clipped; and
                ``gt_inds`` LongTensor[n].
            ref_centers: Per image Tensor[M, 2], see ``jittered_centers``.
            identities: Per image the result of ``reference_index``, LongTensor[G].

        Returns:
            ``loss_match``, the mean over the images of the cross entropy; ``match_acc``, percent of
            the samples that are classified right.
        """
        loss = embed_map.new_zeros((), dtype=torch.float32)
        correct = embed_map.new_zeros((), dtype=torch.float32)
        for at, sample in enumerate(samples):
            current = self.embed(embed_map[at], box_centers(sample.bboxes))  # (n, E)
            reference = self.embed(ref_embed_map[at], ref_centers[at])  # (M, E)
            logits = match_logits(current, reference)  # (n, 1 + M)
            target = identities[at][sample.gt_inds]  # (n)
            each = F.cross_entropy(logits, target, reduction='sum')
            loss = loss + each / max(len(target), 1)
            correct = correct + (logits.argmax(dim=1) == target).sum()
        total = max(sum(len(sample) for sample in samples), 1)
        return {
            'loss_match': self.loss_weight * loss / len(samples),
            'match_acc': 100 * correct / total,
        }


def read_resized(level: Tensor, rows: Tensor, columns: Tensor, size: Sequence[int]) -> Tensor:
    """Some cells of a map Tensor[C, h, w] as it would be after bilinear resizing to ``size`` = (H,
    W).

    Rows and columns of the resized map, LongTensor[n] each -> float32 Tensor[n, C], as
    ``F.interpolate`` without ``align_corners``.
    """
    top, bottom, down = _neighbours(rows, size[0], level.shape[1])
    left, right, across = _neighbours(columns, size[1], level.shape[2])
    upper, lower = (
        torch.lerp(level[:, row, left].float(), level[:, row, right].float(), across)
        for row in (top, bottom)
    )  # (C, n) each
    return torch.lerp(upper, lower, down).t()


def _neighbours(index: Tensor, fine: int, coarse: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells of a coarse axis around cells of the fine one, and the second's share."""
    position = ((index + 0.5) * (coarse / fine) - 0.5).clamp(min=0)
    low = position.long().clamp(max=coarse - 1)
    return low, (low + 1).clamp(max=coarse - 1), position - low


def box_centers(boxes: Tensor) -> Tensor:
    """Boxes Tensor[n, 4] -> centres Tensor[n, 2] (x, y)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def jittered_centers(boxes: Tensor, amount: float) -> Tensor:
    """Centres Tensor[M, 2] of boxes Tensor[M, 4], moved by up to ``amount`` of the sides.

    The original also scales the boxes, which does not move their centres.
    """
    moves = (2 * torch.rand_like(boxes[:, :2]) - 1) * amount
    return box_centers(boxes) + moves * (boxes[:, 2:] - boxes[:, :2])


def reference_index(ids: Tensor, ref_ids: Tensor) -> Tensor:
    """1 + position of every object among those of the reference frame, 0 where it is absent.

    LongTensor[G], LongTensor[M] -> LongTensor[G]; the first position of a repeated id counts.
    """
    same = ids[:, None] == ref_ids[None, :]  # (G, M)
    # The column in front stands for "absent" and loses against any true entry.
    padded = F.pad(same.to(torch.uint8) * 2, (1, 0), value=1)
    return padded.argmax(dim=1)


def match_logits(current: Tensor, reference: Tensor) -> Tensor:
    """Products of embeddings Tensor[n, E] and Tensor[M, E] -> Tensor[n, 1 + M].

    Column 0, always 0, is the logit of an object not among the references.
    """
    with without_autocast(current.device):
        products = current.float() @ reference.float().t()
    return F.pad(products, (1, 0))
