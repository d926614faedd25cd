"""The data and schedule fragments of configs/_base_."""

import pytest
from locations import ROOT, data_directory
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from shapes import CLASSES, SceneSpec, make_shapes

BASE = ROOT / 'configs/_base_'
VARIABLES = {
    'shapes_instance': 'MMREFINE_SHAPES',
    'nuclei_instance': 'MMREFINE_NUCLEI',
    'nuclei_tiny_instance': 'MMREFINE_NUCLEI',
    'nuclei_crops_instance': 'MMREFINE_NUCLEI',
    'facades_instance': 'MMREFINE_FACADES',
    'windows_instance': 'MMREFINE_FACADES',
    'leaves_instance': 'MMREFINE_LEAVES',
    'fruit_nuts_instance': 'MMREFINE_FRUIT_NUTS',
    'coco_mini_instance': 'MMREFINE_COCO_MINI',
    'coco_mini_lvis_instance': 'MMREFINE_COCO_MINI',
}
SPLITS = ('train', 'val', 'test')


def innermost(dataset: dict) -> dict:
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


@pytest.mark.parametrize('name', VARIABLES)
def test_the_data_root_follows_its_variable(name, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLES[name], '/somewhere/else')
    config = Config.fromfile(BASE / f'{name}.py')
    for split in SPLITS:
        loader = config[f'{split}_dataloader']
        assert innermost(loader.dataset).data_root == '/somewhere/else/'
        assert loader.num_workers == 0
    for split in SPLITS[1:]:
        truth = config[f'{split}_evaluator'].ann_file
        dataset = innermost(config[f'{split}_dataloader'].dataset)
        assert truth == dataset.data_root + dataset.ann_file


@pytest.mark.parametrize('name', VARIABLES)
def test_without_the_variable_data_lies_in_the_checkout(name, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLES[name], raising=False)
    config = Config.fromfile(BASE / f'{name}.py')
    assert innermost(config.train_dataloader.dataset).data_root.startswith('data/')


def test_generated_shapes_load_through_their_fragment(tmp_path, monkeypatch) -> None:
    make_shapes(tmp_path / 'shapes', 'coco', 4, 2, SceneSpec(height=64, width=64, empty=0))
    monkeypatch.setenv('MMREFINE_SHAPES', str(tmp_path / 'shapes'))
    config = Config.fromfile(BASE / 'shapes_instance.py')
    assert tuple(config.metainfo.classes) == CLASSES
    for split, count in zip(SPLITS, (4, 2, 2)):
        dataset = DATASETS.build(config[f'{split}_dataloader'].dataset)
        assert len(dataset) == count
        sample = dataset[0]
        assert tuple(sample['inputs'].shape) == (3, 64, 64)
        assert sample['data_samples'].scale_factor == (1.0, 1.0)
    METRICS.build(config.val_evaluator)


def test_schedules_end_when_training_ends() -> None:
    for path in (*BASE.glob('schedule_tiny*.py'), BASE / 'schedule_1k.py'):
        config = Config.fromfile(path)
        assert config.param_scheduler[-1].end == config.train_cfg.max_iters
        assert config.train_cfg.max_iters % config.train_cfg.val_interval == 0


@pytest.mark.parametrize('name', ['facades', 'windows', 'leaves', 'nuclei_crops'])
def test_crops_to_learn_from_and_whole_photos_to_test(name: str) -> None:
    config = Config.fromfile(BASE / f'{name}_instance.py')
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert 'RandomCrop' in steps and 'FilterAnnotations' in steps
    for split in SPLITS[1:]:
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.test_mode and 'RandomCrop' not in str(dataset.pipeline)
        assert dataset.get('metainfo') == config.train_dataloader.dataset.metainfo


def test_compact_models_share_one_backbone() -> None:
    one, two = (
        Config.fromfile(BASE / f'{n}.py').model for n in ('compact_backbone', 'mask-rcnn_compact')
    )
    for part in ('backbone', 'neck'):
        for key, value in one[part].items():
            assert two[part][key] == value


@pytest.mark.parametrize(
    ('name', 'folder', 'counts'),
    [
        ('nuclei_instance', 'nuclei_cc0', (531, 133)),
        ('nuclei_tiny_instance', 'nuclei_cc0', (40, 20)),
        ('nuclei_crops_instance', 'nuclei_cc0', (531, 133)),
        ('facades_instance', 'facades_ccby', (407, 108)),
        ('windows_instance', 'facades_ccby', (407, 108)),
        ('leaves_instance', 'coffee_leaves_mit', (200, 50)),
        ('fruit_nuts_instance', 'fruit_nuts_mit', (14, 4)),
        ('coco_mini_instance', 'coco_cc_mini', (92, 66)),
        ('coco_mini_lvis_instance', 'coco_cc_mini', (92, 66)),
    ],
)
def test_real_photos_load_where_they_are_at_hand(name, folder, counts, monkeypatch) -> None:
    # In a bare clone there are none to load.
    for place in filter(None, [data_directory()]):
        monkeypatch.setenv(VARIABLES[name], str(place / folder))
        config = Config.fromfile(BASE / f'{name}.py')
        for split, count in zip(SPLITS, counts):
            settings = innermost(config[f'{split}_dataloader'].dataset)
            settings.pop('filter_cfg', None)
            dataset = DATASETS.build(settings)
            assert len(dataset) == count
            assert len(dataset[0]['data_samples'].gt_instances) > 0
