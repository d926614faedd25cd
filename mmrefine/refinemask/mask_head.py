"""RefineMask's mask heads: from a 14x14 RoI grid to 112x112 through semantic fusion stages.

Paper:    RefineMask: Towards High-Quality Instance Segmentation with Fine-Grained Features, CVPR
          2021, arXiv 2104.08569.
Origin:   github.com/zhanggang001/RefineMask, Apache-2.0 (``refine_mask_head.py``).
Changes:  logits of the RoI's class only; the semantic path runs once per batch; RoIs in any order;
          no RoIs is legal; any stage may be class-agnostic; normalisation layers are honoured.
          Equal outputs for equal weights.

Shapes:   B images, N RoIs, C_i channels and S_i side of stage i, H, W of the fine feature map.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from mmengine.model import BaseModule, ModuleList, kaiming_init, normal_init
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrefine.layers import ClassLogits, ConvStack, autocast_to, loads_weights

from .inference import FusedMasks, InferenceSettings
from .losses import BARCrossEntropyLoss, RefineCrossEntropyLoss, build_loss
from .stages import (
    FusionStage,
    SFMStage,
    SimpleSFMStage,
    double_features,
    plan_classes,
    resize_aligned,
)
from .targets import multi_size_targets, semantic_targets


class MultiStageMaskHead(BaseModule):
    """Base of the RefineMask heads.

    Args:
        num_convs_instance, num_convs_semantic: Convolutions on RoI features and on the fine map.
            ``conv_in_channels_*``, ``conv_kernel_size_*`` (odd) and ``conv_out_channels_*``, halved
            by each stage for instances, are theirs.
        conv_cfg, norm_cfg: Of the 3x3 convolutions; no normalisation as published.
        fusion_type: Registered fusion block.
        dilations: Branches of the fusion block.
        semantic_out_stride: Pixels per cell of the fine feature map.
        num_classes: Classes; follows the box head when used in ``RefineRoIHead``.
        stage_num_classes: See ``stages.plan_classes``; by default all stages follow
            ``num_classes``, but for the last one of ``SimpleRefineMaskHead``, which is
            class-agnostic as published.
        stage_sup_size: Side of each stage's grid; each doubles the one before.
        upsample_cfg: See ``stages.build_upsampler``.
        loss_cfg: Registered loss, with one weight per stage. What it leaves out is the published
            loss of the head; heads of other than four stages get weights that rise evenly to 1.
        with_cp: Recompute the stages in the backward pass to save memory.
        logit_std: Standard deviation of the initial weights of every logit layer. Parity: None is
            the original's Kaiming normal (fan out), 1.41 for a layer of one class: training starts
            with losses in the hundreds and depends on warm-up and clipping to survive.
    """

    default_loss = BARCrossEntropyLoss
    default_weights = (0.25, 0.5, 0.75, 1.0)
    last_classes: int | None = None  # of the last stage, unless told otherwise
    mask_use_sigmoid = True
    semantic_logits: nn.Conv2d | None

    def __init__(
        self,
        num_convs_instance: int = 2,
        num_convs_semantic: int = 4,
        conv_in_channels_instance: int = 256,
        conv_in_channels_semantic: int = 256,
        conv_kernel_size_instance: int = 3,
        conv_kernel_size_semantic: int = 3,
        conv_out_channels_instance: int = 256,
        conv_out_channels_semantic: int = 256,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        fusion_type: str = 'MultiBranchFusion',
        dilations: Sequence[int] = (1, 3, 5),
        semantic_out_stride: int = 4,
        num_classes: int | None = None,
        stage_num_classes: int | Sequence[int | None] | None = None,
        stage_sup_size: Sequence[int] = (14, 28, 56, 112),
        upsample_cfg: dict = dict(type='bilinear', scale_factor=2),
        loss_cfg: dict | None = None,
        with_cp: bool = False,
        logit_std: float | None = 0.01,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = tuple(stage_sup_size)
        if len(sizes) < 2 or any(b != 2 * a for a, b in zip(sizes, sizes[1:])):
            raise ValueError(
                'stage_sup_size must list at least two sizes, each double the one before, got '
                f'{list(sizes)}'
            )
        self.stage_sizes, stages = sizes, len(sizes)
        self.semantic_stride = semantic_out_stride
        self.with_cp = with_cp
        self.logit_std = logit_std
        if stage_num_classes is None:
            stage_num_classes = [None] * (stages - 1) + [self.last_classes]
        self.stage_classes, self.num_classes = plan_classes(stage_num_classes, num_classes, stages)
        rising = tuple((i + 1) / stages for i in range(stages))
        weights = self.default_weights if stages == len(self.default_weights) else rising
        self.loss_func = build_loss(loss_cfg, self.default_loss, weights)
        layers: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        widths = conv_in_channels_instance, conv_out_channels_instance
        self.instance_convs = ConvStack(
            *widths, num_convs_instance, conv_kernel_size_instance, **layers
        )
        widths = conv_in_channels_semantic, conv_out_channels_semantic
        self.semantic_convs = ConvStack(
            *widths, num_convs_semantic, conv_kernel_size_semantic, **layers
        )
        self.semantic_logits = None
        self.widths = [conv_out_channels_instance // 2**i for i in range(stages)]
        # mmengine's ModuleList: torch's would leave the stages out of init_weights
        self.stages = ModuleList(
            self.build_stage(
                i,
                upsample_cfg,
                channels=self.widths[i],
                next_channels=self.widths[i + 1],
                semantic_channels=conv_out_channels_semantic,
                fusion_cfg=dict(layers, type=fusion_type, dilations=tuple(dilations)),
                stride=semantic_out_stride,
            )
            for i in range(stages - 1)
        )

    @abstractmethod
    def build_stage(self, index: int, upsample_cfg: dict, **shared: Any) -> FusionStage:
        """Build stage ``index``; ``shared`` are arguments of every kind of stage."""

    @abstractmethod
    def predict_logits(self, index: int, x: Tensor, labels: Tensor) -> Tensor:
        """Logits of prediction ``index``: Tensor[N, C_i, S, S] -> Tensor[N, 1, S_i, S_i]."""

    def init_weights(self) -> None:
        """Kaiming normal (fan out) and bias 0, as published; logit layers see ``logit_std``."""
        super().init_weights()
        if loads_weights(self.init_cfg):
            return
        for layer in (m for m in self.modules() if isinstance(m, ClassLogits)):
            if self.logit_std is None:
                kaiming_init(layer)
            else:
                normal_init(layer, std=self.logit_std)

    def forward(
        self,
        roi_feats: Tensor,
        fine_feat: Tensor | None = None,
        rois: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor | None]:
        """Predict masks; all arguments are needed.

        Args:
            roi_feats: Tensor[N, C, S_0, S_0].
            fine_feat: Tensor[B, C, H, W], the finest feature map of the whole images.
            rois: Tensor[N, 5] of (image index, x1, y1, x2, y2) in pixels of the network input, in
                any order.
            labels: LongTensor[N], class of each RoI.

        Returns:
            Logits Tensor[N, 1, S_i, S_i] per stage (before fusion), and the foreground logits
            Tensor[B, 1, H, W] or None.
        """
        if fine_feat is None or rois is None or labels is None:
            raise ValueError(
                f'{type(self).__name__} also needs the fine feature map, RoIs and labels: set '
                "roi_head.type to 'RefineRoIHead', or to 'CascadeRefineRoIHead' for a cascade"
            )
        semantic_maps, semantic_logits = self.semantic_path(fine_feat)
        stage_logits = self.instance_path(roi_feats, semantic_maps, semantic_logits, rois, labels)
        return stage_logits, semantic_logits

    def semantic_path(
        self, fine_feat: Tensor, stages: int | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Run the part that does not depend on RoIs, once for the whole batch.

        Fine map Tensor[B, C, H, W] -> features Tensor[B, C_i, H, W] for each stage (or only so
        many), and foreground logits Tensor[B, 1, H, W]; None in heads without this prediction.
        """
        semantic = self.semantic_convs(fine_feat)  # (B, D, H, W)
        maps = [stage.semantic_map(semantic) for stage in list(self.stages)[:stages]]
        return maps, None if self.semantic_logits is None else self.semantic_logits(semantic)

    def instance_path(
        self,
        roi_feats: Tensor,
        semantic_maps: list[Tensor],
        semantic_logits: Tensor | None,
        rois: Tensor,
        labels: Tensor,
        predictions: int | None = None,
    ) -> list[Tensor]:
        """Run the part per RoI.

        Args:
            roi_feats, rois, labels: As in ``forward``.
            semantic_maps, semantic_logits: From ``semantic_path``.
            predictions: How many to make, coarse to fine, at least two; by default one per entry
                of ``stage_sizes``. With one more, the last stage is applied again to its own input
                on a doubled grid.

        Returns:
            Logits Tensor[N, 1, S_i, S_i] per prediction.
        """
        side = roi_feats.shape[-1]
        if side != self.stage_sizes[0]:
            raise ValueError(
                f'RoI features are {side} wide, the first stage wants {self.stage_sizes[0]}: set '
                'output_size of the mask RoI extractor to stage_sup_size[0]'
            )
        last = len(self.stages)
        predictions = last + 1 if predictions is None else predictions
        semantic_mask = None if semantic_logits is None else self.as_mask(semantic_logits)
        x = before = self.instance_convs(roi_feats)  # (N, C_0, S_0, S_0)
        stage_logits = [self.predict_logits(0, x, labels)]
        for i in range(min(predictions - 1, last)):
            before = x
            # (N, C_i, S_i, S_i) -> (N, C_i / 2, 2 S_i, 2 S_i)
            x = self.run_stage(i, x, stage_logits[-1], semantic_maps[i], semantic_mask, rois)
            stage_logits.append(self.predict_logits(i + 1, x, labels))
        if predictions > last + 1:
            x = double_features(before)  # the grid of the last stage, with the width before it
            logits = self.predict_logits(last - 1, x, labels)
            x = self.run_stage(last - 1, x, logits, semantic_maps[-1], semantic_mask, rois)
            stage_logits.append(self.predict_logits(last, x, labels))
        return stage_logits

    def as_mask(self, logits: Tensor) -> Tensor:
        """The form in which masks enter the stages, any shape."""
        return logits.sigmoid() if self.mask_use_sigmoid else logits

    def run_stage(self, index: int, x: Tensor, logits: Tensor, *semantic: Tensor | None) -> Tensor:
        """Call a stage, recomputing it in the backward pass if ``with_cp``."""
        inputs = x, self.as_mask(logits), *semantic
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self.stages[index], *inputs, use_reentrant=False)
        return self.stages[index](*inputs)

    def fused_masks(
        self,
        roi_feats: Tensor,
        fine_feat: Tensor,
        rois: Tensor,
        labels: Tensor,
        settings: InferenceSettings | None = None,
    ) -> list[FusedMasks]:
        """Predict and fuse all stages that each RoI needs; the semantic path runs once.

        Args:
            roi_feats, fine_feat, rois, labels: As in ``forward``.
            settings: See there; by default all stages in fp32.

        Returns:
            One group per grid in use; together they hold every RoI once. No RoIs: an empty group.
        """
        settings = settings or InferenceSettings()
        if len(rois) == 0:
            empty = rois.new_zeros((0, 1, self.stage_sizes[-1], self.stage_sizes[-1]))
            return [FusedMasks(labels, empty, empty, rois.new_zeros(0))]
        groups = settings.groups(rois, len(self.stage_sizes))
        stages = min(max(predictions for _, predictions in groups) - 1, len(self.stages))
        fused = []
        with autocast_to(rois.device, settings.dtype):
            semantic = self.semantic_path(fine_feat, stages)
            for indices, predictions in groups:
                parts = []
                for part in indices.split(settings.chunk_on(rois.device)):
                    inputs = roi_feats[part], *semantic, rois[part], labels[part]
                    stage_logits = self.instance_path(*inputs, predictions)
                    parts.append(FusedMasks.of_stages(part, stage_logits, settings.confidence))
                fused.append(FusedMasks.join(parts))
        return fused

    def loss_and_target(
        self,
        stage_logits: list[Tensor],
        semantic_logits: Tensor | None,
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Targets and losses of a batch.

        Args:
            stage_logits: Tensor[N, 1, S_i, S_i] per stage, RoIs in the order of
                ``sampling_results``.
            semantic_logits: Tensor[B, 1, H, W] or None.
            sampling_results, batch_gt_instances: Per image, the latter with ``masks``.

        Returns:
            ``loss_mask`` (dict of ``loss_instance`` and, with foreground logits, ``loss_semantic``)
            and ``mask_targets`` (BoolTensor[N, 1, S_i, S_i] per stage).
        """
        per_image = [
            multi_size_targets(r.pos_priors, r.pos_assigned_gt_inds, gt.masks, self.stage_sizes)
            for r, gt in zip(sampling_results, batch_gt_instances)
        ]
        targets = [torch.cat(stage) for stage in zip(*per_image)]
        losses = dict(loss_instance=self.loss_func(stage_logits, targets))
        if semantic_logits is not None:
            foreground = semantic_targets(
                [gt.masks for gt in batch_gt_instances],
                tuple(semantic_logits.shape[-2:]),
                semantic_logits.device,
                self.semantic_stride,
            )
            losses.update(loss_semantic=self.loss_func.semantic_loss(semantic_logits, foreground))
        return dict(loss_mask=losses, mask_targets=targets)


@MODELS.register_module()
class RefineMaskHead(MultiStageMaskHead):
    """The published head: a semantic foreground map with its own loss guides every stage.

    Args:
        mask_use_sigmoid: Feed probabilities rather than logits of the masks to the stages.
            Published models use True.
        **kwargs: See ``MultiStageMaskHead``.
    """

    default_loss = RefineCrossEntropyLoss

    def __init__(self, mask_use_sigmoid: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_use_sigmoid = mask_use_sigmoid
        self.final_instance_logits = ClassLogits(self.widths[-1], self.stage_classes[-1])
        self.semantic_logits = ClassLogits(self.stages[0].semantic_transform_in.in_channels, 1)

    def build_stage(self, index: int, upsample_cfg: dict, **shared: Any) -> SFMStage:
        """Build stage ``index``, which holds the layer of prediction ``index``."""
        classes = self.stage_classes[index]
        return SFMStage(num_classes=classes, upsample_cfg=upsample_cfg, **shared)

    def predict_logits(self, index: int, x: Tensor, labels: Tensor) -> Tensor:
        """Logits at the grid of the features: Tensor[N, C_i, S_i, S_i] -> [N, 1, S_i, S_i]."""
        if index < len(self.stages):
            return self.stages[index].instance_logits(x, labels)
        return self.final_instance_logits(x, labels)


@MODELS.register_module()
class SimpleRefineMaskHead(MultiStageMaskHead):
    """The authors' "faster and better" head: no semantic prediction, features upsampled last.

    Args:
        pre_upsample_last_stage: Upsample the features of the last stage before its logits rather
            than the logits.
        fusion_type, **kwargs: See ``MultiStageMaskHead``.
    """

    default_weights = (0.5, 0.75, 0.75, 1.0)
    last_classes = 1

    def __init__(
        self,
        pre_upsample_last_stage: bool = False,
        fusion_type: str = 'MultiBranchFusionAvg',
        **kwargs: Any,
    ) -> None:
        self.pre_upsample_last_stage = pre_upsample_last_stage
        super().__init__(fusion_type=fusion_type, **kwargs)
        self.stage_instance_logits = nn.ModuleList(
            ClassLogits(width, classes) for width, classes in zip(self.widths, self.stage_classes)
        )

    def build_stage(self, index: int, upsample_cfg: dict, **shared: Any) -> SimpleSFMStage:
        """Build stage ``index``; the last one may keep its grid."""
        keep = index == len(self.stage_sizes) - 2 and not self.pre_upsample_last_stage
        return SimpleSFMStage(upsample_cfg=None if keep else upsample_cfg, **shared)

    def predict_logits(self, index: int, x: Tensor, labels: Tensor) -> Tensor:
        """Logits of prediction ``index``, the last of which may come from half its grid."""
        logits = self.stage_instance_logits[index](x, labels)
        if index < len(self.stages) or self.pre_upsample_last_stage:
            return logits
        return resize_aligned(logits, 2 * x.shape[-1])
