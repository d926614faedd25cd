"""Video configs hold what the recordings were made with."""

import pytest
import torch
from locations import ROOT
from mmdet.datasets import YouTubeVISDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from replay import sipmask_heads as image
from replay import sipmask_video as recorded

NAMES = [
    f'sipmask-vis_r50-caffe_fpn_gn_{steps}_youtubevis{year}'
    for steps in ('1x', 'ms-1x')
    for year in (2019, 2021)
]


def load(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / 'sipmask' / f'{name}.py')


@pytest.mark.parametrize('name', NAMES)
def test_published_model_has_its_size_and_parity_values(name):
    model = load(name).model
    assert {key: model.bbox_head[key] for key in recorded.VIDEO_BOX_HEAD} == recorded.VIDEO_BOX_HEAD
    assert {key: model.mask_head[key] for key in image.MMDET_MASK_HEAD} == image.MMDET_MASK_HEAD
    assert {key: model.test_cfg[key] for key in recorded.VIDEO_TEST} == recorded.VIDEO_TEST
    # The leak from one video into the next is the one quirk that no weights depend on.
    quirks = {key: recorded.VIDEO_TRACKER[key] for key in model.tracker if key != 'type'}
    assert {**quirks, 'type': 'SipMaskTracker'} == model.tracker
    assert set(recorded.VIDEO_TRACKER) - set(quirks) == {'keep_memory_without_detections'}
    model.backbone.init_cfg = None
    with torch.device('meta'):
        built = MODELS.build(model)
    assert round(sum(p.numel() for p in built.parameters()) / 1e6, 1) == 33.4


@pytest.mark.parametrize('name', NAMES)
def test_training_and_evaluation_data_are_of_one_year(name):
    config, year = load(name), name[-4:]
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.dataset.dataset_version == year
        assert year in loader.dataset.ann_file and year in loader.dataset.data_root
    assert year in config.val_evaluator.outfile_prefix == config.test_evaluator.outfile_prefix
    YouTubeVISDataset.set_dataset_classes(year)
    assert len(YouTubeVISDataset.METAINFO['classes']) == config.model.bbox_head.num_classes == 40


def test_multi_scale_changes_the_training_sizes_alone():
    one, many = load(NAMES[0]), load(NAMES[2])
    resize = many.train_pipeline[1].transforms[3]
    assert resize == {
        'type': 'RandomResize', 'scale': [(649, 360), (960, 480)], 'keep_ratio': True,
    }  # fmt: skip
    assert many.test_pipeline == one.test_pipeline and many.model == one.model
    assert one.train_pipeline[1].transforms[3].scale == (640, 360)


def test_schedule_is_the_published_one():
    config = load(NAMES[0])
    warmup, steps = config.param_scheduler
    assert (warmup.start_factor, warmup.end, steps.milestones) == (1 / 80, 1000, [8, 11])
    assert config.optim_wrapper.optimizer.lr == 0.005
    assert config.train_dataloader.batch_size == 8 and config.train_cfg.max_epochs == 12
