"""Configs of a learning proof."""

from pathlib import Path

import numpy as np
import pytest
import torch
from learning.plan import CONFIGS, SETS, SYSTEMS, Job, make_config, parts, plan
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

AP_SYSTEMS = [name for name, system in SYSTEMS.items() if not system.proposes]


@pytest.mark.parametrize('name', SYSTEMS)
def test_every_system_builds_on_the_compact_backbone(name: str) -> None:
    config = make_config(Job(SYSTEMS[name], SETS['nuclei'], 3), iterations=100)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert model.backbone.depth == 18
    if not SYSTEMS[name].proposes:
        assert config.model.backbone.base_channels == 32
        assert config.model.neck.out_channels == 64
    assert config.train_cfg.max_iters == config.train_cfg.val_interval == 100
    assert config.param_scheduler[-1]['end'] == 100
    assert config.randomness == dict(seed=3)


@pytest.mark.parametrize('name', AP_SYSTEMS)
@pytest.mark.parametrize('data', ['shapes', 'nuclei', 'fruit-nuts'])
def test_sets_give_pictures_classes_and_evaluation(name: str, data: str) -> None:
    job = Job(SYSTEMS[name], SETS[data], 0)
    config = make_config(job, iterations=10)
    classes = config.train_dataloader.dataset.metainfo.classes
    assert len(classes) == job.data.num_classes
    stated = [part.num_classes for part in parts(config.model) if 'num_classes' in part]
    # A class-agnostic part says 1 whatever the set.
    assert {job.data.num_classes} <= set(stated) <= {job.data.num_classes, 1}
    assert config.val_evaluator.type == 'MaskAPMetric'
    assert config.train_dataloader.batch_size == 4
    assert config.optim_wrapper.optimizer.type == 'AdamW'


@pytest.mark.parametrize('name', AP_SYSTEMS)
def test_sets_of_photos_start_from_imagenet_weights(name: str) -> None:
    config = make_config(Job(SYSTEMS[name], SETS['windows'], 0), iterations=1000)
    assert config.model.backbone.init_cfg.checkpoint == 'mmrefine://mobilenet-v2'
    assert config.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult < 1
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert type(model.backbone).__name__ == 'MobileNetV2'


@pytest.mark.parametrize('name', ['deepmask', 'sharpmask'])
@pytest.mark.parametrize('data', ['facades', 'nuclei-full'])
def test_proposals_on_photos_start_from_the_same_weights(name: str, data: str) -> None:
    config = make_config(Job(SYSTEMS[name], SETS[data], 0), iterations=1200)
    assert config.model.backbone.init_cfg.checkpoint == 'mmrefine://mobilenet-v2'
    model = MODELS.build(config.model)
    maps = model.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (16, 32, 48),
        (24, 16, 24),
        (32, 8, 12),
        (96, 4, 6),
    ]
    assert config.train_dataloader.dataset.dataset.ann_file.endswith('_train.json')


PUBLISHED = {file.stem: file for file in CONFIGS.glob('*/*_mobilenetv2_fpn_1k_*.py')}


@pytest.mark.parametrize('stem', PUBLISHED)
def test_runs_on_photos_are_those_of_the_configs(stem: str) -> None:
    name, _, _, _, data = stem.split('_')
    data = 'nuclei-full' if data == 'nuclei' else data
    run = make_config(Job(SYSTEMS[name], SETS[data], 0), iterations=1000)
    config = Config.fromfile(PUBLISHED[stem])
    for key in ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'val_evaluator'):
        assert run[key] == config[key], key


def test_yolact_gets_pictures_of_one_size() -> None:
    config = make_config(Job(SYSTEMS['yolact'], SETS['nuclei'], 0), iterations=10)
    init_default_scope('mmdet')
    for loader in (config.train_dataloader, config.val_dataloader):
        pipeline = [TRANSFORMS.build(step) for step in loader.dataset.pipeline]
        (resize,) = [step for step in pipeline if type(step).__name__ == 'Resize']
        for size in ((256, 320), (360, 360)):
            image = resize({'img': np.zeros((*size, 3), np.uint8)})
            assert image['img'].shape == (320, 320, 3)
    other = make_config(Job(SYSTEMS['condinst'], SETS['nuclei'], 0), iterations=10)
    shapes = make_config(Job(SYSTEMS['yolact'], SETS['shapes'], 0), iterations=10)
    for kept in (other, shapes):  # others keep proportions, and these have one size
        assert 'keep_ratio' not in str(kept.train_dataloader.dataset.pipeline)


def test_enlarged_pictures_keep_the_sizes_of_crops() -> None:
    usual, double = (
        make_config(Job(SYSTEMS['sipmask'], SETS[name], 0), iterations=10)
        for name in ('windows', 'windows-double')
    )
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        old, new = (config[loader].dataset.pipeline for config in (usual, double))
        (before,), (after,) = ([s for s in steps if 'Resize' in s.type] for steps in (old, new))
        assert tuple(after.pop('scale')) == tuple(2 * side for side in before.pop('scale'))
        assert old == new  # crops too
    assert usual.model == double.model


def test_a_dumped_config_is_the_run(tmp_path: Path) -> None:
    config = make_config(Job(SYSTEMS['condinst'], SETS['shapes'], 1), 50, tmp_path / 'start.pth')
    config.dump(tmp_path / 'run.py')
    again = Config.fromfile(tmp_path / 'run.py')
    assert again.to_dict() == config.to_dict()
    assert again.load_from == str(tmp_path / 'start.pth')


def test_the_first_system_of_a_chain_is_planned_before_the_second() -> None:
    jobs = plan(['sharpmask', 'sipmask'], ['shapes'], [0, 1])
    names = [job.name for job in jobs]
    assert names == [
        'shapes/deepmask/seed0',
        'shapes/sharpmask/seed0',
        'shapes/sipmask/seed0',
        'shapes/deepmask/seed1',
        'shapes/sharpmask/seed1',
        'shapes/sipmask/seed1',
    ]
    assert jobs[1].start == jobs[0]
    assert plan(['deepmask', 'sharpmask'], ['shapes'], [0]) == jobs[:2]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'sipmak' is unknown; there are mask-rcnn, .*sipmask"):
        plan(['sipmak'], ['shapes'], [0])
    with pytest.raises(ValueError, match="'shape' is unknown; there are shapes"):
        plan(['sipmask'], ['shape'], [0])


def test_a_proposal_system_without_config_for_a_set_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match='deepmask_mobilenetv2_1k_leaves.py is missing'):
        plan(['mask-rcnn', 'deepmask'], ['leaves'], [0])


@pytest.mark.parametrize('data', SETS)
def test_without_a_choice_all_systems_with_a_config_for_the_set_run(data: str) -> None:
    names = [job.system.name for job in plan(None, [data], [0])]
    assert set(AP_SYSTEMS) <= set(names)
    ending = SETS[data].ending
    assert ('deepmask' in names) == (CONFIGS / f'sharpmask/deepmask_{ending}.py').is_file()
