"""The SipMask-VIS video model: a SipMask detector whose batch has a time axis.

Paper:    SipMask: Spatial Information Preservation for Fast Image and Video Instance Segmentation,
          https://arxiv.org/abs/2007.14772, section 3.4.
Origin:   JialeCao001/SipMask, ``SipMask-VIS`` (MIT); weights: no licence stated.

Shapes:   B videos, T frames, n detections of one frame.
"""

from collections.abc import Hashable
from typing import Any

import torch
from mmdet.models.mot import BaseMOTModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, OptSampleList, TrackDataSample, TrackSampleList
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.layers import require_finite
from mmrefine.masks import output_size
from mmrefine.sipmask.box_head import SipMaskOutputs
from mmrefine.sipmask.detector import SipMask
from mmrefine.sipmask.postprocess import output_boxes

from .track_head import box_centers, jittered_centers, reference_index
from .tracker import DROPPED, FrameObjects


@MODELS.register_module()
class SipMaskVIS(SipMask, BaseMOTModel):
    """Single-stage video instance segmentation, one frame at a time.

    The network is the image model with one more head, so weights of an image model load into it by
    name and the other way round. Frames may come one by one or as whole clips, of several videos in
    turn; what joins them is kept by the tracker alone.

    Args:
        track_head: ``SipMaskTrackHead`` config.
        tracker: ``SipMaskTracker`` config.
        **kwargs: See ``SipMask``; ``data_preprocessor`` is a ``TrackDataPreprocessor``.
    """

    def __init__(
        self, track_head: ConfigType, tracker: ConfigType | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.track_head = MODELS.build(track_head)
        self.tracker = MODELS.build(tracker or {'type': 'SipMaskTracker'})

    def train(self, mode: bool = True) -> 'SipMaskVIS':
        """Switch the mode; either way the tracker begins anew."""
        self.tracker.reset()
        return super().train(mode)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None
    ) -> tuple[SipMaskOutputs | Tensor, ...]:
        """Raw outputs of all heads; clips Tensor[B, T, 3, H, W] or frames Tensor[N, 3, H, W]."""
        x = self.extract_feat(batch_inputs.reshape(-1, *batch_inputs.shape[-3:]))
        outputs = self.bbox_head(x)
        return outputs, self.mask_head(outputs.features), self.track_head(x)

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: TrackSampleList, **kwargs: Any
    ) -> dict[str, Tensor]:
        """All losses of a batch of frame pairs.

        Args:
            batch_inputs: Tensor[B, 2, 3, H, W], normalised and padded.
            batch_data_samples: B pairs, each with one key frame and one reference frame whose
                ``gt_instances`` have ``instances_ids``.
        """
        if batch_inputs.dim() != 5 or batch_inputs.shape[1] != 2:
            raise ValueError(
                f'training takes pairs of frames, Tensor[B, 2, 3, H, W], got {batch_inputs.shape}: '
                'sample them with UniformRefFrameSample(num_ref_imgs=1)'
            )
        key_at = [_only(sample, 'key_frames_inds') for sample in batch_data_samples]
        ref_at = [_only(sample, 'ref_frames_inds') for sample in batch_data_samples]
        batch = range(len(batch_data_samples))
        keys = [batch_data_samples[b][key_at[b]] for b in batch]
        refs = [batch_data_samples[b][ref_at[b]].gt_instances for b in batch]
        # Key frames first: (2 B, 3, H, W).
        images = torch.cat((batch_inputs[batch, key_at], batch_inputs[batch, ref_at]))
        x = self.extract_feat(images)
        key_x = tuple(level[: len(keys)] for level in x)
        losses, samples = self.loss_by_feat(key_x, keys)
        embeds, ref_embeds = self.track_head(x).chunk(2)  # (B, E, h, w) each
        centers = [jittered_centers(ref.bboxes, self.track_head.jitter) for ref in refs]
        identities = [
            reference_index(key.gt_instances.instances_ids, ref.instances_ids)
            for key, ref in zip(keys, refs)
        ]
        losses.update(
            self.track_head.loss_by_feat(embeds, samples, ref_embeds, centers, identities)
        )
        return losses

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: TrackSampleList,
        rescale: bool = True,
        **kwargs: Any,
    ) -> TrackSampleList:
        """Objects of every frame, with ids.

        Args:
            batch_inputs: Tensor[B, T, 3, H, W], normalised and padded.
            batch_data_samples: B clips; ``video_id`` and ``frame_id`` of their frames tell the
                tracker where they belong. Without ``video_id``, as ``mmdet.apis.inference_mot``
                gives frames, clip i of every call goes on with the same video.
            rescale: Results in pixels of the original frames instead of the network input.

        Returns:
            The samples with ``pred_track_instances`` in every frame: ``bboxes``, ``scores``,
            ``labels``, ``masks`` and ``instances_id``, each id once.
        """
        for t in range(batch_inputs.shape[1]):
            frames = [sample[t] for sample in batch_data_samples]
            self.predict_frames(batch_inputs[:, t], frames, rescale)
        return batch_data_samples

    def predict_frames(
        self,
        images: Tensor,
        frames: list[DetDataSample],
        rescale: bool = True,
        mask_cfg: ConfigType | None = None,
    ) -> list[DetDataSample]:
        """The same for one frame Tensor[B, 3, H, W] of each of B videos; ``mask_cfg`` defaults to
        the mask head's ``test_cfg``."""
        x = self.extract_feat(images)
        metas = [frame.metainfo for frame in frames]
        outputs = self.bbox_head(x)
        results = self.bbox_head.predict_by_feat(outputs, metas)
        towers = self.track_head.towers(x)
        # Ids come before masks: detections without one need none.
        kept, named = [], []
        for at, (frame, result) in enumerate(zip(frames, results)):
            video = frame.metainfo.get('video_id', f'clip {at}')
            ids = self.identify(result, [level[at] for level in towers], frame.metainfo, video)
            keep = last_of_each(ids)
            kept.append(result[keep])
            named.append(ids[keep])
        basis = self.mask_head(outputs.features)
        instances = self.mask_head.predict_by_feat(basis, kept, metas, rescale, mask_cfg)
        for frame, found, ids in zip(frames, instances, named):
            found.instances_id = ids
            frame.pred_track_instances = found
        return frames

    def identify(
        self, result: InstanceData, towers: list[Tensor], meta: dict, video: Hashable
    ) -> Tensor:
        """Ids LongTensor[n] of a frame's detections, -1 for those the tracker drops.

        Detections in pixels of the network input, and tower maps, see
        ``SipMaskTrackHead.embed_cells``.
        """
        # Matching compares boxes of original frames, whose network inputs may differ in size.
        rule = {**(self.bbox_head.test_cfg or {}), 'box_export_offset': 0}
        found = FrameObjects(
            output_boxes(result.bboxes, meta, True, rule),
            result.scores,
            result.labels,
            self.track_head.embed_cells(towers, box_centers(result.bboxes)),
        )
        if 'frame_id' not in meta:
            raise KeyError('a frame has no frame_id: keep it in the meta_keys of PackTrackInputs')
        require_finite('track embeddings', found.embeds)
        size = output_size(meta, rescale=True)
        return self.tracker.track(video, int(meta['frame_id']), found, size)


def _only(sample: TrackDataSample, key: str) -> int:
    found = sample.metainfo.get(key, [])
    if len(found) != 1:
        raise ValueError(
            f'a training pair needs exactly one frame in {key}, got {list(found)}: sample pairs '
            'with UniformRefFrameSample(num_ref_imgs=1)'
        )
    return int(found[0])


def last_of_each(ids: Tensor) -> Tensor:
    """Positions of named detections; of several with one id (parity) only the last."""
    rank = torch.arange(len(ids), device=ids.device)
    repeated = ((ids[:, None] == ids[None, :]) & (rank[None, :] > rank[:, None])).any(dim=1)
    return rank[(ids != DROPPED) & ~repeated]
