"""RefineMask's mask heads: from a 14x14 RoI grid to 112x112 through semantic fusion stages.

Paper:    RefineMask: Towards High-Quality Instance Segmentation with Fine-Grained Features, CVPR
          2021, arXiv 2104.08569.
Origin:   github.com/zhanggang001/RefineMask, Apache-2.0 (``refine_mask_head.py``).
Changes:  logits of the RoI's class only; the semantic path runs once per batch; RoIs in any order;
          no RoIs is legal; any stage may be class-agnostic; normalisation layers are honoured.
          Equal outputs for equal weights.

Shapes:   B images, N RoIs, C_i channels and S_i side of stage i, H, W of the fine feature map.
"""

from typing import Any

from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from torch import Tensor, nn

from mmrefine.layers import ClassLogits

from .base_head import MultiStageMaskHead, SemanticMaps
from .stages import SFMStage, SimpleSFMStage, double_features, resize_aligned
from .targets import semantic_targets


@MODELS.register_module()
class RefineMaskHead(MultiStageMaskHead):
    """The published head: a semantic foreground map with its own loss guides every stage.

    Args:
        mask_use_sigmoid: Feed probabilities rather than logits of the masks to the stages.
            Published models use True.
        **kwargs: See ``MultiStageMaskHead``.
    """

    def __init__(self, mask_use_sigmoid: bool = True, **kwargs: Any) -> None:
        self.mask_use_sigmoid = mask_use_sigmoid
        super().__init__(**kwargs)
        semantic_channels = self.stages[0].semantic_transform_in.in_channels
        self.final_instance_logits = ClassLogits(self.widths[-1], self.stage_classes[-1])
        self.semantic_logits = nn.Conv2d(semantic_channels, 1, 1)

    def default_loss(self, stages: int) -> dict:
        """Loss used when the config names none."""
        return dict(type='RefineCrossEntropyLoss', stage_instance_loss_weight=[1.0] * stages)

    def build_stage(self, index: int, semantic_channels: int, upsample_cfg: dict) -> nn.Module:
        """Stage ``index``."""
        return SFMStage(
            channels=self.widths[index],
            semantic_channels=semantic_channels,
            num_classes=self.stage_classes[index],
            next_channels=self.widths[index + 1],
            fusion_cfg=self.fusion_cfg,
            upsample_cfg=upsample_cfg,
            stride=self.semantic_stride,
            mask_use_sigmoid=self.mask_use_sigmoid,
        )

    def logit_layers(self) -> list[nn.Conv2d]:
        """Every layer that predicts mask or foreground logits."""
        return [*super().logit_layers(), self.semantic_logits]

    def foreground(self, semantic: Tensor) -> Tensor:
        """Foreground logits: Tensor[B, D, H, W] -> Tensor[B, 1, H, W]."""
        return self.semantic_logits(semantic)

    def refine(
        self,
        roi_feats: Tensor,
        semantic: SemanticMaps,
        rois: Tensor,
        labels: Tensor,
        predictions: int | None = None,
    ) -> list[Tensor]:
        """Run the part per RoI; arguments and result as in the base class."""
        predictions = predictions or len(self.stage_sizes)
        x = self.instance_path(roi_feats)
        mask = semantic.logits.sigmoid() if self.mask_use_sigmoid else semantic.logits
        stage_logits, before = [], x
        for stage, semantic_map in zip(list(self.stages)[: predictions - 1], semantic.stages):
            before = x
            logits, x = self.run_stage(stage, x, semantic_map, mask, rois, labels)
            stage_logits.append(logits)
        if predictions <= len(self.stages):
            return [*stage_logits, self.stages[predictions - 1].instance_logits(x, labels)]
        stage_logits.append(self.final_instance_logits(x, labels))
        if predictions > len(self.stage_sizes):
            dense = double_features(before)
            _, x = self.stages[-1](dense, semantic.stages[-1], mask, rois, labels)
            stage_logits.append(self.final_instance_logits(x, labels))
        return stage_logits

    def loss_and_target(
        self,
        stage_logits: list[Tensor],
        semantic_logits: Tensor,
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> dict:
        """As in the base class, with ``loss_semantic`` beside ``loss_instance``."""
        result = super().loss_and_target(
            stage_logits, semantic_logits, sampling_results, batch_gt_instances
        )
        target = semantic_targets(
            [gt.masks for gt in batch_gt_instances],
            tuple(semantic_logits.shape[-2:]),
            semantic_logits.device,
            self.semantic_stride,
        )
        result['loss_mask'].update(
            loss_semantic=self.loss_func.semantic_loss(semantic_logits, target)
        )
        result.update(semantic_targets=target)
        return result


@MODELS.register_module()
class SimpleRefineMaskHead(MultiStageMaskHead):
    """The authors' "faster and better" head: no semantic prediction, features upsampled last.

    Args:
        pre_upsample_last_stage: Upsample the features of the last stage before its logits rather
            than the logits.
        fusion_type: See ``MultiStageMaskHead``.
        **kwargs: See ``MultiStageMaskHead``.
    """

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

    def build_stage(self, index: int, semantic_channels: int, upsample_cfg: dict) -> nn.Module:
        """Stage ``index``."""
        last = index == len(self.stage_sizes) - 2
        return SimpleSFMStage(
            channels=self.widths[index],
            semantic_channels=semantic_channels,
            next_channels=self.widths[index + 1],
            fusion_cfg=self.fusion_cfg,
            upsample_cfg=upsample_cfg if self.pre_upsample_last_stage or not last else None,
            stride=self.semantic_stride,
        )

    def refine(
        self,
        roi_feats: Tensor,
        semantic: SemanticMaps,
        rois: Tensor,
        labels: Tensor,
        predictions: int | None = None,
    ) -> list[Tensor]:
        """Run the part per RoI; arguments and result as in the base class."""
        predictions = predictions or len(self.stage_sizes)
        x = self.instance_path(roi_feats)
        stage_logits, before = [], x
        for stage, predict, semantic_map in zip(
            list(self.stages)[: predictions - 1], self.stage_instance_logits, semantic.stages
        ):
            before = x
            stage_logits.append(predict(x, labels))
            x = self.run_stage(stage, x, stage_logits[-1], semantic_map, rois)
        if predictions <= len(self.stages):
            return [*stage_logits, self.stage_instance_logits[predictions - 1](x, labels)]
        stage_logits.append(self._last_logits(x, labels, self.stage_sizes[-1]))
        if predictions > len(self.stage_sizes):
            dense = double_features(before)
            logits = self.stage_instance_logits[-2](dense, labels)
            x = self.stages[-1](dense, logits, semantic.stages[-1], rois)
            stage_logits.append(self._last_logits(x, labels, 2 * self.stage_sizes[-1]))
        return stage_logits

    def _last_logits(self, x: Tensor, labels: Tensor, size: int) -> Tensor:
        logits = self.stage_instance_logits[-1](x, labels)
        return logits if self.pre_upsample_last_stage else resize_aligned(logits, size)
