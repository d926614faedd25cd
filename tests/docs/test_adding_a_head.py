"""The worked example of docs/adding_a_head.md, written to files and run as a reader would."""

import re
import sys
from pathlib import Path

import doc_pages
import pytest
from locations import ROOT
from tiny_training import run

PAGE = ROOT / 'docs' / 'adding_a_head.md'
# Loss and predict step of the config, made small; prints what came out.
STEP = """
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmrefine.masks.stock_heads import set_mask_format
import numpy as np

config = Config.fromfile('my_config.py')
init_default_scope('mmdet')
small = {
    'backbone.depth': 18, 'backbone.base_channels': 8, 'backbone.init_cfg': None,
    'neck.in_channels': [8, 16, 32, 64], 'neck.out_channels': 16,
    'rpn_head.in_channels': 16, 'rpn_head.feat_channels': 16,
    'roi_head.bbox_roi_extractor.out_channels': 16, 'roi_head.bbox_head.in_channels': 16,
    'roi_head.bbox_head.fc_out_channels': 32, 'roi_head.mask_roi_extractor.out_channels': 16,
    'roi_head.mask_head.in_channels': 16, 'roi_head.mask_head.conv_out_channels': 16,
    'test_cfg.rcnn.score_thr': 0.0, 'test_cfg.rcnn.max_per_img': 5,
}
config.merge_from_dict({f'model.{key}': value for key, value in small.items()})
torch.manual_seed(0)
model = MODELS.build(config.model)
model.init_weights()
mask = np.zeros((1, 64, 64), np.uint8)
mask[:, 10:40, 10:50] = 1
sample = DetDataSample(metainfo=dict(
    img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64),
    scale_factor=(1.0, 1.0), img_id=0))
sample.gt_instances = InstanceData(
    bboxes=torch.tensor([[10.0, 10, 50, 40]]), labels=torch.tensor([2]),
    masks=BitmapMasks(mask, 64, 64))
image = torch.rand(1, 3, 64, 64)
losses = model.loss(image, [sample])
losses['loss_mask'].backward()
weights = model.roi_head.mask_head.parameters()
grads = [w.grad is not None and bool(w.grad.abs().sum() > 0) for w in weights]
print('head', type(model.roi_head.mask_head).__name__)
print('loss', 0 < losses['loss_mask'].item() < 10, 'gradients', all(grads))
set_mask_format(model, config.custom_hooks[0].mask_format)
with torch.no_grad():
    found = model.eval().predict(image, [sample])[0].pred_instances
print('masks', len(found) > 0, {tuple(rle['size']) for rle in found.masks})
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page; the first line of a block names its file."""
    folder = tmp_path_factory.mktemp('reader')
    for block in doc_pages.blocks(PAGE, 'python'):
        title = re.match(r'# (\w+\.py)\n', block.text)
        assert title, f'line {block.line}: the block does not name its file'
        (folder / title[1]).write_text(block.text)
    return folder


def test_the_page_writes_three_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= {
        'my_head.py',
        'my_config.py',
        'test_my_head.py',
    }
    lines = [line for line in (folder / 'my_head.py').read_text().splitlines() if line.strip()]
    assert len(lines) <= 35


def test_a_loss_and_a_predict_step_run(folder: Path) -> None:
    (folder / 'step.py').write_text(STEP)
    printed = run(sys.executable, 'step.py', folder=folder, PYTHONPATH=str(folder))
    assert 'head DepthwiseMaskHead' in printed
    assert 'loss True gradients True' in printed
    assert 'masks True {(64, 64)}' in printed


def test_the_readers_tests_pass(folder: Path) -> None:
    command = (sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_my_head.py')
    printed = run(*command, folder=folder, PYTHONPATH=str(folder))
    assert '2 passed' in printed
