"""The detector: backbone, neck, a box head with proposal embeddings, and the pixel branch.

Paper: EmbedMask, https://arxiv.org/abs/1912.01954.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import require_pyramid

from .checkpoint import upgrade_official_keys


@MODELS.register_module()
class EmbedMask(SingleStageInstanceSegmentor):
    """Single-stage instance segmentation by clustering pixels around proposals.

    The box head gives detections with an embedding and a margin each, the mask head gives every
    pixel an embedding; a detection's mask are the pixels whose embedding is close to its own.
    Checkpoints of all four original generations load as they are.

    Arguments are those of ``SingleStageInstanceSegmentor``. ``test_cfg.keep_embeds=True`` adds
    ``embeds`` and ``margins`` to the results.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._register_load_state_dict_pre_hook(upgrade_official_keys)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Images Tensor[B, 3, H, W] -> pyramid maps, finest first.

        Raises:
            ValueError: The pyramid does not fit the heads.
        """
        x = super().extract_feat(batch_inputs)
        height, width = batch_inputs.shape[-2:]
        require_pyramid(x, self.bbox_head.strides, self.bbox_head.in_channels, (height, width))
        if x[0].shape[1] != self.mask_head.in_channels or (
            self.mask_head.stride != self.bbox_head.strides[0]
        ):
            raise ValueError(
                f'the finest level has {x[0].shape[1]} channels and stride '
                f'{self.bbox_head.strides[0]}, but the mask head expects '
                f'{self.mask_head.in_channels} and {self.mask_head.stride}: set its in_channels '
                'and stride'
            )
        return x

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList, **kwargs: Any) -> dict:
        """Losses of a batch: Tensor[B, 3, H, W] and its samples."""
        x = self.extract_feat(batch_inputs)
        objects = self._objects(batch_data_samples, x[0].shape[-2:])
        metas = [sample.metainfo for sample in batch_data_samples]
        losses, proposals = self.bbox_head.loss_and_proposals(x, objects, metas)
        losses.update(self.mask_head.loss(x, objects, proposals, self.bbox_head.position()))
        return losses

    def _objects(self, samples: SampleList, finest: tuple[int, int]) -> InstanceList:
        """Objects of every image; masks are rasterised once, on the area the cells cover."""
        gt_instances, _, metas = unpack_gt_instances(samples)
        stride = self.mask_head.stride
        canvas = (finest[0] * stride, finest[1] * stride)
        return [self._image_objects(gt, meta, canvas) for gt, meta in zip(gt_instances, metas)]

    def _image_objects(self, gt: InstanceData, meta: dict, canvas: tuple[int, int]) -> InstanceData:
        boxes = gt.bboxes if torch.is_tensor(gt.bboxes) else gt.bboxes.tensor
        if 'masks' not in gt:
            raise ValueError(
                'EmbedMask learns from masks: set with_mask=True in LoadAnnotations '
                f'(image {meta.get("img_path", meta.get("img_id"))})'
            )
        masks = gt.masks
        if not torch.is_tensor(masks):
            masks = masks.to_tensor(dtype=torch.bool, device=boxes.device)
        masks = masks.bool()[:, : canvas[0], : canvas[1]]
        masks = F.pad(masks, (0, canvas[1] - masks.shape[2], 0, canvas[0] - masks.shape[1]))
        return InstanceData(bboxes=boxes.float(), labels=gt.labels, masks=masks)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Add ``pred_instances`` with ``bboxes``, ``scores``, ``labels`` and ``masks`` to the
        samples.

        Args:
            batch_inputs: Tensor[B, 3, H, W].
            batch_data_samples: Samples with ``img_shape``, ``ori_shape`` and ``scale_factor``.
            rescale: Results in pixels of the original image rather than of the network input.
        """
        x = self.extract_feat(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        results, exported = [], []
        for result, meta in zip(self.bbox_head.predict_instances(x, metas), metas):
            boxes = self.bbox_head.export_boxes(result.bboxes, meta, rescale)
            solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            results.append(result[solid])
            exported.append(boxes[solid])
        masks = self.mask_head.predict_masks(x, results, metas, self.bbox_head.position(), rescale)
        for result, boxes, mask in zip(results, exported, masks):
            result.bboxes = boxes
            result.masks = mask
            if not (self.test_cfg or {}).get('keep_embeds', False):
                del result.embeds, result.margins
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None, **kwargs: Any
    ) -> tuple[tuple[list[Tensor], ...], Tensor]:
        """Raw outputs: those of the box head, and the pixel embeddings Tensor[B, D, h, w]."""
        x = self.extract_feat(batch_inputs)
        return self.bbox_head(x), self.mask_head(x, self.bbox_head.position())
