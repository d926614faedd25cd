"""The config that trains a prepared set: what it changes of its base."""

import re
from pathlib import Path

import numpy as np
import pytest
from locations import ROOT
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from source_files import labelme_set

from mmrefine.apis.own_config import BASES, picture_scale, stated_classes, write_config
from mmrefine.apis.prepare_data import prepare_data


def configs_of(
    tmp_path: Path,
    base: str,
    labels: tuple[str, ...] = ('cat', 'dog'),
    sizes: list[tuple[int, int]] | None = None,
) -> Config:
    source = labelme_set(tmp_path / 'source', [f'p{i}' for i in range(6)], labels)
    data = prepare_data([source], tmp_path / 'out')
    data.sizes = sizes or data.sizes
    write_config(tmp_path / 'mine.py', base, data, batch_size=4)
    return Config.fromfile(tmp_path / 'mine.py')


RTMDET = 'mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py'
COUNTED = ['refinemask', 'sipmask', 'embedmask', RTMDET]
COUNTED += ['mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py']
COUNTED += ['mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py']


@pytest.mark.parametrize('base', COUNTED)
def test_class_counts_follow_wherever_they_stand(tmp_path: Path, base: str) -> None:
    labels = ('cat', 'dog', 'owl')
    config = configs_of(tmp_path, base, labels)
    assert stated_classes(config.model) == len(labels)
    assert config.train_dataloader.dataset.metainfo.classes == labels
    base_config = Config.fromstring(f'_base_ = {BASES.get(base, base)!r}\n', '.py')
    rates = [c.optim_wrapper.optimizer.lr for c in (config, base_config)]
    batch = base_config.auto_scale_lr.base_batch_size
    assert rates[0] == pytest.approx(rates[1] * 4 / batch)
    assert config.auto_scale_lr.base_batch_size == 4
    assert config.test_dataloader == config.val_dataloader


def limits(part: object) -> list[int]:
    """Every ``max_per_img`` of a config, sorted."""
    if not isinstance(part, dict):
        return []
    found = [limit for value in part.values() for limit in limits(value)]
    return sorted([*found, *([part['max_per_img']] if 'max_per_img' in part else [])])


@pytest.mark.parametrize(
    ('base', 'before', 'after'),
    [
        ('refinemask', [100, 1000, 1000], [300, 1000, 1000]),
        ('sipmask', [100], [300]),
        ('embedmask', [100], [300]),
        (RTMDET, [100], [300]),
        # a detection for every query: there are no more than these
        ('mmdet::queryinst/queryinst_r50_fpn_1x_coco.py', [100], [100]),
    ],
)
def test_crowded_pictures_keep_all_their_detections(
    base: str, before: list, after: list, tmp_path: Path
) -> None:
    config = configs_of(tmp_path, base)
    assert limits(config.model) == before and 'max_dets' not in config.val_evaluator
    config = configs_of(tmp_path / 'crowded', base, labels=('nut',) * 300)
    assert limits(config.model) == after
    assert config.val_evaluator.max_dets == (1, 10, 300)


def test_pads_to_a_size_follow_the_scale(tmp_path: Path) -> None:
    config = configs_of(tmp_path, RTMDET, sizes=[(4000, 3000)])
    steps = [s for s in config.val_dataloader.dataset.pipeline if s.type in ('Resize', 'Pad')]
    pixels = np.zeros((750, 1000, 3), np.uint8)
    found = Compose(steps)({'img': pixels, 'img_shape': (750, 1000)})['img']
    assert found.shape == (800, 1088, 3)  # 1067 wide, then whole strides
    cropped = [s for s in config.train_dataloader.dataset.pipeline if s.type == 'Pad']
    assert [tuple(pad.size) for pad in cropped] == [(640, 640)]


def test_a_base_that_changes_its_pipeline_does_so_in_time(tmp_path: Path) -> None:
    config = configs_of(tmp_path, RTMDET, sizes=[(1000, 500)])
    ema, switch = config.custom_hooks
    assert ema.type == 'EMAHook' and switch.type == 'PipelineSwitchHook'
    assert config.train_cfg.max_epochs == 200 and switch.switch_epoch == 187  # 280 of 300
    (resize,) = [step for step in switch.switch_pipeline if step.type == 'RandomResize']
    assert resize.scale == (992, 512)


def test_epochs_count_the_last_incomplete_batch(tmp_path: Path) -> None:
    data = prepare_data([labelme_set(tmp_path / 'a', list('abcdef'))], tmp_path / 'out')
    assert data.counts['train'][0] == 5
    notes = write_config(tmp_path / 'mine.py', 'refinemask', data, batch_size=2)
    assert '200 epochs of 3 iterations' in notes


def test_a_test_split_of_the_source_is_tested(tmp_path: Path) -> None:
    for split in ('train', 'val', 'test'):
        labelme_set(tmp_path / 'source' / split, [f'{split}0'])
    data = prepare_data([tmp_path / 'source'], tmp_path / 'out')
    notes = write_config(tmp_path / 'mine.py', 'refinemask', data)
    config = Config.fromfile(tmp_path / 'mine.py')
    for split in ('val', 'test'):
        loader, evaluator = config[f'{split}_dataloader'], config[f'{split}_evaluator']
        assert loader.dataset.ann_file == evaluator.ann_file
        assert Path(evaluator.ann_file).name == f'{split}.json'
    assert any('mim test' in note for note in notes)


def test_an_edited_config_is_kept(tmp_path: Path) -> None:
    data = prepare_data([labelme_set(tmp_path / 'source', ['a', 'b'])], tmp_path / 'out')
    path = tmp_path / 'mine.py'
    for _ in range(2):
        assert not any('kept as' in note for note in write_config(path, 'refinemask', data))
    written = path.read_text()
    for number in (1, 2):
        path.write_text(f'{written}# edit {number}\n')
        notes = write_config(path, 'refinemask', data)
        assert path.read_text() == written and f'kept as mine_{number}.py' in notes[-1]
        assert (tmp_path / f'mine_{number}.py').read_text().endswith(f'# edit {number}\n')


def test_class_agnostic_parts_stay_so(tmp_path: Path) -> None:
    base = ROOT / 'configs' / 'sharpmask' / 'sharpmask-roi-agnostic_r50_fpn_1x_coco.py'
    before, after = Config.fromfile(base), configs_of(tmp_path, str(base))
    kept = before.model.roi_head.mask_head.get('class_agnostic')
    assert kept and after.model.roi_head.mask_head.class_agnostic


def test_small_bases_keep_their_schedule(tmp_path: Path) -> None:
    base = ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_shapes.py'
    before, after = Config.fromfile(base), configs_of(tmp_path, str(base))
    assert after.train_cfg == before.train_cfg and after.param_scheduler == before.param_scheduler


@pytest.mark.parametrize(
    ('base', 'said'),
    [
        ('refinemask', r'resized into \d+ x \d+'),
        (str(ROOT / 'configs/refinemask/refinemask_tiny_fruit-nuts.py'), r'scaled by 0\.5'),
    ],
)
def test_what_is_said_of_the_scale_is_what_is_written(base: str, said: str, tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b'])
    notes = write_config(tmp_path / 'mine.py', base, prepare_data([source], tmp_path / 'out'))
    assert [re.search(said, note) for note in notes if note.startswith('pictures')] != [None]
    steps = Config.fromfile(tmp_path / 'mine.py').train_dataloader.dataset.pipeline
    assert any(step.get('scale_factor') == 0.5 for step in steps) == ('0' in said)


@pytest.mark.parametrize(
    ('sizes', 'scale'),
    [([(640, 480)] * 3, (640, 480)), ([(3000, 4000)], (1333, 800)), ([(100, 50)], (96, 64))],
)
def test_the_scale_follows_the_pictures(sizes: list, scale: tuple) -> None:
    assert picture_scale(sizes) == scale


@pytest.mark.parametrize(
    ('base', 'message'),
    [
        (
            'mmdet::simple_copy_paste/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-90k_coco.py',
            'its data set is MultiImageMixDataset',
        ),
        ('mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py', 'its data set is RepeatDataset'),
        ('mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', 'is CocoPanopticDataset'),
        ('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 'learns boxes alone'),
        ('mmdet::htc/htc_r50_fpn_1x_coco.py', 'also learns from semantic maps'),
        ('mmdet::scnet/scnet_r50_fpn_1x_coco.py', 'also learns from semantic maps'),
        ('lazy.py', 'lazy.py cannot be the base of a config'),
        ('broken.py', 'broken.py is no config: .*Error'),
        ('bare.py', 'bare.py is no config that trains a detector: it lacks train_cfg, optim'),
        ('nowhere::a.py', 'nowhere::a.py is no config: .*nowhere'),
    ],
)
def test_bases_that_learn_no_masks_of_single_pictures(
    tmp_path: Path, base: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ['from mmengine.config import read_base', 'with read_base():']
    Path('lazy.py').write_text('\n'.join([*lines, '    from .x import *']))
    Path('x.py').write_text('model = dict(type="X")')
    Path('broken.py').write_text('model = unknown')
    Path('bare.py').write_text('model = train_dataloader = test_dataloader = dict(type="X")')
    data = prepare_data([labelme_set(tmp_path / 'source', ['a', 'b'])], tmp_path / 'out')
    with pytest.raises(ValueError, match=message):
        write_config(tmp_path / 'mine.py', base, data)


def test_steps_of_a_base_may_be_classes(tmp_path: Path) -> None:
    base = tmp_path / 'base.py'
    steps = 'dict(type=LoadAnnotations, with_mask=True), dict(type=Resize, scale=(999, 999))'
    base.write_text(
        "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n"
        'from mmdet.datasets.transforms import LoadAnnotations, Resize\n'
        f'train_dataloader = dict(dataset=dict(pipeline=[{steps}]))\n'
    )
    loaded, resized = configs_of(tmp_path, str(base)).train_dataloader.dataset.pipeline
    assert resized.scale == (64, 32) and TRANSFORMS.build(resized) and TRANSFORMS.build(loaded)


def test_resizes_inside_of_other_steps_are_scaled(tmp_path: Path) -> None:
    base = tmp_path / 'base.py'
    base.write_text(
        "_base_ = 'mmdet::queryinst/queryinst_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'\n"
    )
    pipeline = configs_of(tmp_path, str(base)).train_dataloader.dataset.pipeline
    branches = next(step for step in pipeline if step.type == 'RandomChoice').transforms
    whole, cropped = branches
    scales = [s for step in (*whole, *cropped) for s in step.get('scales', ())]
    assert len(scales) > 11 and max(max(s) for s in scales) == 64  # pictures of 60 x 40
    assert TRANSFORMS.build(dict(type='RandomChoice', transforms=branches))


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b'])
    data = prepare_data([source], tmp_path / 'out')
    with pytest.raises(OSError, match='there is no config nowhere.py: name refinemask'):
        write_config(tmp_path / 'mine.py', 'nowhere.py', data)


def test_a_base_is_never_written_over(tmp_path: Path) -> None:
    data = prepare_data([labelme_set(tmp_path / 'source', ['a', 'b'])], tmp_path / 'out')
    base = tmp_path / 'out' / 'mine.py'
    base.write_text(f'_base_ = {BASES["refinemask"]!r}\n')
    with pytest.raises(ValueError, match='is also --base, which is read'):
        write_config(base, str(base), data)
