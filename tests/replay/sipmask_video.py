"""Replays recordings of SipMask-VIS: training on frame pairs, tracking, the association alone.

Tolerances as for the image model; ids, labels and counts are exact.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.checkpoint import rename
from mmrefine.fcos import pairwise_iou
from mmrefine.sipmask.checkpoint import RULES, convert_mmdet
from mmrefine.sipmask.postprocess import output_boxes
from mmrefine.sipmask.video.detector import last_of_each
from mmrefine.sipmask.video.track_head import SipMaskTrackHead, box_centers, match_logits
from mmrefine.sipmask.video.tracker import (
    FrameObjects,
    MatchRule,
    SipMaskTracker,
    TrackMemory,
    match_scores,
)

from .golden import Golden
from .report import Report
from .run import Reader
from .sipmask_heads import (
    MMDET_ACCURATE,
    MMDET_BOX_HEAD,
    MMDET_MASK_HEAD,
    Replay,
    box_head,
    mask_head,
    settings,
)
from .sipmask_images import (
    bits,
    check_forward,
    check_gradients,
    check_samples,
    compare,
    features,
    gt_instances,
)

VIDEO_BOX_HEAD = {**MMDET_BOX_HEAD, 'box_loss_in_pixels': True}
VIDEO_TEST = {
    **MMDET_ACCURATE,
    'nms_pre': 200,
    'score_thr': 0.03,
    'nms': {'type': 'fast', 'iou_threshold': 0.5, 'top_k': 200},
    'max_per_img': 10,
    'mask_thr': 0.5,
}
VIDEO_TRACKER: dict[str, Any] = {
    'iou_offset': 1.0,
    'share_ids': True,
    'update_labels': False,
    'max_objects': None,
    'keep_memory_without_detections': True,
}
LEVELS = 3


class VideoReplay(Replay):
    """The three heads with recorded weights."""

    def __init__(self, golden: Golden, device: torch.device) -> None:
        cfg = settings(golden)
        weights = golden.state_dict()
        tracking = {key: value for key, value in weights.items() if 'track' in key}
        rest = {key: value for key, value in weights.items() if key not in tracking}
        heads = box_head(golden, VIDEO_BOX_HEAD), mask_head(golden, MMDET_MASK_HEAD)
        super().__init__(*heads, rest, 'bbox_head.', convert_mmdet, device)
        channels = cfg['feat_channels']
        self.track = SipMaskTrackHead(channels, channels, embed_channels=cfg.get('track_dim', 512))
        named = nn.ModuleDict({'track_head': self.track.to(device)})
        named.load_state_dict(
            {rename(f'bbox_head.{key}', RULES): value for key, value in tracking.items()},
            strict=True,
        )
        self.parameters |= dict(named.named_parameters())


def check_training(golden: Golden, report: Report, device: torch.device) -> None:
    """Forward, samples, embeddings, all losses and gradients of a batch of pairs."""
    replay = VideoReplay(golden, device)
    feats = features(golden, device)
    ref_feats = [golden.tensor(f'in/ref_feat{level}', device) for level in range(LEVELS)]
    gts = gt_instances(golden, device, len(feats[0]))
    outputs = replay.box(feats)
    basis = replay.mask(outputs.features)
    check_forward(golden, report, replay, outputs, basis, 'out')
    embeds, ref_embeds = replay.track(feats), replay.track(ref_feats)
    compare(report, golden, 'out/track_feats', embeds, atol=1e-5, rtol=1e-4)
    compare(report, golden, 'out/track_feats_ref', ref_embeds, atol=1e-5, rtol=1e-4)
    losses, positives = replay.box.loss_by_feat(outputs, gts)
    samples = replay.mask.select(positives, gts)
    check_samples(golden, report, replay, basis, samples)
    meta = {'img_shape': tuple(settings(golden)['pad_hw'])}
    losses |= replay.mask.loss_by_feat(basis, samples, gts, [meta] * len(gts))
    boxes = [golden.tensor(f'in/ref_bboxes_jittered{b}', device) for b in range(len(gts))]
    centers = [box_centers(each) for each in boxes]
    pids = [golden.tensor(f'in/gt_pids{b}', device) for b in range(len(gts))]
    losses |= replay.track.loss_by_feat(embeds, samples, ref_embeds, centers, pids)
    check_embeddings(golden, report, replay, samples, embeds, ref_embeds, centers)
    for name, loss in losses.items():
        report.close(f'out/loss/{name}', loss, golden[f'out/loss/{name}'], rtol=1e-5)
    total = sum(loss for name, loss in losses.items() if name.startswith('loss_'))
    report.close('out/loss/total', total, golden['out/loss/total'], rtol=1e-5)
    check_gradients(golden, report, replay, feats, losses['loss_match'], 'out/grad_loss_match')
    check_gradients(golden, report, replay, feats, total, 'out/grad_total')


def check_embeddings(
    golden: Golden,
    report: Report,
    replay: VideoReplay,
    samples: list[InstanceData],
    embeds: Tensor,
    ref_embeds: Tensor,
    centers: list[Tensor],
) -> None:
    """Compare what is read from the maps, and the products, of every pair."""
    for b, sample in enumerate(samples):
        current = replay.track.embed(embeds[b], box_centers(sample.bboxes))
        reference = replay.track.embed(ref_embeds[b], centers[b])
        report.close(
            f'cur_track_boxes{b}', sample.bboxes, golden[f'out/cur_track_boxes{b}'], rtol=1e-4
        )
        compare(report, golden, f'out/cur_track_embed{b}', current, atol=1e-5, rtol=1e-4)
        compare(report, golden, f'out/ref_track_embed{b}', reference, atol=1e-5, rtol=1e-4)
        products = match_logits(current, reference)[:, 1:]
        recorded = golden[f'out/match_logits{b}']
        report.close(f'match_logits{b}', products, recorded, atol=1e-5, rtol=1e-4)


def check_clip(golden: Golden, report: Report, device: torch.device) -> None:
    """A clip through all heads: detections, ids, score matrices, memory and masks."""
    replay = VideoReplay(golden, device)
    recorded = settings(golden)
    cfg = VIDEO_TEST | {key: recorded[key] for key in ('nms_pre', 'score_thr', 'mask_thr')}
    cfg['max_per_img'] = recorded['max_per_img']
    cfg['nms'] = {'type': 'fast', 'iou_threshold': recorded['iou_thr'], 'top_k': 200}
    scale = golden['in/scale_factor'].tolist()
    meta = {
        'img_shape': tuple(golden['in/img_shape'].tolist()[:2]),
        'ori_shape': tuple(golden['in/ori_shape'].tolist()[:2]),
        'scale_factor': (scale[0], scale[-1]),
    }
    tracker = SipMaskTracker(**VIDEO_TRACKER)
    video = 0
    for frame, first in enumerate(golden['in/is_first'].tolist()):
        video += first
        feats = [golden.tensor(f'in/frame{frame}/feat{level}', device) for level in range(5)]
        with torch.no_grad():
            outputs = replay.box(feats)
            result = replay.box.predict_by_feat(outputs, [meta], cfg)[0]
            towers = [level[0] for level in replay.track.towers(feats)]
            embeds = replay.track.embed_cells(towers, box_centers(result.bboxes))
            found = FrameObjects(
                output_boxes(result.bboxes, meta, True, cfg),
                result.scores,
                result.labels,
                embeds,
            )
            at = f'out/frame{frame}'
            boxes = golden[f'{at}/det_bboxes']
            report.close(f'{at}/boxes', found.boxes, boxes[:, :4], rtol=1e-4)
            report.close(f'{at}/scores', found.scores, boxes[:, 4], rtol=1e-4)
            report.exact(f'{at}/det_labels', found.labels, golden[f'{at}/det_labels'])
            ids = check_step(golden, report, tracker, (video, frame), found, meta['ori_shape'], at)
            keep = last_of_each(ids)
            keep = keep[ids[keep].argsort()]
            basis = replay.mask(outputs.features)
            kept = replay.mask.predict_by_feat(basis, [result[keep]], [meta], True, cfg)[0]
        report.exact(f'{at}/mask_obj_ids', ids[keep], golden[f'{at}/mask_obj_ids'])
        masks = bits(golden, f'{at}/masks', torch.device('cpu'))
        report.exact(f'{at}/masks', kept.masks, masks, max_share=1e-4)


def check_step(
    golden: Golden,
    report: Report,
    tracker: SipMaskTracker,
    place: tuple[Hashable, int],
    found: FrameObjects,
    size: tuple[int, int],
    at: str,
) -> Tensor:
    """Track one frame; compare score matrix, ids and memory with those recorded under ``at``."""
    before = tracker.memory(place[0])
    if f'{at}/comp_scores' in golden:
        if before is None:
            # Only with the original's leak can a first frame meet a memory.
            report.check(f'{at}: a memory to compare with', False)
            before = TrackMemory.empty(found, size)
        scores = match_scores(before, found, tracker.rule)
        report.close(f'{at}/comp_scores', scores, golden[f'{at}/comp_scores'], rtol=1e-4)
        check_terms(golden, report, before, found, tracker.rule, at)
    ids = tracker.track(*place, found, size)
    memory = tracker.memory(place[0])
    recorded = golden[f'{at}/obj_ids'] if f'{at}/obj_ids' in golden else np.zeros(0, np.int64)
    report.exact(f'{at}/obj_ids', ids, recorded)
    if f'{at}/memory_size' in golden:
        report.exact(f'{at}/memory_size', len(memory.ids), golden[f'{at}/memory_size'])
    if f'{at}/memory_labels' in golden:
        boxes = golden[f'{at}/memory_bboxes'][:, :4]
        report.close(f'{at}/memory_bboxes', memory.boxes, boxes, rtol=1e-4)
        report.exact(f'{at}/memory_labels', memory.labels, golden[f'{at}/memory_labels'])
        compare(report, golden, f'{at}/memory_embed', memory.embeds, atol=1e-5, rtol=1e-4)
    return ids


def check_terms(
    golden: Golden,
    report: Report,
    before: TrackMemory,
    found: FrameObjects,
    rule: MatchRule,
    at: str,
) -> None:
    """Compare the terms of the score that are recorded one by one."""
    terms = {
        'match_logprob': match_logits(found.embeds, before.embeds).log_softmax(dim=1),
        'bbox_iou': pairwise_iou(found.boxes, before.boxes, rule.iou_offset),
        'label_delta': (found.labels[:, None] == before.labels).float(),
    }
    for name, ours in terms.items():
        if f'{at}/{name}' in golden:
            report.close(f'{at}/{name}', ours, golden[f'{at}/{name}'], atol=1e-5, rtol=1e-4)


def check_association(golden: Golden, report: Report, device: torch.device) -> None:
    """The association alone on recorded detections, and the tracks that come of it."""
    tracker = SipMaskTracker(**VIDEO_TRACKER)
    size = tuple(settings(golden)['hw'])
    frames = sorted({key.split('/')[1] for key in golden if key.startswith('in/f')})
    video, number = 0, 0
    tracks: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
    for name in frames:
        if golden[f'in/{name}/is_first']:
            video, number = video + 1, 0
        boxes = golden.tensor(f'in/{name}/det_bboxes', device)
        labels = golden.tensor(f'in/{name}/det_labels', device)
        embeds = golden.tensor(f'in/{name}/det_embed', device)
        found = FrameObjects(boxes[:, :4], boxes[:, 4], labels, embeds)
        ids = check_step(golden, report, tracker, (video, number), found, size, f'out/{name}')
        # The original writes the tracks of a video in the order of their first appearance, which is
        # not that of their ids where a memory goes on from the video before.
        for track in ids[ids >= 0].tolist():
            tracks.setdefault((video, track), [])
        for at in last_of_each(ids).tolist():
            entry = (number, int(labels[at]), float(boxes[at, 4]))
            tracks[video, int(ids[at])].append(entry)
        number += 1
    check_tracks(golden, report, tracks)


def check_tracks(golden: Golden, report: Report, tracks: dict) -> None:
    """Compare the result file: videos, categories, scores, and in which frames each was seen."""
    keys = list(tracks)
    categories = [np.bincount([part[1] for part in tracks[key]]).argmax() + 1 for key in keys]
    present = [sum(1 << part[0] for part in tracks[key]) for key in keys]
    scores = np.array([np.mean([part[2] for part in tracks[key]]) for key in keys], np.float32)
    report.exact('json_video_id', [key[0] for key in keys], golden['out/json_video_id'])
    report.exact('json_category_id', categories, golden['out/json_category_id'])
    report.exact('json_present', present, golden['out/json_present'])
    report.close('json_score', scores, golden['out/json_score'], rtol=1e-5)


READERS = [
    Reader('video pairs', lambda golden: 'in/ref_feat0' in golden, check_training),
    Reader('video clip', lambda golden: 'in/frame0/feat0' in golden, check_clip),
    Reader('video association', lambda golden: 'in/f00/det_embed' in golden, check_association),
]
