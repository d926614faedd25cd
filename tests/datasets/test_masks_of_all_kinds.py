"""RLE, polygons and mixtures are learned with every config; nothing to learn is an error."""

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from locations import ROOT
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from pycocotools import mask as coco_mask

H, W = 60, 80
SQUARE = [8.0, 8.0, 40.0, 8.0, 40.0, 40.0, 8.0, 40.0]


def rle(compressed: bool = True) -> dict:
    """The pixels of the square."""
    mask = np.zeros((H, W), np.uint8)
    mask[8:40, 8:40] = 1
    if compressed:
        packed = coco_mask.encode(np.asfortranarray(mask))
        return {'size': [H, W], 'counts': packed['counts'].decode()}
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {'size': [H, W], 'counts': np.diff([0, *edges, H * W]).tolist()}


def annotation(number: int, mask: object, crowd: int = 0, **changes: object) -> dict:
    return {
        'id': number,
        'image_id': 1,
        'category_id': 1,
        'bbox': [8, 8, 32, 32],
        'area': 1024,
        'iscrowd': crowd,
        'segmentation': mask,
        **changes,
    }


def dataset(folder: Path, annotations: list, pipeline: list, images: tuple = (1,), **settings):
    data = {
        'images': [{'id': i, 'file_name': f'{i}.png', 'height': H, 'width': W} for i in images],
        'categories': [{'id': 1, 'name': 'pebble'}],
        'annotations': annotations,
    }
    (folder / 'truth.json').write_text(json.dumps(data))
    for i in images:
        cv2.imwrite(str(folder / f'{i}.png'), np.full((H, W, 3), 90, np.uint8))
    return DATASETS.build(
        dict(
            type='CheckedCocoDataset',
            data_root=str(folder),
            ann_file='truth.json',
            metainfo=dict(classes=('pebble',)),
            data_prefix=dict(img=''),
            pipeline=pipeline,
            **settings,
        )
    )


LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    dict(type='PackDetInputs'),
]
KINDS = {
    'rle': [rle(), rle(compressed=False)],
    'polygons': [[SQUARE], [SQUARE]],
    'mixture': [[SQUARE], rle()],
}


def loading_steps() -> list[list]:
    """The different ways in which the configs load pictures and annotations for training."""
    found: dict[str, list] = {}
    for file in sorted((ROOT / 'configs').glob('*/*_coco.py')):
        nodes = [Config.fromfile(file).train_dataloader.dataset]
        while nodes:
            node = nodes.pop()
            steps = node.get('pipeline') or []
            for n, step in enumerate(steps):
                if step.get('with_mask') or step.type == 'LoadMaskAnnotations':
                    found[repr((steps[0], step))] = [steps[0], *steps[1:n], step]
            nodes += [node.dataset] if 'dataset' in node else node.get('datasets', [])
    return list(found.values())


def test_the_recipe_of_every_config_learns_objects_of_all_kinds(tmp_path) -> None:
    ways = loading_steps()
    assert len(ways) > 3
    for steps in ways:
        for masks in KINDS.values():
            objects = [annotation(i, mask) for i, mask in enumerate(masks)]
            given = [*objects, annotation(9, rle(), crowd=1)]
            sample = dataset(tmp_path, given, [*steps, LOAD[-1]])[0]['data_samples']
            assert len(sample.gt_instances) == 2, steps
            assert len(sample.ignored_instances) == 1
            dense = sample.gt_instances.masks.to_ndarray()
            assert dense.sum(axis=(1, 2)).tolist() == [1024, 1024]


@pytest.mark.parametrize('kind', ['mmdet.LoadAnnotations', LoadAnnotations])
def test_the_stock_loader_is_replaced_however_it_is_named(tmp_path, kind) -> None:
    given = [annotation(1, [SQUARE]), annotation(2, rle())]
    pipeline = [LOAD[0], {**LOAD[1], 'type': kind}, LOAD[2]]
    assert len(dataset(tmp_path, given, pipeline)[0]['data_samples'].gt_instances) == 2


def test_polygons_stay_polygons_beside_the_rle_of_a_crowd(tmp_path) -> None:
    """As the published configs load COCO."""
    crowd = annotation(9, rle(), crowd=1)
    sample = dataset(tmp_path, [annotation(1, [SQUARE]), crowd], LOAD)[0]['data_samples']
    assert isinstance(sample.gt_instances.masks, PolygonMasks)
    sample = dataset(tmp_path, [annotation(1, rle())], LOAD)[0]['data_samples']
    assert isinstance(sample.gt_instances.masks, BitmapMasks)


@pytest.mark.parametrize('wrapper', ['CocoDataset', 'CheckedCocoDataset'])
def test_objects_without_a_mask_are_left_out(wrapper: str, tmp_path) -> None:
    pipeline = [LOAD[0], dict(type='LoadMaskAnnotations', with_bbox=True), LOAD[2]]
    given = [annotation(1, [SQUARE]), annotation(2, []), annotation(3, None), annotation(4, rle())]
    dataset(tmp_path, given, LOAD)
    built = DATASETS.build(
        dict(
            type=wrapper,
            data_root=str(tmp_path),
            ann_file='truth.json',
            metainfo=dict(classes=('pebble',)),
            data_prefix=dict(img=''),
            pipeline=pipeline,
        )
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        assert len(built[0]['data_samples'].gt_instances) == 2
    said = ['without a mask' in str(warning.message) for warning in caught]
    assert any(said) == (wrapper == 'CocoDataset')
    with pytest.raises(ValueError, match=r'without a mask.* \(2: 2, 3\)'):
        dataset(tmp_path, given, LOAD, strict=True)


def test_boxes_without_masks_are_learned_where_no_masks_are_loaded(tmp_path) -> None:
    pipeline = [LOAD[0], dict(type='LoadAnnotations', with_bbox=True), LOAD[2]]
    assert (
        len(dataset(tmp_path, [annotation(1, [])], pipeline)[0]['data_samples'].gt_instances) == 1
    )


def test_images_of_all_kinds_are_joined(tmp_path) -> None:
    """One with an object in RLE, two with polygons, one with nothing, as RTMDet-Ins joins them."""
    mosaic = dict(type='CachedMosaic', img_scale=(W, H), pad_val=0, max_cached_images=4)
    given = [annotation(i, mask, image_id=i) for i, mask in enumerate((rle(), [SQUARE], [SQUARE]))]
    joined = dataset(tmp_path, given, [*LOAD[:2], mosaic, LOAD[2]], images=(0, 1, 2, 3))
    for index in (0, 1, 2, 3) * 3:
        masks = joined[index]['data_samples'].gt_instances.masks
        assert isinstance(masks, BitmapMasks)


@pytest.mark.parametrize(
    ('mask', 'reason'),
    [
        ({'size': [H, W], 'counts': '5'}, 'cannot be decoded to 60 x 80'),
        ({'size': [H, W], 'counts': '1' * 5000}, 'cannot be decoded'),
        ({'size': [H, W], 'counts': [1, 2, 3]}, 'do not add up'),
        ({'size': [H, W], 'counts': "b'e7'"}, r'counts.decode\('),
        ({'size': [H, W], 'counts': '1 3 10 5'}, 'Kaggle'),
        ({'size': [W, H], 'counts': rle()['counts']}, r'\(height, width\)'),
        ([[1e12, *SQUARE[1:]]], r'coordinate 1e\+12, far outside'),
    ],
)
def test_masks_that_cannot_be_drawn_are_named_before_pycocotools_sees_them(
    mask: object, reason: str, tmp_path
) -> None:
    load = TRANSFORMS.build(dict(type='LoadMaskAnnotations', with_bbox=True))
    instance = dict(bbox=[8, 8, 40, 40], bbox_label=0, ignore_flag=0, mask=mask)
    with pytest.raises(ValueError, match=f'a.png, object 0: .*{reason}'):
        load({'instances': [instance], 'ori_shape': (H, W), 'img_path': 'a.png'})
    kinds = 'run lengths of another size|neither run lengths nor'
    with pytest.raises(ValueError, match=rf'({kinds}).* \(1: 7\)'):
        dataset(tmp_path, [annotation(1, rle()), annotation(7, mask)], LOAD)


@pytest.mark.parametrize(
    ('annotations', 'settings', 'reason'),
    [
        ([], {}, 'keeps 1 of 1 images, with 0 annotations'),
        ([annotation(1, rle(), crowd=1)], {}, 'every annotation is a crowd'),
        ([annotation(1, None)], {}, 'with 0 annotations of .* with box and mask'),
        ([annotation(1, [[8, 8, 40, 8]])], {}, 'with 1 annotations'),
        ([annotation(1, rle(), bbox=[8, 8, 0, 32])], {}, 'with 0 annotations'),
        ([annotation(1, rle())], {'filter_cfg': dict(min_size=64)}, 'keeps 0 of 1 images'),
        ([annotation(1, rle(), crowd=1), annotation(2, [])], {}, 'with 1 annotations'),
    ],
)
def test_a_data_set_of_which_nothing_is_learned_is_refused(
    annotations: list, settings: dict, reason: str, tmp_path
) -> None:
    with pytest.raises(ValueError, match=reason):
        dataset(tmp_path, annotations, LOAD, **settings)
