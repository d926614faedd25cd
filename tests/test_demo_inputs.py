"""Every config takes what MMDetection's own detector tests feed: `mmdet.testing.demo_mm_inputs`.

Scale factors are arrays there; shapes come with channels here, as some pipelines write them.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from locations import ROOT
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.testing import demo_mm_inputs, demo_track_inputs
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import nn

CONFIGS = ROOT / 'configs'
LEAVES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
# Schedules, depths and data of a family: the models differ in nothing that a small one keeps.
REPEATED = re.compile(
    r'r101|_2x|-3x|-4x|-10x|coco2014|lvis|cityscapes|2021|regnet|x101|pafpn|nuclei|fruit|mini|mobilenetv2'
)
WINDOWS = ('DeepMask', 'SharpMask')


def param(path: Path) -> object:
    name = path.relative_to(CONFIGS).with_suffix('').as_posix()
    return pytest.param(path, id=name, marks=[pytest.mark.slow] if REPEATED.search(name) else [])


def small_model(model: ConfigDict) -> nn.Module:
    """Narrow layers, random weights; models on MobileNetV2 are small as they are."""
    torch.manual_seed(0)
    code = dict(code_channels=16)
    if model.backbone.type == 'MobileNetV2':
        model.backbone.init_cfg = None
    elif model.type in WINDOWS:
        model.backbone.update(depth=18, base_channels=8, init_cfg=None)
        model.mask_head.update(code, in_channels=32, reduce_channels=8, score_channels=16)
        if 'refine_head' in model:
            model.refine_head.update(code, feature_channels=(32, 16, 8, 8))
    else:
        shrink(model)
    detector = MODELS.build(model)
    detector.init_weights()
    return detector


def classes_of(model: nn.Module) -> int:
    """Fewest classes of any head; 1 without any."""
    found = [getattr(module, 'num_classes', None) for module in model.modules()]
    return min((classes for classes in found if classes), default=1)


def frames(samples: list) -> list[DetDataSample]:
    """Samples of all pictures, of clips or of single ones."""
    return [frame for s in samples for frame in getattr(s, 'video_data_samples', [s])]


def demo_inputs(model: nn.Module, training: bool) -> dict:
    """What the model's preprocessor gives for the demo inputs."""
    if hasattr(model, 'tracker'):
        shapes = [(3, 128, 128)] * 2
        data = demo_track_inputs(2, 2, [0], shapes, num_classes=2, with_mask=True)
    else:
        # YOLACT of MMDetection compares anchors of a batch, so pictures need one size
        second = (3, 128, 128) if type(model).__name__ == 'YOLACT' else (3, 125, 99)
        shapes = [(3, 128, 128), second]
        data = demo_mm_inputs(2, shapes, with_mask=True, with_semantic=True)
    for sample in frames(data['data_samples']):
        gt = sample.gt_instances
        gt.labels %= classes_of(model)
        if 'gt_sem_seg' in sample:
            sample.gt_sem_seg.sem_seg %= classes_of(model)
        if not getattr(model, 'with_rpn', True):  # Fast R-CNN
            sample.proposals = InstanceData(bboxes=gt.bboxes.clone())
        sample.set_metainfo(dict(ori_shape=(*sample.ori_shape, 3)))
        # the queries of MMDetection's QueryInst unpack the shape into two
        if not training and not hasattr(getattr(model, 'rpn_head', None), 'num_proposals'):
            sample.set_metainfo(dict(img_shape=(*sample.img_shape, 3)))
    return model.data_preprocessor(data, training)


@pytest.mark.parametrize('path', [param(path) for path in LEAVES])
def test_takes_demo_inputs(path: Path) -> None:
    config = Config.fromfile(path)
    model = MODELS.build(config.model) if 'tiny' in path.name else small_model(config.model)
    if config.model.type not in WINDOWS:  # these learn from patches
        _, losses = model.parse_losses(model(**demo_inputs(model.train(), True), mode='loss'))
        assert all(value.isfinite() for value in losses.values()), losses
    model.eval()
    with torch.no_grad():
        results = model(**demo_inputs(model, False), mode='predict')
        if config.model.type not in WINDOWS:
            assert model(**demo_inputs(model, False), mode='tensor') is not None
    for result in frames(results):
        assert isinstance(result.scale_factor, np.ndarray)
        found = result.get('pred_track_instances', result.get('pred_instances'))
        for mask in found.get('masks', []):
            size = mask['size'] if isinstance(mask, dict) else mask.shape
            assert tuple(size) == result.ori_shape[:2]
