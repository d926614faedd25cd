"""The detector: backbone, neck, a box head with proposal embeddings, and the pixel branch.

Paper: EmbedMask, https://arxiv.org/abs/1912.01954.
"""

from typing import Any

from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType
from torch import Tensor

from mmrefine.checkpoint import rename_authors_weights
from mmrefine.fcos import require_pyramid
from mmrefine.fcos.candidates import TEST_KEYS, warn_of_unknown_keys

from .targets import objects_on_canvas

KNOWN_KEYS = TEST_KEYS.union(['clip_before_nms', 'keep_embeds', 'mask_thr', 'mask_format'])


@MODELS.register_module()
class EmbedMask(SingleStageInstanceSegmentor):
    """Single-stage instance segmentation by clustering pixels around proposals.

    The box head gives detections with an embedding and a margin each, the mask head gives every
    pixel an embedding; a detection's mask are the pixels whose embedding is close to its own.
    Checkpoints of all four original generations load as they are.

    Arguments are those of ``SingleStageInstanceSegmentor``; both heads get ``test_cfg`` and
    document its keys.
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
        super().__init__(backbone, neck, dict(bbox_head), dict(mask_head), **kwargs)
        self.register_load_state_dict_pre_hook(rename_authors_weights)
        if not hasattr(self.bbox_head, 'head'):  # one that is wrapped has keys of its own
            warn_of_unknown_keys(kwargs.get('test_cfg') or {}, KNOWN_KEYS)
        for key in ('embed_dim', 'coord_embed'):
            ours, theirs = getattr(self.bbox_head, key), getattr(self.mask_head, key)
            if ours != theirs:
                raise ValueError(
                    f'bbox_head.proposal.{key}={ours} but mask_head.{key}={theirs}: embeddings of '
                    'proposals and pixels are compared, set both alike'
                )
        given = self.bbox_head.in_channels, self.bbox_head.strides[0]
        expected = self.mask_head.in_channels, self.mask_head.stride
        if given != expected:
            raise ValueError(
                f'the finest level has {given[0]} channels and stride {given[1]}, but the mask '
                f'head expects {expected[0]} and {expected[1]}: set its in_channels and stride'
            )
        classes = getattr(self.bbox_head, 'head', self.bbox_head).num_classes
        if self.mask_head.loss_semantic is not None and self.mask_head.num_classes != classes:
            raise ValueError(
                f'mask_head.num_classes={self.mask_head.num_classes} but '
                f'bbox_head.num_classes={classes}: the semantic loss learns the same labels, set '
                'both to the number of classes of the data set'
            )

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Images Tensor[B, 3, H, W] -> pyramid maps Tensor[B, C, h, w], finest first."""
        x = super().extract_feat(batch_inputs)
        height, width = batch_inputs.shape[-2:]
        require_pyramid(x, self.bbox_head.strides, self.bbox_head.in_channels, (height, width))
        return x

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None, **kwargs: Any
    ) -> tuple[tuple[list[Tensor], ...], Tensor]:
        """Raw outputs: those of the box head, and the pixel embeddings Tensor[B, D, h, w]."""
        x = self.extract_feat(batch_inputs)
        return self.bbox_head(x), self.mask_head(x, self.bbox_head.position())

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList, **kwargs: Any) -> dict:
        """All losses of a batch; images Tensor[B, 3, H, W], already normalised and padded."""
        x = self.extract_feat(batch_inputs)
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        # Masks are rasterised once, on the area that the cells of the finest level cover.
        stride = self.mask_head.stride
        canvas = (x[0].shape[2] * stride, x[0].shape[3] * stride)
        gt_instances = objects_on_canvas(gt_instances, metas, canvas)
        outputs = self.bbox_head(x)
        losses, proposals = self.bbox_head.loss_by_feat(outputs, gt_instances, metas)
        pixels = self.mask_head(x, self.bbox_head.position())
        losses.update(self.mask_head.loss_by_feat(pixels, proposals, gt_instances))
        losses.update(self.mask_head.semantic_loss(x, gt_instances))
        return losses

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections with masks; images Tensor[B, 3, H, W], already normalised and padded.

        Returns:
            The samples with ``pred_instances``, see ``EmbedMaskHead.predict_by_feat``.
        """
        x = self.extract_feat(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        outputs = self.bbox_head(x)
        results = self.bbox_head.predict_by_feat(outputs, metas)
        pixels = self.mask_head(x, self.bbox_head.position())
        results = self.mask_head.predict_by_feat(
            pixels, results, metas, rescale, self.bbox_head.pixel_offset
        )
        return self.add_pred_to_datasample(batch_data_samples, results)
