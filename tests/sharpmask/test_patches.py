"""Training patches: geometry, data set, transforms, sampler, monitor."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from tiny_sharpmask import ListDataset, box_instance, patch_sample
from torch.utils.data import DataLoader

from mmrefine.sharpmask.patch_dataset import (
    ConsecutiveSampler,
    ObjectPatchDataset,
    segmentation_area,
)
from mmrefine.sharpmask.patch_geometry import (
    far_from_objects,
    inner_box,
    jittered_crops,
    object_size,
    scale_keys,
)
from mmrefine.sharpmask.patch_metric import PatchMaskMetric, patch_iou
from mmrefine.sharpmask.patch_transforms import CropObjectPatch, PackPatchInputs, warp_square

PIPELINE = [dict(type='CropObjectPatch', label_size=32), dict(type='PackPatchInputs')]


def patches(instances, **options):
    return ObjectPatchDataset(ListDataset(instances), PIPELINE, **options)


def run_lengths(mask):
    """Uncompressed COCO counts of a mask whose first pixel is background."""
    flat = mask.T.ravel()
    return np.diff(np.r_[0, np.flatnonzero(np.diff(flat)) + 1, flat.size]).tolist()


@given(st.floats(1, 2000), st.integers(64, 320))
def test_scale_keys_bring_objects_to_canonical_length(length, patch):
    canonical = object_size(patch)
    key = scale_keys(np.array([[0.0, 0.0, length, 1.0]]), canonical)[0]
    assert key % 0.25 == 0
    assert canonical * (1 - 1e-9) < length * 2.0**key <= canonical * 2**0.25 * (1 + 1e-9)


def test_canonical_lengths():
    assert (object_size(160), object_size(224), object_size(112)) == (92, 128, 64)


def test_an_unjittered_crop_is_centred_and_canonical():
    crop = jittered_crops(np.array([[10.0, 20, 46, 30]]), np.zeros((1, 3)), 92, 192)[0]
    np.testing.assert_allclose(crop, [33 - 48, 35 - 48, 96, 96])
    np.testing.assert_allclose(inner_box(crop, 160 / 192), [33 - 40, 35 - 40, 80, 80])


def test_negatives_keep_their_distance_in_one_frame():
    boxes = np.array([[50.0, 50, 92.001, 40]])  # key 0, centre (96, 70)
    near, far = [96.0 + 40, 70, 0], [96.0 + 60, 70, 0]
    np.testing.assert_array_equal(far_from_objects(np.array([near, far]), boxes, 92), [False, True])
    # the same place at another scale is as near
    assert not far_from_objects(np.array([[48.0, 35, -1]]), boxes, 92)[0]
    assert far_from_objects(np.array([[48.0, 35, -1]]), boxes, 92, 'official')[0]
    assert far_from_objects(np.array([near]), boxes, 92, 'port')[0]
    assert far_from_objects(np.array([near]), boxes[:0], 92)[0]


def test_draws_follow_from_seed_and_index_alone():
    data = [
        [box_instance(10, 10, 60, 40), box_instance(90, 30, 50, 70, 1)],
        [box_instance(5, 5, 80, 80, 2)],
    ]
    first, second = patches(data), patches(data)
    for index in (0, 5, 200000):
        a, b = first[index], second[index]
        assert torch.equal(a['inputs'], b['inputs'])
        assert torch.equal(
            a['data_samples'].gt_instances.patch_masks, b['data_samples'].gt_instances.patch_masks
        )
    other = patches(data, seed=1)
    assert any(not torch.equal(first[i]['inputs'], other[i]['inputs']) for i in range(4))


def test_mask_samples_show_the_object_in_canonical_size():
    data = patches([[box_instance(40, 30, 46, 46)]], score_share=0.0)
    shares = []
    for i in range(40):
        truth = data[i]['data_samples'].gt_instances
        assert truth.has_mask.all() and not truth.has_score.any()
        shares.append(truth.patch_masks.float().mean().item())
    # 92 of 160 px long, a quarter octave of jitter each way, never cut off by the shift
    canonical = (92 / 160) ** 2
    assert min(shares) > canonical * 2**-0.6 and max(shares) < canonical * 2**0.6
    assert np.mean(shares) == pytest.approx((92 / 160) ** 2, rel=0.1)


def test_both_kinds_come_in_equal_shares_on_every_rank():
    data = patches([[box_instance(10, 10, 60, 40)]])
    for world in (1, 2, 3, 8):
        for rank in range(world):
            kinds = [data.kind(rank + world * i) for i in range(400)]
            assert abs(kinds.count('mask') - 200) < 15


def test_alternate_batches_are_of_one_kind():
    data = patches([[box_instance(10, 10, 60, 40)]], mode='alternate', batch_size=8)
    batches = [{data.kind(i) for i in range(b, b + 8)} for b in range(0, 800, 8)]
    assert all(len(kinds) == 1 for kinds in batches)
    assert 30 < sum('mask' in kinds for kinds in batches) < 70


def test_score_labels_follow_the_distance_rule():
    data = patches([[box_instance(60, 40, 40, 40)]], score_share=1.0)
    labels = []
    for i in range(60):
        rng = np.random.default_rng((0, 0, i))
        _, framed, crop, score = data.draw('score', rng)
        assert framed == (0 if score else None)
        labels.append(score)
        centre = np.array([crop[0] + crop[2] / 2, crop[1] + crop[3] / 2])
        scale = data.side / crop[2]
        if score:
            np.testing.assert_allclose(centre, [80, 60])
            assert 40 * scale > 92 and 40 * scale <= 92 * 2**0.25
        elif 10 < crop[2] and abs(np.log2(40 * scale / 92)) < 2:
            assert np.linalg.norm((centre - [80, 60]) * scale) > 47
    assert 15 < sum(labels) < 45


def test_categories_without_a_usable_object_are_left_out_with_a_warning():
    data = [
        [box_instance(10, 10, 60, 40, 0), box_instance(5, 5, 3, 50, 1), box_instance(0, 0, 9, 9, 2)]
    ]
    with pytest.warns(UserWarning, match=r'\[1, 2\]'):
        dataset = patches(data, score_share=0.0)
    for i in range(20):
        assert dataset[i]['data_samples'].gt_instances.patch_masks.any()


def test_no_usable_object_at_all_is_an_error_not_a_loop():
    with pytest.raises(ValueError, match='min_area'):
        patches([[box_instance(0, 0, 4, 40)]])
    with pytest.raises(ValueError, match='no image has an object'):
        patches([[]], score_share=1.0)


def test_crowd_only_images_give_no_positive_and_no_mask():
    crowd = [box_instance(0, 0, 100, 100, 1, crowd=True)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        data = patches([crowd, [box_instance(30, 30, 50, 50)], []])
        assert data.score_images.tolist() == [1]
        assert patches(
            [crowd, [box_instance(30, 30, 50, 50)]], crowd_positives=True
        ).score_images.tolist() == [0, 1]
        with pytest.raises(ValueError, match='no object'):
            patches([crowd])
    images = {data.draw('score', np.random.default_rng(i))[0] for i in range(20)}
    assert images == {1}


def test_annotations_without_masks_are_refused():
    instance = box_instance(0, 0, 40, 40)
    del instance['mask']
    with pytest.raises(ValueError, match='without masks'):
        patches([[instance]])


@pytest.mark.parametrize('mask', [None, [], [[1.0, 1.0, 9.0, 9.0]], [[1.0] * 7]])
def test_objects_without_masks_teach_scores_only(mask):
    bare = {**box_instance(0, 0, 40, 40), 'mask': mask}
    with pytest.warns(UserWarning, match='1 of 2 objects have no mask'):
        data = patches([[bare], [box_instance(30, 30, 50, 50)]])
    assert {data.draw('mask', np.random.default_rng(i))[0] for i in range(20)} == {1}
    assert data.score_images.tolist() == [0, 1]


@pytest.mark.parametrize(
    'options',
    [
        dict(mode='other'),
        dict(mode='alternate'),
        dict(mode='alternate', batch_size=8, length=20),
        dict(score_share=2.0),
        dict(negative_rule='x'),
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match='mode|batch_size|score_share'):
        patches([[box_instance(10, 10, 60, 40)]], **options)


def test_areas_of_polygons_and_rles_agree():
    polygon = [[2.0, 3, 12, 3, 12, 9, 2, 9]]
    rle = coco_mask.frPyObjects(polygon, 20, 20)[0]
    mask = coco_mask.decode(rle)
    plain = dict(size=[20, 20], counts=run_lengths(mask))
    assert segmentation_area(polygon) == 60
    assert segmentation_area(rle) == mask.sum() == segmentation_area(plain)


@pytest.mark.parametrize('form', ['polygon', 'rle', 'counts'])
def test_every_form_of_mask_makes_the_same_label(form):
    polygon = [[20.0, 30, 70, 30, 70, 90, 20, 90]]
    rle = coco_mask.merge(coco_mask.frPyObjects(polygon, 120, 160))
    counts = dict(size=[120, 160], counts=run_lengths(coco_mask.decode(rle)))
    segmentation = dict(polygon=polygon, rle=rle, counts=counts)[form]
    results = dict(
        img=np.zeros((120, 160, 3), np.uint8), patch_crop=np.array([0.0, 0, 120, 120]),
        patch_segmentation=segmentation, patch_draw=0.9,
    )  # fmt: skip
    label = CropObjectPatch(size=100, context=20, label_size=50).transform(results)['patch_mask']
    assert label.sum() == pytest.approx(50 * 60 / 4, rel=0.06)


def test_flipping_mirrors_image_and_label_alike():
    base = dict(
        img=np.arange(120 * 160 * 3, dtype=np.uint8).reshape(120, 160, 3),
        patch_crop=np.array([10.0, 5, 100, 100]),
        patch_segmentation=[[20.0, 30, 50, 30, 50, 90, 20, 90]],
    )
    plain, mirrored = (CropObjectPatch().transform(dict(base, patch_draw=d)) for d in (0.9, 0.1))
    np.testing.assert_array_equal(plain['img'], mirrored['img'][:, ::-1])
    np.testing.assert_array_equal(plain['patch_mask'], mirrored['patch_mask'][:, ::-1])


@pytest.mark.parametrize('shape', [(60, 80), (60, 80, 1)])
def test_grey_images_become_three_equal_channels(shape):
    results = dict(
        img=np.full(shape, 77, np.uint8), patch_crop=np.array([0.0, 0, 60, 60]),
        patch_segmentation=None, patch_draw=0.9, patch_head='score', patch_score=0.0,
    )  # fmt: skip
    packed = PackPatchInputs().transform(CropObjectPatch().transform(results))
    assert packed['inputs'].shape == (3, 192, 192)
    assert (packed['inputs'] == 77).float().mean() > 0.95


def test_outside_the_image_is_mid_grey():
    patch = warp_square(np.zeros((10, 10, 3), np.uint8), np.array([100.0, 100, 50, 50]), 8, 127.5)
    assert set(np.unique(patch)) <= {127, 128}


def test_epochs_continue_the_sequence():
    data = patches([[box_instance(10, 10, 60, 40)]], length=5)
    sampler = ConsecutiveSampler(data)
    assert len(sampler) == 5 and list(sampler) == [0, 1, 2, 3, 4]
    sampler.set_epoch(2)
    assert list(sampler) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize('wrapper', [
    dict(type='ConcatDataset', datasets=2), dict(type='RepeatDataset', times=2),
    dict(type='ClassBalancedDataset', oversample_thr=1e-9),
    dict(type='MultiImageMixDataset', pipeline=[]),
])  # fmt: skip
@pytest.mark.parametrize('lazy', [False, True])
def test_mmdetections_wrappers_take_patches(wrapper, lazy):
    own = patches([[box_instance(10, 10, 60, 40, 2)]], length=5, lazy_init=lazy)
    options = dict(wrapper)
    if 'datasets' in options:
        options['datasets'] = [own, own]
    else:
        options['dataset'] = own
    data = DATASETS.build(options)
    data.full_init()
    times = len(data) // 5
    assert len(data) == 5 * times and data.metainfo['classes'] == ('a', 'b', 'c')
    for i in (0, 4, len(data) - 1):
        assert torch.equal(data[i]['inputs'], own[i % 5]['inputs'])
    sampler = ConsecutiveSampler(data)
    sampler.set_epoch(3)
    assert sorted(sampler) == list(range(len(data)))


def test_rare_categories_are_repeated():
    instances = [[box_instance(10, 10, 60, 40, int(i == 0))] for i in range(30)]
    own = patches(instances, length=60, score_share=0.5)
    ids = [own.get_cat_ids(i) for i in range(60)]
    kinds = [own[i]['data_samples'].gt_instances.patch_scores.item() for i in range(60)]
    assert [len(i) for i in ids] == kinds and {0, 1} == {c for i in ids for c in i}
    balanced = DATASETS.build(dict(type='ClassBalancedDataset', dataset=own, oversample_thr=1.0))
    counts = np.bincount([balanced._get_ori_dataset_idx(i) for i in range(len(balanced))])
    common = [n for n, i in zip(counts, ids) if i == [0]]
    rare = [n for n, i in zip(counts, ids) if i == [1]]
    assert min(common + rare) >= 2 and max(n for n, i in zip(counts, ids) if not i) == 1


def test_a_data_loader_gives_the_draws_in_order():
    data = patches([[box_instance(10, 10, 60, 40)]], length=6)
    loader = DataLoader(
        data,
        batch_size=3,
        sampler=ConsecutiveSampler(data),
        num_workers=1,
        collate_fn=pseudo_collate,
    )
    loader.sampler.set_epoch(1)
    inputs = [x for batch in loader for x in batch['inputs']]
    assert all(torch.equal(x, data[6 + i]['inputs']) for i, x in enumerate(inputs))


def test_the_monitor_counts_masks_without_overlap():
    logits = torch.full((1, 20, 20), -3.0)
    logits[:, :, :10] = 3
    samples = []
    for sign in (1, -1):
        sample = patch_sample(20)
        sample.pred_instances = InstanceData(
            mask_logits=sign * logits, scores=torch.tensor([sign * 1.0])
        )
        samples.append(sample.to_dict())
    metric = PatchMaskMetric()
    metric.process({}, samples)
    result = metric.compute_metrics(metric.results)
    assert result == {
        'iou_mean': 0.5, 'iou_median': 0.5, 'iou@0.5': 0.5, 'iou@0.7': 0.5, 'score_accuracy': 0.5
    }  # fmt: skip
    assert metric.compute_metrics([]) == {}
    assert patch_iou(logits[0], torch.zeros(20, 20)) == 0


def test_empty_prediction_of_an_empty_label_is_perfect():
    assert patch_iou(torch.full((4, 4), -1.0), torch.zeros(8, 8)) == 1


@pytest.mark.parametrize('resample', ['corners', 'official'])
@pytest.mark.parametrize(
    'mask', [[[0, 0, 50, 0, 1e12, 50]], {'size': [120, 160], 'counts': '1' * 99}]
)
def test_a_mask_that_cannot_be_read_is_named(mask, resample):
    bad = {**box_instance(10, 10, 60, 40), 'mask': mask}
    steps = [dict(type='CropObjectPatch', resample=resample)]
    with pytest.raises(ValueError, match='^0, object 1: .*(far outside|cannot be decoded|add up)'):
        data = ObjectPatchDataset(
            ListDataset([[box_instance(5, 5, 2, 2), bad]]), steps, score_share=0.0, min_area=0
        )
        data[0]
