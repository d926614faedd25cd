"""Released weights of videos, and image weights as a start."""

import gzip
import json

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from tiny_sipmask import tiny_detector
from tiny_sipmask_video import tiny_video_model

from mmrefine.checkpoint import convert

TABLES = json.loads(gzip.decompress((ROOT / 'tests/data/sipmask_keys.json.gz').read_bytes()))
CONFIGS = {
    'sipmask_r50_caffe_fpn_gn_1x': 'sipmask-vis_r50-caffe_fpn_gn_1x_youtubevis2019',
    'sipmask_r50_caffe_fpn_gn_ms_1x': 'sipmask-vis_r50-caffe_fpn_gn_ms-1x_youtubevis2019',
}


def published(name: str) -> torch.nn.Module:
    config = Config.fromfile(ROOT / 'configs' / 'sipmask' / f'{name}.py')
    config.model.backbone.init_cfg = None
    with torch.device('meta'):
        return MODELS.build(config.model)


def weights(table: dict) -> dict[str, torch.Tensor]:
    return {key: torch.zeros(shape, device='meta') for key, (shape, *_) in table['keys'].items()}


@pytest.mark.parametrize('name', TABLES['vis'])
def test_every_released_layer_loads_strictly(name):
    model = published(CONFIGS[name])
    converted, kind = convert(weights(TABLES['vis'][name]), model)
    assert kind == 'sipmask-vis'
    model.load_state_dict(converted, strict=True, assign=True)


def test_image_weights_load_where_they_fit(tmp_path):
    source = tiny_detector(box={'num_classes': 5, 'stacked_convs': 3})
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'image.pth')
    model = tiny_video_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_checkpoint(model, str(tmp_path / 'image.pth'), map_location='cpu', strict=False)
    given, after = source.state_dict(), model.state_dict()
    fitting = [key for key in after if key in given and given[key].shape == after[key].shape]
    assert all(torch.equal(after[key], given[key]) for key in fitting)
    kept = sorted(set(after) - set(fitting))
    assert all(torch.equal(after[key], before[key]) for key in kept)
    assert {key.split('.')[0] for key in kept} == {'bbox_head', 'track_head'}
    assert [key for key in kept if key.startswith('bbox_head')] == [
        'bbox_head.conv_cls.bias',
        'bbox_head.conv_cls.weight',
    ]


@pytest.mark.parametrize('steps', ['1x', 'ms-2x'])
def test_the_authors_image_files_start_the_video_model(steps, tmp_path):
    table = TABLES['mmdet'][f'sipmask_r50_caffe_fpn_gn_{steps.replace("-", "_")}']
    state_dict = {
        key: torch.full(shape, 0.5) if shape else torch.tensor(1.0)
        for key, (shape, *_) in table['keys'].items()
        if key.startswith('bbox_head.')
    }
    torch.save({'state_dict': state_dict}, tmp_path / 'authors.pth')
    model = published(CONFIGS['sipmask_r50_caffe_fpn_gn_1x']).to_empty(device='cpu')
    for parameter in model.parameters():
        parameter.data.zero_()
    load_checkpoint(model, str(tmp_path / 'authors.pth'), map_location='cpu', strict=False)
    head = model.bbox_head
    assert (head.conv_coeff.weight == 0.5).all() and (head.reg_convs[2].conv.weight == 0.5).all()
    assert (model.mask_head.conv_fuse.weight == 0.5).all()
    assert (head.conv_cls.weight == 0).all() and (model.track_head.conv_embed.weight == 0).all()
