"""Replays whole RefineMask detectors: the recorded MMDetection 2.3 configuration, translated, in
MMDetection 3.3."""

import copy
import json

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from .golden import Golden
from .report import Report, relative

PIXEL_SHARE = 2e-4


def translate(model: dict) -> dict:
    """MMDetection 3.3 form of a 2.3 two-stage model configuration."""
    model = copy.deepcopy(model)
    model.pop('pretrained', None)
    roi_head = model['roi_head']
    for key in ('train_cfg', 'test_cfg'):
        roi_head.pop(key, None)
    for proposal in (model['train_cfg']['rpn_proposal'], model['test_cfg']['rpn']):
        threshold = proposal.pop('nms_thr')
        limit = proposal.pop('nms_post')
        for key in ('nms_across_levels', 'max_num'):
            proposal.pop(key, None)
        # Parity: 2.3 keeps proposals without area, 3.3 does so only for a negative minimum
        proposal.update(
            nms=dict(type='nms', iou_threshold=threshold), max_per_img=limit, min_bbox_size=-1
        )
    return model


def _build(golden: Golden, device: torch.device) -> nn.Module:
    settings = golden.settings
    model = dict(settings['model'], train_cfg=settings['train_cfg'], test_cfg=settings['test_cfg'])
    detector = MODELS.build(ConfigDict(translate(model)))
    detector.load_state_dict(golden.state_dict(), strict=True)
    return detector.to(device)


def _sample(
    image_hw: tuple[int, int], img_shape: np.ndarray, ori_hw: np.ndarray, scale: tuple
) -> DetDataSample:
    return DetDataSample(
        metainfo=dict(
            img_shape=tuple(int(n) for n in img_shape),
            ori_shape=tuple(int(n) for n in ori_hw),
            batch_input_shape=image_hw,
            pad_shape=image_hw,
            scale_factor=scale,
        )
    )


def _check_training(
    golden: Golden, report: Report, detector: nn.Module, device: torch.device
) -> None:
    images = golden.tensor('in/img', device)
    hw = (images.shape[-2], images.shape[-1])
    samples = []
    for b in range(len(images)):
        shape = golden[f'in/img_shape_{b}']
        sample = _sample(hw, shape, shape, (1.0, 1.0))
        polygons = json.loads(str(golden[f'in/train/gt_polygons_{b}']))
        masks = PolygonMasks([[np.array(p) for p in parts] for parts in polygons], *hw)
        sample.gt_instances = InstanceData(
            bboxes=golden.tensor(f'in/train/gt_bboxes_{b}', device).float(),
            labels=golden.tensor(f'in/train/gt_labels_{b}', device),
            masks=masks,
        )
        samples.append(sample)
    losses = detector.train().loss(images, samples)
    for name in golden.keys_under('out/train'):
        if name.startswith('loss_') or name == 'acc':
            ours = losses[name]
            ours = sum(ours) if isinstance(ours, list) else ours
            report.close(
                f'training: {name}', ours.reshape(()), golden[f'out/train/{name}'], rtol=1e-5
            )
    total, _ = detector.parse_losses(losses)
    report.close('training: total', total, golden['out/train/loss'], rtol=1e-5)
    total.backward()
    parameters = dict(detector.named_parameters())
    gradients = [parameters[str(name)].grad for name in golden['out/train/grad_names']]
    norms = np.array([0.0 if g is None else float(g.double().norm()) for g in gradients])
    ratios = relative(norms, golden['out/train/grad_l2'])
    report.close('training: gradient norms', ratios, np.ones_like(ratios), rtol=1e-3)


def _check_test(golden: Golden, report: Report, detector: nn.Module, device: torch.device) -> None:
    images = golden.tensor('in/img', device)
    hw = (images.shape[-2], images.shape[-1])
    detector.eval()
    for tag in sorted({key.split('/')[0] for key in golden.keys_under('out/test')}):
        b = int(tag.rsplit('_', 1)[1])
        scale = tuple(float(s) for s in golden[f'in/test/{tag}/scale_factor'][:2])
        sample = _sample(hw, golden[f'in/img_shape_{b}'], golden[f'in/test/{tag}/ori_hw'], scale)
        with torch.no_grad():
            feats = detector.extract_feat(images[b : b + 1])
            proposals = detector.rpn_head.predict(feats, [sample], rescale=False)
            recorded = golden[f'out/test/{tag}/proposals']
            report.close(f'{tag}: proposals', proposals[0].bboxes, recorded[:, :4], atol=1e-3)
            results = detector.roi_head.predict(feats, proposals, [sample], rescale=True)[0]
        boxes = golden[f'out/test/{tag}/det_bboxes']
        report.close(f'{tag}: boxes', results.bboxes, boxes[:, :4], atol=1e-3)
        report.close(f'{tag}: scores', results.scores, boxes[:, 4], atol=1e-5)
        report.exact(f'{tag}: labels', results.labels, golden[f'out/test/{tag}/det_labels'])
        masks = golden[f'out/test/{tag}/masks']
        report.exact(f'{tag}: masks', results.masks, masks, max_share=PIXEL_SHARE)


def check_detector(golden: Golden, report: Report, device: torch.device) -> None:
    """Losses, gradients, proposals, detections and masks of a whole detector."""
    detector = _build(golden, device)
    _check_training(golden, report, detector, device)
    _check_test(golden, report, detector, device)
