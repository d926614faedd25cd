"""Pixel embeddings, and the masks that proposals cut out of them; origins as for ``box_head``.

Changes: one matrix product per image for all masks; the loss needs no probability, so it has no
         NaN.

Shapes:  B images, G objects and N detections of one image, K classes, D embedding dimensions,
         h x w cells of the finest level (stride 8), 2h x 2w cells of the mask map (stride 4).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.utils import aligned_bilinear
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.layers import ConvStack, as_weights, without_autocast
from mmrefine.masks import output_size

from .kernel import add_coordinates
from .losses import EmbedMaskLoss
from .postprocess import MaskOutput, export_boxes
from .targets import Proposals, semantic_targets


@MODELS.register_module()
class EmbedMaskHead(BaseModule):
    """Pixel branch with its losses and its test-time masks.

    Args:
        num_classes: Classes of the semantic loss; needed only with it.
        in_channels, feat_channels: Channels of the pyramid and of the branch.
        embed_dim, coord_embed: As in the box head.
        branch: ``'finest'`` is a tower on the finest level (v1-v3); ``'merged'`` adds the two next
            levels to it first (adet; the mask branch of CondInst).
        num_convs: Convolutions of the tower.
        norm_cfg: Norm of the branch; default GN with 32 groups on the finest level, BN when merged.
        stride: Pixels per cell of the finest level; masks have half of it.
        enlarge: Doubling of the map: ``'bilinear'`` interpolates the embeddings (v1-v3),
            ``'aligned'`` the probabilities, with aligned corners (adet).
        loss: Settings of ``EmbedMaskLoss``.
        loss_semantic: Focal loss of an auxiliary per-pixel classification (adet); None: none.
        output: Settings of ``MaskOutput``.
        test_cfg: ``mask_thr`` (probability, 0.5), ``mask_format`` (``'dense'`` or ``'rle'``), and
            ``keep_embeds`` (False), which leaves ``embeds`` and ``margins`` in the results.
        init_cfg: Defaults to N(0, 0.01).
    """

    def __init__(
        self,
        num_classes: int | None = None,
        in_channels: int = 256,
        feat_channels: int = 256,
        embed_dim: int = 16,
        coord_embed: bool = True,
        branch: str = 'finest',
        num_convs: int = 4,
        norm_cfg: OptConfigType = None,
        stride: int = 8,
        enlarge: str = 'bilinear',
        loss: ConfigType | None = None,
        loss_semantic: OptConfigType = None,
        output: ConfigType | None = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: MultiConfig | None = None,
    ) -> None:
        if branch not in ('finest', 'merged') or enlarge not in ('bilinear', 'aligned'):
            raise ValueError(
                "branch must be 'finest' or 'merged', enlarge 'bilinear' or 'aligned'; "
                f'got {branch!r}, {enlarge!r}'
            )
        if loss_semantic is not None and not num_classes:
            raise ValueError('loss_semantic needs num_classes')
        prior = dict(type='Normal', name='conv_seg', std=0.01, bias_prob=0.01)
        default = dict(
            type='Normal', layer='Conv2d', std=0.01, override=[prior] if loss_semantic else None
        )
        super().__init__(init_cfg or default)
        self.num_classes, self.embed_dim, self.coord_embed = num_classes, embed_dim, coord_embed
        self.in_channels = in_channels
        self.branch, self.stride, self.enlarge = branch, stride, enlarge
        self.train_cfg, self.test_cfg = train_cfg, test_cfg or {}
        self.mask_loss = EmbedMaskLoss(stride=stride // 2, **(loss or {}))
        self.output = MaskOutput(enlarge == 'aligned', stride=stride // 2, **(output or {}))
        if branch == 'merged':
            norm_cfg = norm_cfg or dict(type='BN')
            self.refine = nn.ModuleList(
                ConvModule(in_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg)
                for _ in range(3)
            )
            self.tower = ConvStack(feat_channels, feat_channels, num_convs, norm_cfg=norm_cfg)
            self.conv_feat = nn.Conv2d(feat_channels, feat_channels, 3, padding=1)
        else:
            norm_cfg = norm_cfg or dict(type='GN', num_groups=32)
            self.convs = ConvStack(
                in_channels, feat_channels, num_convs, norm_cfg=norm_cfg, bias=True
            )
        if coord_embed:
            self.conv_embed_spatial = nn.Conv2d(feat_channels, 2, 3, padding=1)
            self.conv_embed_free = nn.Conv2d(feat_channels, embed_dim - 2, 3, padding=1)
        else:
            self.conv_embed = nn.Conv2d(feat_channels, embed_dim, 3, padding=1)
        self.loss_semantic: Any = None
        if loss_semantic is not None:
            self.seg_convs = ConvStack(in_channels, feat_channels, 2, norm_cfg=norm_cfg)
            self.conv_seg = nn.Conv2d(feat_channels, num_classes, 1)
            self.loss_semantic = MODELS.build(loss_semantic)

    def forward(self, x: Sequence[Tensor], position: Tensor | float = 1.0) -> Tensor:
        """Pixel embeddings Tensor[B, D, h, w] of a pyramid, in the type of the weights also under
        autocast.

        One Tensor[B, C, H, W] per level, finest first; ``position`` is the factor of the
        coordinates that the proposals use.
        """
        feature = self._merged(x) if self.branch == 'merged' else self.convs(x[0])
        with without_autocast(feature.device):
            if not self.coord_embed:
                return self.conv_embed(as_weights(feature, self.conv_embed))
            feature = as_weights(feature, self.conv_embed_free)
            spatial = self.conv_embed_spatial(feature)  # (B, 2, h, w)
            spatial = add_coordinates(spatial, self.stride, position)
            return torch.cat((spatial, self.conv_embed_free(feature)), dim=1)  # (B, D, h, w)

    def _merged(self, x: Sequence[Tensor]) -> Tensor:
        total = self.refine[0](x[0])
        height, width = total.shape[-2:]
        for level in (1, 2):
            coarse = aligned_bilinear(self.refine[level](x[level]), 2**level)
            # An odd finest level is one cell short of twice the next one.
            total = total + coarse[..., :height, :width]
        return self.conv_feat(self.tower(total))

    def loss_by_feat(
        self, pixels: Tensor, proposals: Proposals, gt_instances: InstanceList
    ) -> dict[str, Tensor]:
        """``loss_mask`` and, if it has a weight, ``loss_smooth`` of a batch; ``gt_instances`` come
        from ``objects_on_canvas``."""
        losses = self.mask_loss(
            self.training_map(pixels), proposals, gt_instances, self.enlarge == 'aligned'
        )
        # Every parameter takes part in every iteration, as distributed training demands.
        losses['loss_mask'] = losses['loss_mask'] + 0 * (
            pixels.sum() + proposals.embeds.sum() + proposals.margins.sum()
        )
        return losses

    def semantic_loss(self, x: Sequence[Tensor], gt_instances: InstanceList) -> dict[str, Tensor]:
        """``loss_semantic`` of a batch from pyramid maps; nothing without such a loss."""
        if self.loss_semantic is None:
            return {}
        logits = self.conv_seg(self.seg_convs(x[0])).float()  # (B, K, h, w)
        background = logits.shape[1]
        labels = torch.stack(
            [semantic_targets(gt.masks, gt.labels, background, self.stride) for gt in gt_instances]
        )  # (B, h, w)
        positive = (labels < background).sum().clamp(min=1).float()
        logits = logits.permute(0, 2, 3, 1).flatten(0, 2)  # (B * h * w, K)
        return {'loss_semantic': self.loss_semantic(logits, labels.flatten(), avg_factor=positive)}

    def training_map(self, pixels: Tensor) -> Tensor:
        """Embeddings the kernel takes: doubled, unless probabilities are doubled later."""
        return double(pixels) if self.enlarge == 'bilinear' else pixels

    def predict_by_feat(
        self,
        pixels: Tensor,
        results: InstanceList,
        metas: list[dict],
        rescale: bool = True,
        pixel_offset: int = 0,
        cfg: ConfigType | None = None,
    ) -> InstanceList:
        """Masks of the detections of every image.

        Args:
            pixels: Result of ``forward``.
            results: Detections of the box head with ``bboxes`` in pixels of the network input.
            metas: Per image ``img_shape``, ``ori_shape``, ``scale_factor``.
            rescale: Results in pixels of the original image instead of the network input.
            pixel_offset: 1 if the boxes end at their last pixel.

        Returns:
            Per image ``bboxes``, ``scores``, ``labels``, ``masks`` (BoolTensor[N, H, W] or N RLEs)
            and, with ``keep_embeds``, ``embeds`` and ``margins``.
        """
        cfg = self.test_cfg if cfg is None else cfg
        output = []
        for image, result, meta in zip(self.training_map(pixels), results, metas):
            network, size = output_size(meta, False), output_size(meta, rescale)
            instances = InstanceData(
                bboxes=export_boxes(result.bboxes, meta, rescale, pixel_offset),
                scores=result.scores,
                labels=result.labels,
                masks=self.output(image, result, network, size, cfg),
            )
            if cfg.get('keep_embeds', False):
                instances.embeds, instances.margins = result.embeds, result.margins
            output.append(instances)
        return output


def double(maps: Tensor) -> Tensor:
    """Bilinear doubling, Tensor[B, D, h, w] -> Tensor[B, D, 2h, 2w]."""
    return F.interpolate(maps, scale_factor=2, mode='bilinear', align_corners=False)
