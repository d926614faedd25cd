"""Stock Mask R-CNN through ``mim``: both mask formats give the same files and numbers."""

import json
import sys
from pathlib import Path

import pytest
from locations import ROOT
from tiny_training import run

CONFIG = """
_base_ = '{root}/configs/refinemask/mask-rcnn_tiny_shapes.py'
train_cfg = dict(max_iters=30, val_interval=30)
test_evaluator = dict(
    _delete_=True,
    type='MaskAPMetric',
    ann_file='{shapes}/annotations/instances_val.json',
    outfile_prefix='{folder}/{form}',
)
model = dict(test_cfg=dict(rcnn=dict(score_thr=0.01)))
custom_hooks = [dict(type='MaskFormatHook', mask_format='{form}')]
"""


@pytest.mark.slow
def test_both_mask_formats_give_equal_scores(tmp_path: Path) -> None:
    shapes = tmp_path / 'shapes'
    run(sys.executable, ROOT / 'tools' / 'make_shapes.py', shapes, '--num', 24, '--size', 96)
    found = {}
    for form in ('dense', 'rle'):
        config = tmp_path / f'{form}.py'
        config.write_text(CONFIG.format(root=ROOT, shapes=shapes, folder=tmp_path, form=form))
        if form == 'dense':
            call = ('mim', 'train', 'mmdet', config, '--gpus', 0, '--work-dir', tmp_path / 'train')
            run(*call, folder=tmp_path, MMREFINE_SHAPES=str(shapes))
        checkpoint = ('--checkpoint', tmp_path / 'train' / 'iter_30.pth', '--gpus', 0)
        call = ('mim', 'test', 'mmdet', config, *checkpoint, '--work-dir', tmp_path / form)
        run(*call, folder=tmp_path, MMREFINE_SHAPES=str(shapes))
        (log,) = (tmp_path / form).glob('*/*.json')
        numbers = json.loads(log.read_text())
        scores = {k: v for k, v in numbers.items() if k.startswith('coco/')}
        results = json.loads((tmp_path / f'{form}.segm.json').read_text())
        found[form] = (scores, results)
    scores, results = found['dense']
    assert len(results) > 0 and 'coco/boundary_mAP' in scores
    assert found['rle'] == found['dense']
