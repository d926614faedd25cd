"""The SipMask detector: pyramid, detection head and mask head in one pass.

Paper:    SipMask: Spatial Information Preservation for Fast Image and Video Instance Segmentation,
          https://arxiv.org/abs/2007.14772.
Origin:   JialeCao001/SipMask (MIT); weights: no licence stated.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor, nn

from mmrefine.checkpoint import rename_authors_weights
from mmrefine.fcos import require_pyramid
from mmrefine.fcos.candidates import TEST_KEYS, warn_of_unknown_keys
from mmrefine.layers import require_masks

from .box_head import SipMaskOutputs

KNOWN_KEYS = TEST_KEYS.union(
    ('score_sqrt', 'clip_offset', 'nms_in_original', 'scale', 'scale_limits', 'box_export_offset'),
    ('mask_thr', 'mask_format'),
)


@MODELS.register_module()
class SipMask(SingleStageInstanceSegmentor):
    """Single-stage instance segmentation with spatially separate mask coefficients.

    The base class passes positives from head to head through an attribute of the head; here they
    are arguments, so nothing survives a call. The neck gives the levels of ``bbox_head.strides``,
    the mask head takes the number of classes from ``bbox_head``; images are padded to a multiple of
    32. Arguments are those of ``SingleStageInstanceSegmentor``.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        bbox_head: ConfigType,
        mask_head: ConfigType,
        **kwargs: Any,
    ) -> None:
        # The base class writes into the configs, which belong to the caller: it gets copies.
        mask_head = {'num_classes': bbox_head.get('num_classes'), **mask_head}
        super().__init__(backbone, neck, dict(bbox_head), mask_head, **kwargs)
        require_agreement(self.bbox_head, self.mask_head)
        warn_of_unknown_keys(kwargs.get('test_cfg') or {}, KNOWN_KEYS)
        self.register_load_state_dict_pre_hook(rename_authors_weights)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Images Tensor[B, 3, H, W] -> pyramid maps, finest first, which must fit the heads."""
        x = super().extract_feat(batch_inputs)
        height, width = batch_inputs.shape[-2:]
        require_pyramid(x, self.bbox_head.strides, self.bbox_head.in_channels, (height, width))
        return x

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None
    ) -> tuple[SipMaskOutputs | Tensor, ...]:
        """Raw outputs: predictions of all points, and basis maps Tensor[B, S, H/2, W/2]."""
        outputs = self.bbox_head(self.extract_feat(batch_inputs))
        return outputs, self.mask_head(outputs.features)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """All losses of a batch; images Tensor[B, 3, H, W], already normalised and padded."""
        losses, _ = self.loss_by_feat(self.extract_feat(batch_inputs), batch_data_samples)
        return losses

    def loss_by_feat(
        self, x: Sequence[Tensor], batch_data_samples: SampleList
    ) -> tuple[dict[str, Tensor], InstanceList]:
        """Losses from pyramid maps, and the mask samples per image (see ``SipMaskHead.select``).

        Split from ``loss`` for models that train more on the same features and samples.
        """
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        require_masks(gt_instances, metas)
        outputs = self.bbox_head(x)
        losses, positives = self.bbox_head.loss_by_feat(outputs, gt_instances)
        samples = self.mask_head.select(positives, gt_instances)
        basis = self.mask_head(outputs.features)  # (B, S, H/2, W/2)
        losses.update(self.mask_head.loss_by_feat(basis, samples, gt_instances, metas))
        return losses, samples

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections with masks, see ``SipMaskHead.predict_by_feat``; images Tensor[B, 3, H, W],
        already normalised and padded."""
        x = self.extract_feat(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        outputs = self.bbox_head(x)
        results = self.bbox_head.predict_by_feat(outputs, metas)
        basis = self.mask_head(outputs.features)
        results = self.mask_head.predict_by_feat(basis, results, metas, rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)


def require_agreement(bbox_head: nn.Module, mask_head: nn.Module) -> None:
    """Compare what the box head hands over with what the mask head expects.

    A ValueError says that they differ in classes, basis maps, levels or width, or that the finest
    stride is not 8.
    """
    if bbox_head.strides[0] != 8:
        raise ValueError(
            f'bbox_head.strides begins with {bbox_head.strides[0]}, but the basis maps take a '
            'finest level of stride 8: begin there (start_level=1 in a neck on a ResNet)'
        )
    if bbox_head.num_bases != mask_head.num_bases:
        raise ValueError(
            f'bbox_head.num_bases={bbox_head.num_bases} but mask_head.num_bases='
            f'{mask_head.num_bases}: each basis map needs one coefficient'
        )
    if mask_head.num_classes not in (None, bbox_head.num_classes):
        raise ValueError(
            f'mask_head.num_classes={mask_head.num_classes} but bbox_head.num_classes='
            f'{bbox_head.num_classes}: omit the former, it follows the latter'
        )
    given = bbox_head.num_feature_levels * bbox_head.feat_channels
    if given != mask_head.conv_fuse.in_channels:
        raise ValueError(
            f'bbox_head gives {bbox_head.num_feature_levels} levels of {bbox_head.feat_channels} '
            f'channels, the mask head expects {mask_head.conv_fuse.in_channels} in all: set '
            'mask_head.num_levels to bbox_head.num_feature_levels and mask_head.in_channels to '
            'bbox_head.feat_channels'
        )
