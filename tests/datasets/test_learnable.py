"""A training of which nothing can be learned stops before its first iteration."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import mmcv
import mmengine
import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.registry import DATASETS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner

H, W = 40, 60
POLYGON = [[8.0, 8.0, 40.0, 8.0, 40.0, 30.0, 8.0, 30.0]]
RLE = {'size': [H, W], 'counts': [8 * H, 20, H * W - 8 * H - 20]}
GOOD = dict(segmentation=POLYGON)
LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    dict(type='PackDetInputs', meta_keys=('img_id',)),
]
LEAVES = [path for path in (ROOT / 'configs').glob('*/*.py') if path.parent.name != '_base_']


class Counting(BaseModel):
    """A model that learns nothing, and counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps = 0

    def forward(self, inputs: object, data_samples: object = None, mode: str = 'loss') -> dict:
        self.steps += 1
        return dict(loss=self.weight.sum())


def leaf(folder: Path, name: str, annotations: list[dict], **settings: object) -> dict:
    """A data set of two images; the annotations belong to the second."""
    entries = [
        dict(
            id=i, image_id=2, category_id=1, bbox=[8, 8, 32, 22], area=704, iscrowd=0,
            instance_id=i, video_id=1,
        ) | one
        for i, one in enumerate(annotations, start=1)
    ]  # fmt: skip
    images = [
        dict(id=i, file_name=f'{i}.png', height=H, width=W, video_id=1, frame_id=i - 1)
        for i in (1, 2)
    ]
    for image in images:
        cv2.imwrite(str(folder / image['file_name']), np.zeros((H, W, 3), np.uint8))
        image['coco_url'] = f'http://images.cocodataset.org/{image["file_name"]}'
        image['segm_file'] = image['file_name']
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
    categories = [dict(id=1, name='pebble', frequency='f', synset='pebble.n.01')]
    content = dict(images=images, annotations=entries, categories=categories)
    content['videos'] = [dict(id=1, name='a')]
    (folder / f'{name}.json').write_text(json.dumps(content))
    return dict(
        type='CocoDataset', data_root=str(folder), ann_file=f'{name}.json', pipeline=LOAD,
        data_prefix=dict(img=''), metainfo=dict(classes=('pebble',)),
    ) | settings  # fmt: skip


def train(dataset: dict, folder: Path, by_epoch: bool = True) -> int:
    """Train for one round; the number of steps."""
    loop = dict(by_epoch=True, max_epochs=1) if by_epoch else dict(by_epoch=False, max_iters=1)
    kind = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    if dataset['type'] == 'YouTubeVISDataset':
        kind = 'TrackImgSampler'
    model = Counting()
    Runner(
        model, str(folder / 'work'), train_cfg=loop,
        train_dataloader=dict(
            batch_size=1, num_workers=0, sampler=dict(type=kind), dataset=dataset,
            collate_fn=dict(type='pseudo_collate'),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), default_scope='mmdet',
        default_hooks=dict(learnable=dict(type='LearnableDataHook'), checkpoint=None),
        experiment_name=f'learnable{id(model)}',
    ).train()  # fmt: skip
    return model.steps


BAD = {
    'crowds': ([dict(segmentation=RLE, iscrowd=1)], {}, '1 crowds or ignored'),
    'RLE': ([dict(segmentation=RLE)] * 2, {}, '2 RLE, which LoadAnnotations ignores'),
    'points': ([dict(segmentation=[[8, 8, 9, 9]])], {}, '1 polygons of less than three points'),
    'no masks': ([{}, dict(segmentation=[])], {}, '2 without a mask'),
    'empty kept': ([], dict(filter_cfg=dict(filter_empty_gt=False)), '2 images .* 0 annotations'),
}


@pytest.mark.parametrize('case', BAD)
def test_nothing_to_learn_is_refused_and_says_why(case: str, tmp_path: Path) -> None:
    annotations, settings, reason = BAD[case]
    settings = {'filter_cfg': dict(filter_empty_gt=True), **settings}
    with pytest.raises(ValueError, match='no object to learn') as caught:
        train(leaf(tmp_path, 'a', annotations, **settings), tmp_path)
    assert re.search(reason, str(caught.value)) and 'a.json' in str(caught.value)


@pytest.mark.parametrize(
    'settings', [{}, dict(filter_cfg=dict(min_size=64)), dict(metainfo=dict(classes=('stone',)))]
)
def test_data_sets_without_any_image_fail_while_they_are_built(
    settings: dict, tmp_path: Path
) -> None:
    """mmengine's words, which docs/faq.md explains."""
    given = dict(filter_cfg=dict(filter_empty_gt=True)) | settings
    with pytest.raises(ValueError, match='need at least one array to concatenate'):
        train(leaf(tmp_path, 'a', [GOOD] if settings else [], **given), tmp_path)


def wrap(kind: str, inner: dict) -> dict:
    if kind == 'ConcatDataset':
        return dict(type=kind, datasets=[inner, inner])
    extra = {
        'RepeatDataset': dict(times=2),
        'ClassBalancedDataset': dict(oversample_thr=0.1),
        'MultiImageMixDataset': dict(pipeline=[]),
    }
    return dict(type=kind, dataset=inner, **extra[kind])


WRAPPERS = ['ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset']


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrapped_data_sets_are_searched(wrapper: str, by_epoch: bool, tmp_path: Path) -> None:
    crowds = leaf(tmp_path, 'crowds', [dict(segmentation=RLE, iscrowd=1)])
    with pytest.raises(ValueError, match='no object to learn.*crowds.json'):
        train(wrap(wrapper, crowds), tmp_path, by_epoch)
    assert train(wrap(wrapper, leaf(tmp_path, 'good', [GOOD])), tmp_path, by_epoch) > 0


def test_one_of_several_data_sets_is_enough(tmp_path: Path) -> None:
    crowds = leaf(tmp_path, 'crowds', [dict(segmentation=RLE, iscrowd=1)])
    both = dict(type='ConcatDataset', datasets=[crowds, leaf(tmp_path, 'good', [GOOD])])
    assert train(both, tmp_path) == 4


def test_a_part_without_objects_is_background(tmp_path: Path) -> None:
    kept = dict(type='CheckedCocoDataset', filter_cfg=dict(filter_empty_gt=False))
    background = leaf(tmp_path, 'background', [], **kept)
    both = [leaf(tmp_path, 'good', [GOOD], type='CheckedCocoDataset'), background]
    assert train(dict(type='ConcatDataset', datasets=both), tmp_path) == 4
    with pytest.raises(ValueError, match=r'no object to learn from. \S*background.json'):
        train(background, tmp_path)


@pytest.mark.parametrize('compose', [mmcv.transforms.Compose, mmengine.dataset.Compose])
def test_a_pipeline_switched_to_loads_rle(tmp_path: Path, compose: type) -> None:
    settings = dict(type='CheckedCocoDataset', filter_cfg=dict(filter_empty_gt=True))
    both = [dict(segmentation=RLE), dict(segmentation=POLYGON)]
    dataset = DATASETS.build(leaf(tmp_path, 'a', both, **settings))
    for _ in range(2):
        found = dataset[0]['data_samples']
        assert len(found.gt_instances) == 2 and not len(found.ignored_instances)
        assert isinstance(found.gt_instances.masks, BitmapMasks)
        dataset.pipeline = compose(LOAD)


def test_panoptic_objects_need_no_mask_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utils = SimpleNamespace(rgb2id=lambda image: image[..., 0].astype(np.int64))
    monkeypatch.setitem(sys.modules, 'panopticapi', SimpleNamespace(utils=utils))
    segment = dict(id=7, category_id=1, iscrowd=0, bbox=[8, 8, 32, 22], area=704)
    names = dict(classes=('pebble',), thing_classes=('pebble',), stuff_classes=())
    panoptic = leaf(
        tmp_path, 'maps', [], type='CocoPanopticDataset', metainfo=names,
        data_prefix=dict(img='', seg=''),
        pipeline=[LOAD[0], dict(type='LoadPanopticAnnotations'), LOAD[2]],
    )  # fmt: skip
    path = tmp_path / 'maps.json'
    content = json.loads(path.read_text())
    content['categories'][0]['isthing'] = 1
    for crowd, reason in ((0, ''), (1, 'no object to learn')):
        content['annotations'] = [
            dict(image_id=i, file_name=f'{i}.png', segments_info=[segment | dict(iscrowd=crowd)])
            for i in (1, 2)
        ]
        path.write_text(json.dumps(content))
        if not reason:
            assert train(panoptic, tmp_path) == 2
            continue
        with pytest.raises(ValueError, match=reason):
            train(panoptic, tmp_path)


@pytest.mark.parametrize('kind', ['LVISV1Dataset', 'CityscapesDataset', 'YouTubeVISDataset'])
def test_other_stock_data_sets_are_searched(kind: str, tmp_path: Path) -> None:
    settings: dict = dict(type=kind)
    if kind == 'YouTubeVISDataset':
        frames = [dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations', with_mask=True)]
        settings.update(
            dataset_version='2019', data_prefix=dict(img_path=''),
            pipeline=[
                dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=9),
                dict(type='TransformBroadcaster', transforms=frames),
                dict(type='PackTrackInputs'),
            ],
        )  # fmt: skip
    bad = dict(segmentation=RLE, iscrowd=1) if kind != 'LVISV1Dataset' else dict(ignore=1)
    with pytest.raises(ValueError, match='no object to learn'):
        train(leaf(tmp_path, 'bad', [bad], **settings), tmp_path)
    assert train(leaf(tmp_path, 'good', [GOOD], **settings), tmp_path) > 0


def stock_leaves(dataset: dict) -> list[str]:
    """Types of the innermost data sets; patches are checked when they are built."""
    if dataset['type'] == 'ObjectPatchDataset':
        return []
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets', [])
    return [name for one in inner for name in stock_leaves(one)] or [dataset['type']]


@pytest.mark.parametrize('path', LEAVES, ids=[path.stem for path in LEAVES])
def test_every_config_looks_before_it_trains(path: Path) -> None:
    config = Config.fromfile(path)
    if stock_leaves(config.train_dataloader.dataset):
        assert config.default_hooks.learnable == dict(type='LearnableDataHook')
