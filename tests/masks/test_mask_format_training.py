"""Train a stock Mask R-CNN for a moment and score it with masks in both formats."""

import json
import sys
from pathlib import Path

import pytest
from locations import ROOT
from mmengine.fileio import load
from tiny_training import run

BASE = """
_base_ = '{root}/configs/refinemask/mask-rcnn_tiny_shapes.py'
truth = '{shapes}/annotations/instances_train.json'
model = dict(
    backbone=dict(base_channels=8), neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=64),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32)))
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(ann_file='annotations/instances_train.json'))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='MaskAPMetric', ann_file=truth)
test_evaluator = [
    dict(type='CocoMetric', ann_file=truth, metric=['bbox', 'segm']),
    dict(type='MaskAPMetric', ann_file=truth, prefix='masks')]
train_cfg = dict(max_iters={steps}, val_interval=1000)
param_scheduler = [dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=20)]
default_hooks = dict(checkpoint=dict(interval={steps}))
"""
STEPS = 120
FORMATS = {
    'dense': '',
    'hook': "custom_hooks = [dict(type='MaskFormatHook', mask_format='rle')]\n"
    "visualizer = dict(type='RLELocalVisualizer')\n",
    'head': "model = dict(roi_head=dict(mask_head=dict(type='RLEFCNMaskHead')))\n",
}


@pytest.mark.slow
def test_a_trained_mask_rcnn_scores_the_same_in_both_formats(tmp_path: Path) -> None:
    shapes = tmp_path / 'shapes'
    run(sys.executable, ROOT / 'tools' / 'make_shapes.py', shapes, '--num', 4, '--size', 96)
    base = tmp_path / 'base.py'
    base.write_text(BASE.format(root=ROOT, shapes=shapes, steps=STEPS))
    work = tmp_path / 'work'
    place = dict(folder=tmp_path, MMREFINE_SHAPES=str(shapes))
    run('mim', 'train', 'mmdet', base, '--gpus', 0, '--work-dir', work, **place)

    numbers, dumps = {}, {}
    for name, more in FORMATS.items():
        config, out = tmp_path / f'{name}.py', tmp_path / f'out_{name}'
        config.write_text("_base_ = './base.py'\n" + more)
        options = ['--work-dir', out]
        if name != 'head':
            dumps[name] = tmp_path / f'{name}.pkl'
            options += ['--out', dumps[name], '--show-dir', 'drawn']
        checkpoint = ('--checkpoint', work / f'iter_{STEPS}.pth', '--gpus', 0)
        run('mim', 'test', 'mmdet', config, *checkpoint, *options, **place)
        scores = json.loads(next(out.glob('*/*.json')).read_text())
        numbers[name] = {k: v for k, v in scores.items() if 'time' not in k}
        if name != 'head':
            assert len(list(out.glob('*/drawn/*'))) == 4
    assert numbers['dense'] == numbers['hook'] == numbers['head']
    assert numbers['dense']['coco/segm_mAP_50'] > 0
    assert numbers['dense']['masks/boundary_mAP'] > 0
    dense, rle = (load(path) for path in dumps.values())
    for one, other in zip(dense, rle):
        assert one['pred_instances']['masks'] == other['pred_instances']['masks']
