"""Published configs start training from the weights of the originals, layer by layer.

The sources are the constructors of the originals: SipMask-mmdetection sipmask_head.py:226-239 and
SipMask-VIS :234-250, SipMask-benchmark sipmask.py:36-40, 127-139 (what is not named keeps
PyTorch's), EmbedMask embed_mask.py:97-147 and make_layers.py:110, AdelaiDet mask_branch.py:34-64,
embedmask.py:275-358, conv_with_kaiming_uniform.py:36, DeepMask SharpMask.lua:58-118.
"""

import functools
import math
import re

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

FILES = {path.stem: path for path in (ROOT / 'configs').rglob('*.py')}
MARGIN = math.log(math.log(2) / 2**2)
PRIOR = -math.log(99)
# Kind of first weights -> deviation, from the weight's inputs and outputs
DEVIATIONS = {
    'xavier': lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    'caffe2': lambda fan_in, fan_out: math.sqrt(1 / fan_in),
    'torch': lambda fan_in, fan_out: math.sqrt(1 / (3 * fan_in)),
}
# The first pattern that fits a weight's name -> kind or deviation, and bias (None: PyTorch's)
IMG = [('neck', 'xavier', 0.0), ('conv_offset', 0.0, 0.0), ('conv_coeff', 0.001, 0.0)]
IMG += [('conv_cls', 0.01, PRIOR), ('', 0.01, 0.0)]
VIS = [('neck', 'xavier', 0.0), ('conv_offset', 0.0, 0.0), ('conv_cls', 0.01, PRIOR)]
VIS += [('conv_embed', 'torch', None), ('', 0.01, 0.0)]
BENCHMARK = [('neck', 'caffe2', 0.0), ('conv_offset', 0.0, 0.0), ('conv_cls', 0.01, PRIOR)]
BENCHMARK += [('conv_coeff|mask_head', 'torch', None), ('', 0.01, 0.0)]
EMBED = [('neck', 'caffe2', 0.0), ('conv_cls', 0.01, PRIOR)]
EMBED += [('conv_margin(_spatial|_free)?[.]', 0.01, MARGIN), ('', 0.01, 0.0)]
ADET = [('neck', 'caffe2', 0.0), ('mask_head.conv_feat', 'torch', None)]
ADET += [('mask_head.conv_seg', 'torch', PRIOR), ('mask_head.conv_embed', 0.01, 0.0)]
ADET += [('mask_head', 'caffe2', 0.0), *EMBED[1:]]
RUNS = {
    'sipmask_r50-caffe_fpn_gn_1x_coco': IMG,
    'sipmask_r50-caffe_fpn_ssd-6x_coco': IMG,
    'sipmask-vis_r50-caffe_fpn_gn_1x_youtubevis2019': VIS,
    'sipmask-benchmark_r50-caffe_fpn_1x_coco': BENCHMARK,
    'embedmask-v1_r50_fpn_1x_coco': EMBED,
    'embedmask-v2_r50_fpn_1x_coco': EMBED,
    'embedmask_r50_fpn_1x_coco': EMBED,
    'embedmask-adet_r50_fpn_ms-1x_coco': ADET,
    'deepmask_r50_300e_coco2014': [('', 'torch', None)],
    'sharpmask_r50_300e_coco2014': [('', 'torch', None)],
}
PARTS = ('neck', 'bbox_head', 'mask_head', 'track_head', 'refine_head')


@functools.cache
def layers(name: str) -> dict[str, nn.Module]:
    """Layers with weights of all parts but the backbone, by name, as training starts."""
    torch.manual_seed(0)
    config = Config.fromfile(FILES[name]).model
    with DefaultScope.overwrite_default_scope('mmdet'):
        if config.type != 'DeepMask' and config.type != 'SharpMask':
            config.mask_head.setdefault('num_classes', config.bbox_head.num_classes)
        parts = {part: MODELS.build(config[part]) for part in PARTS if config.get(part)}
        found = nn.ModuleDict(parts)
        for part in found.values():
            part.init_weights()
    return {
        key: one for key, one in found.named_modules() if getattr(one, 'weight', None) is not None
    }


@pytest.mark.parametrize('name', sorted(RUNS))
def test_first_weights_are_drawn_as_in_the_original(name: str) -> None:
    wrong = []
    for key, layer in layers(name).items():
        if layer.weight.dim() == 1:  # a norm
            if not (layer.weight == 1).all() or not (layer.bias == 0).all():
                wrong.append(key)
            continue
        _, kind, bias = next(row for row in RUNS[name] if re.search(row[0], f'{key}.'))
        fan_in = layer.weight[0].numel()
        fan_out = layer.weight.numel() // layer.weight.shape[1]
        deviation = DEVIATIONS[kind](fan_in, fan_out) if isinstance(kind, str) else kind
        # about four times the error of an estimated deviation
        slack = deviation * max(0.02, 3 / math.sqrt(layer.weight.numel()))
        if abs(layer.weight.square().mean().sqrt() - deviation) > slack:
            wrong.append(f'{key}: {layer.weight.std():.4g} instead of {deviation:.4g}')
        if getattr(layer, 'bias', None) is None:
            continue
        bound = fan_in**-0.5
        sound = (
            layer.bias.abs().max() <= bound and (layer.bias != 0).all()
            if bias is None
            else torch.allclose(layer.bias, torch.full_like(layer.bias, bias))
        )
        if not sound:
            wrong.append(f'{key}: bias')
    assert wrong == []
