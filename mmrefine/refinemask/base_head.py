"""What both RefineMask heads share: stage plan, semantic path, targets, loss, inference.

Shapes: B images, N RoIs, S_i side of stage i, H, W of the fine feature map.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from mmengine.model import BaseModule, ModuleList, kaiming_init, normal_init
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrefine.layers import ClassLogits, ConvStack

from .fitting import require_width
from .inference import FusedMasks, MaskOptions, fuse_masks
from .targets import multi_size_targets


class SemanticMaps(NamedTuple):
    """What the semantic path computes once for the whole batch.

    Attributes:
        stages: Tensor[B, C_i, H, W], features adapted to each stage.
        logits: Tensor[B, 1, H, W], foreground logits; None in heads without this prediction.
    """

    stages: list[Tensor]
    logits: Tensor | None


def plan_classes(
    stage_num_classes: int | Sequence[int | None] | None, num_classes: int | None, stages: int
) -> tuple[list[int], int]:
    """Number of classes of each stage.

    Args:
        stage_num_classes: One number for all stages or one per stage; 1 is class-agnostic, None
            follows ``num_classes``.
        num_classes: Classes of the detector; by default the largest entry of ``stage_num_classes``.
        stages: Number of predictions.

    Raises:
        ValueError: A stage has neither 1 nor ``num_classes`` classes.
    """
    if stage_num_classes is None or isinstance(stage_num_classes, int):
        stage_num_classes = [stage_num_classes] * stages
    if len(stage_num_classes) != stages:
        raise ValueError(
            f'stage_num_classes has {len(stage_num_classes)} entries for {stages} stages: give '
            'one per stage, or one number'
        )
    if num_classes is None:
        num_classes = max((k for k in stage_num_classes if k is not None), default=80)
    plan = [num_classes if k is None else k for k in stage_num_classes]
    wrong = [k for k in plan if k not in (1, num_classes)]
    if wrong:
        raise ValueError(
            f'stage_num_classes {list(stage_num_classes)} does not fit num_classes={num_classes} '
            'of the box head: '
            f'each entry must be {num_classes} (or None) or 1 (class-agnostic)'
        )
    return plan, num_classes


class MultiStageMaskHead(BaseModule):
    """Base of the RefineMask heads.

    Args:
        num_convs_instance: 3x3 convolutions on the RoI features.
        num_convs_semantic: 3x3 convolutions on the fine feature map.
        conv_in_channels_instance: Width of the RoI features.
        conv_in_channels_semantic: Width of the fine feature map.
        conv_kernel_size_instance: Kernel of the former (odd).
        conv_kernel_size_semantic: Kernel of the latter (odd).
        conv_out_channels_instance: Width at the first stage; halved by each stage.
        conv_out_channels_semantic: Width of the semantic path.
        conv_cfg: Convolution layer of the 3x3 convolutions.
        norm_cfg: Normalisation after them; None as published.
        fusion_type: Registered fusion block.
        dilations: Branches of the fusion block.
        semantic_out_stride: Pixels per cell of the fine feature map.
        num_classes: Classes; follows the box head when used in ``RefineRoIHead``.
        stage_num_classes: See ``plan_classes``.
        stage_sup_size: Side of each stage's grid; each doubles the one before.
        upsample_cfg: See ``stages.build_upsampler``.
        loss_cfg: Registered loss, with one weight per stage.
        with_cp: Recompute the stages in the backward pass to save memory.
        logit_std: Standard deviation of the initial weights of every logit layer. Parity: None is
            the original's Kaiming normal (fan out), 1.41 for a layer of one class: training starts
            with losses in the hundreds and depends on warm-up and clipping to survive.
    """

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
        self.stage_sizes = sizes
        self.in_channels_instance = conv_in_channels_instance
        self.in_channels_semantic = conv_in_channels_semantic
        self.semantic_stride = semantic_out_stride
        self.with_cp = with_cp
        self.logit_std = logit_std
        self.stage_classes, self.num_classes = plan_classes(
            stage_num_classes, num_classes, len(sizes)
        )
        self.loss_func = MODELS.build(loss_cfg or self.default_loss(len(sizes)))
        self.instance_convs = ConvStack(
            conv_in_channels_instance,
            conv_out_channels_instance,
            num_convs_instance,
            conv_kernel_size_instance,
            conv_cfg,
            norm_cfg,
        )
        self.semantic_convs = ConvStack(
            conv_in_channels_semantic,
            conv_out_channels_semantic,
            num_convs_semantic,
            conv_kernel_size_semantic,
            conv_cfg,
            norm_cfg,
        )
        self.widths = [conv_out_channels_instance // 2**i for i in range(len(sizes))]
        self.fusion_cfg = dict(
            type=fusion_type, dilations=tuple(dilations), conv_cfg=conv_cfg, norm_cfg=norm_cfg
        )
        # not torch's ModuleList, which would leave the stages out of init_weights
        self.stages = ModuleList(
            self.build_stage(i, conv_out_channels_semantic, upsample_cfg)
            for i in range(len(sizes) - 1)
        )

    def init_weights(self) -> None:
        """Kaiming normal (fan out) and bias 0, as published; logit layers see ``logit_std``."""
        super().init_weights()
        for layer in self.logit_layers():
            if self.logit_std is None:
                kaiming_init(layer)
            else:
                normal_init(layer, std=self.logit_std)

    def logit_layers(self) -> list[nn.Conv2d]:
        """Every layer that predicts mask or foreground logits."""
        return [m for m in self.modules() if isinstance(m, ClassLogits)]

    def default_loss(self, stages: int) -> dict:
        """Loss used when the config names none."""
        return dict(type='BARCrossEntropyLoss', stage_instance_loss_weight=[1.0] * stages)

    @abstractmethod
    def build_stage(self, index: int, semantic_channels: int, upsample_cfg: dict) -> nn.Module:
        """Stage ``index``, of width ``self.widths[index]``."""

    def semantic_path(self, fine_feat: Tensor, stages: int | None = None) -> SemanticMaps:
        """Run the part that does not depend on RoIs.

        Args:
            fine_feat: Tensor[B, C, H, W].
            stages: Adapt the features to that many stages only.
        """
        require_width('fine feature map', fine_feat, self.in_channels_semantic, 'semantic')
        semantic = fine_feat
        for conv in self.semantic_convs:
            semantic = conv(semantic)
        return SemanticMaps(
            [s.semantic_map(semantic) for s in list(self.stages)[:stages]],
            self.foreground(semantic),
        )

    def foreground(self, semantic: Tensor) -> Tensor | None:
        """Foreground logits of the images, if the head predicts them."""
        return None

    @abstractmethod
    def refine(
        self,
        roi_feats: Tensor,
        semantic: SemanticMaps,
        rois: Tensor,
        labels: Tensor,
        predictions: int | None = None,
    ) -> list[Tensor]:
        """Run the part per RoI.

        Args:
            roi_feats, rois, labels: As in ``forward``.
            semantic: Adapted to at least ``predictions - 1`` stages, or to all.
            predictions: How many to make, coarse to fine, at least two; by default one per entry
                of ``stage_sizes``. With one more, the last stage is applied again to its own input
                on a doubled grid.

        Returns:
            Logits Tensor[N, 1, S_i, S_i] per prediction.
        """

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

        Raises:
            ValueError: Only RoI features are given, which is what stock RoI heads do.
        """
        if fine_feat is None or rois is None or labels is None:
            raise ValueError(
                f'{type(self).__name__} also needs the fine feature map, RoIs and labels: set '
                "roi_head.type to 'RefineRoIHead', or to 'CascadeRefineRoIHead' for a cascade"
            )
        semantic = self.semantic_path(fine_feat)
        return self.refine(roi_feats, semantic, rois, labels), semantic.logits

    def fused_logits(
        self,
        roi_feats: Tensor,
        fine_feat: Tensor,
        rois: Tensor,
        labels: Tensor,
        chunk: int | None = None,
        dtype: str = 'float32',
    ) -> Tensor:
        """Predict and fuse all stages for inference; the semantic path runs once.

        Args:
            roi_feats, fine_feat, rois, labels: As in ``forward``.
            chunk, dtype: See ``MaskOptions``.

        Returns:
            Tensor[N, 1, S, S] in fp32, S the finest size.

        Raises:
            ValueError: Unknown ``dtype``.
        """
        options = MaskOptions(chunk, dtype)
        return self.fused_masks(roi_feats, fine_feat, rois, labels, options)[0].logits

    def fused_masks(
        self,
        roi_feats: Tensor,
        fine_feat: Tensor,
        rois: Tensor,
        labels: Tensor,
        options: MaskOptions,
    ) -> list[FusedMasks]:
        """``fused_logits`` with every option; arguments and result as in ``fuse_masks``."""
        return fuse_masks(self, roi_feats, fine_feat, rois, labels, options)

    def instance_path(self, roi_feats: Tensor) -> Tensor:
        """Tensor[N, C, S_0, S_0] -> Tensor[N, C_0, S_0, S_0].

        Raises:
            ValueError: The RoI grid is not the first stage's, or the features have another width.
        """
        if roi_feats.shape[-1] != self.stage_sizes[0]:
            raise ValueError(
                f'RoI features are {roi_feats.shape[-1]} wide, the first stage wants '
                f'{self.stage_sizes[0]}: set output_size of the mask RoI extractor to '
                'stage_sup_size[0]'
            )
        require_width('RoI feature map', roi_feats, self.in_channels_instance, 'instance')
        for conv in self.instance_convs:
            roi_feats = conv(roi_feats)
        return roi_feats

    def run_stage(self, stage: nn.Module, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Call a stage, recomputing it in the backward pass if ``with_cp``."""
        if self.with_cp and any(x.requires_grad for x in inputs):
            return checkpoint(stage, *inputs, use_reentrant=False)
        return stage(*inputs)

    def get_targets(
        self, sampling_results: list[SamplingResult], batch_gt_instances: InstanceList
    ) -> list[Tensor]:
        """Mask targets of the positive RoIs of the batch: BoolTensor[N, 1, S_i, S_i] per stage."""
        per_image = [
            multi_size_targets(r.pos_priors, r.pos_assigned_gt_inds, gt.masks, self.stage_sizes)
            for r, gt in zip(sampling_results, batch_gt_instances)
        ]
        return [torch.cat(targets) for targets in zip(*per_image)]

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
            sampling_results: Per image.
            batch_gt_instances: Per image, with ``masks``.

        Returns:
            ``loss_mask`` (dict of losses, here ``loss_instance``) and ``mask_targets`` (list per
            stage).
        """
        targets = self.get_targets(sampling_results, batch_gt_instances)
        loss = self.loss_func(stage_logits, targets)
        return dict(loss_mask=dict(loss_instance=loss), mask_targets=targets)
