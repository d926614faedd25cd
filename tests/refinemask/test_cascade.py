"""One RefineMask head on the boxes of a cascade."""

import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from tiny_refinemask import BOXES, NARROW, images, sample


def cascade() -> torch.nn.Module:
    """The mixed config at a quarter of the width, with a small backbone."""
    model = Config.fromfile(ROOT / 'configs/mixed/refinemask-cascade_r50_fpn_1x_coco.py').model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    head = model.roi_head
    head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = 16
    for stage in head.bbox_head:
        stage.update(in_channels=16, fc_out_channels=16, num_classes=3)
    head.mask_head = ConfigDict(NARROW, type='RefineMaskHead')
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=4)
    return MODELS.build(model)


def test_losses_of_the_only_mask_head_keep_their_weight() -> None:
    detector = cascade()
    losses = detector.loss(images(2), [sample(BOXES), sample([])])
    masks = {k: v for k, v in losses.items() if 'instance' in k or 'semantic' in k}
    assert set(masks) == {'s2.loss_instance', 's2.loss_semantic'}
    # four untrained terms of about log 2 each, not a quarter of it
    assert masks['s2.loss_instance'] > 1.0
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert all(p.grad is not None for p in detector.roi_head.mask_head.parameters())


def test_a_last_stage_without_weight_trains_no_masks() -> None:
    detector = cascade()
    detector.roi_head.stage_loss_weights = [1, 0.5, 0]
    losses = detector.loss(images(2), [sample(BOXES), sample([])])
    assert losses['s2.loss_instance'] == losses['s2.loss_semantic'] == 0


def test_predicts_masks_for_the_final_boxes() -> None:
    detector = cascade().eval()
    with torch.no_grad():
        result = detector.predict(images(1), [sample(BOXES)])[0].pred_instances
    assert len(result) and result.masks.shape[1:] == (96, 128)
