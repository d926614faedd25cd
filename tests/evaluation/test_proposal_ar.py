"""Average recall of proposals against pycocotools."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmrefine.evaluation.proposal_ar import (
    ImageRanks,
    ProposalARMetric,
    average_recall,
    image_ranks,
)
from mmrefine.evaluation.protocols import COCO_AREAS

SIZE = (130, 150)


def blob(rng):
    """A filled rectangle or ellipse, now and then tiny."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    cy, cx = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1])
    ry, rx = rng.uniform(2, 60, 2) * rng.choice([0.2, 1.0])
    inside = (np.abs(y - cy) < ry) & (np.abs(x - cx) < rx)
    if rng.random() < 0.5:
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    return inside


def scene(seed, images=3):
    """Truth and proposals, many of them near an object, with ties in score and crowds."""
    rng = np.random.default_rng(seed)
    truth, proposals = [], []
    for image in range(1, images + 1):
        masks = [m for m in (blob(rng) for _ in range(rng.integers(0, 6))) if m.any()]
        for m in masks:
            rle = coco_mask.encode(np.asfortranarray(m.astype(np.uint8)))
            truth.append(
                dict(
                    id=len(truth) + 1, image_id=image, category_id=1 + len(truth) % 2,
                    iscrowd=int(rng.random() < 0.2), area=float(m.sum()), segmentation=rle,
                    bbox=coco_mask.toBbox(rle).tolist(),
                )
            )  # fmt: skip
        for _ in range(rng.integers(0, 40)):
            m = blob(rng)
            if masks and rng.random() < 0.7:
                m = np.roll(masks[rng.integers(len(masks))], rng.integers(-4, 5, 2), (0, 1))
            if m.any():
                rle = coco_mask.encode(np.asfortranarray(m.astype(np.uint8)))
                score = float(np.round(rng.random(), 1))
                proposals.append(dict(image_id=image, category_id=1, score=score, segmentation=rle))
    return truth, proposals


def reference(truth, proposals, kind, numbers, images=3):
    """COCOeval without categories."""
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=i, height=SIZE[0], width=SIZE[1]) for i in range(1, images + 1)],
        categories=[dict(id=1), dict(id=2)],
        annotations=[dict(a) for a in truth],
    )
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes([dict(p) for p in proposals]) if proposals else COCO()
        if kind == 'bbox' and proposals:  # areas of detections play no part in recall
            for a in found.dataset['annotations']:
                a['bbox'] = coco_mask.toBbox(a['segmentation']).tolist()
        if not proposals:
            found.dataset = dict(coco.dataset, annotations=[])
            found.createIndex()
        run = COCOeval(coco, found, kind)
        run.params.useCats = 0
        run.params.maxDets = list(numbers)
        run.params.areaRng = [list(r) for r in COCO_AREAS.values()]
        run.params.areaRngLbl = list(COCO_AREAS)
        run.evaluate()
        run.accumulate()
    recall = run.eval['recall'][:, 0]  # thresholds x ranges x numbers
    return {
        name: {n: recall[:, a, i].mean() for i, n in enumerate(numbers)}
        for a, name in enumerate(COCO_AREAS)
    }


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(['segm', 'bbox']))
def test_recall_equals_pycocotools(seed, kind):
    truth, proposals = scene(seed)
    numbers = (1, 3, 10, 100)
    images = [
        image_ranks(*([e for e in part if e['image_id'] == i] for part in (truth, proposals)), kind)
        for i in (1, 2, 3)
    ]
    ours, theirs = average_recall(images, numbers), reference(truth, proposals, kind, numbers)
    for name in COCO_AREAS:
        for n in numbers:
            assert ours[name][n] == pytest.approx(theirs[name][n], abs=1e-9), (name, n)


def test_the_fixed_scene_has_something_to_find():
    truth, proposals = scene(0, images=1)
    recall = reference(truth, proposals, 'segm', (10, 100), images=1)
    assert 0 < recall['all'][10] < recall['all'][100] < 1 and recall['m'][100] > 0


def test_a_thousand_proposals_count():
    truth = [dict(id=1, area=100.0, iscrowd=0, bbox=[0, 0, 10, 10])]
    miss = dict(bbox=[50, 50, 10, 10], score=0.9)
    for before, rank in ((999, 999), (1000, -1)):
        proposals = [miss] * before + [dict(bbox=[0, 0, 10, 10], score=0.5)]
        assert (image_ranks(truth, proposals, 'bbox').ranks[0] == rank).all()


def test_kept_state_does_not_grow_with_the_masks():
    truth, proposals = scene(5, images=1)
    few = image_ranks(truth, proposals[:1], 'segm')
    many = image_ranks(truth, proposals * 20, 'segm')
    assert few.ranks.nbytes == many.ranks.nbytes == 2 * 4 * 10 * len(truth)


def sample(truth, proposals, form, with_instances=True):
    masks = np.stack([coco_mask.decode(p['segmentation']) for p in proposals]).astype(bool)
    boxes = np.stack([coco_mask.toBbox(p['segmentation']) for p in proposals])
    boxes[:, 2:] += boxes[:, :2]
    predictions = InstanceData(
        scores=torch.tensor([p['score'] for p in proposals]), bboxes=torch.from_numpy(boxes)
    )
    if form != 'none':
        predictions.masks = (
            torch.from_numpy(masks) if form == 'dense' else [p['segmentation'] for p in proposals]
        )
    data = dict(img_id=1, ori_shape=SIZE, pred_instances=predictions.to_dict())
    if with_instances:
        data['instances'] = []
        for a in truth:
            x, y, w, h = a['bbox']
            data['instances'].append(
                dict(
                    bbox=[x, y, x + w, y + h], bbox_label=a['category_id'],
                    mask=a['segmentation'], ignore_flag=a['iscrowd'],
                )
            )  # fmt: skip
    return data


@pytest.mark.parametrize('form', ['dense', 'rle'])
@pytest.mark.parametrize('from_file', [False, True])
def test_the_metric_reads_dense_masks_and_rles_from_any_model(tmp_path, form, from_file):
    truth, proposals = scene(0, images=1)
    options = {}
    if from_file:
        path = tmp_path / 'truth.json'
        for a in truth:
            a['segmentation'] = {'size': SIZE, 'counts': a['segmentation']['counts'].decode()}
        images = [dict(id=i, height=SIZE[0], width=SIZE[1]) for i in (2, 1)]
        content = dict(images=images, categories=[dict(id=1), dict(id=2)], annotations=truth)
        path.write_text(json.dumps(content))
        options = dict(ann_file=str(path), max_images=1)
    metric = ProposalARMetric(proposal_nums=(1, 10), boxes_from_masks=form == 'rle', **options)
    data = sample(truth, proposals, form, with_instances=not from_file)
    # Samplers repeat images: one counts once.
    metric.process({}, [data, data] if from_file else [data])
    values = metric.compute_metrics(metric.results)
    for kind in ('segm', 'bbox'):
        expected = reference(truth, proposals, kind, (1, 10, 100), images=1)
        assert values[f'{kind}_AR@1'] == pytest.approx(expected['all'][1])
        assert values[f'{kind}_AR@10'] == pytest.approx(expected['all'][10])
        assert values[f'{kind}_AR_m@100'] == pytest.approx(expected['m'][100])


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('from_file', [False, True])
def test_equal_scores_are_ordered_by_category(tmp_path, seed, from_file):
    """COCOeval without categories still takes the detections category by category."""
    truth, proposals = scene(seed, images=1)
    rng = np.random.default_rng(seed)
    for p in proposals:
        p.update(category_id=int(rng.integers(1, 3)), score=round(p['score']) / 2)
    options = {}
    if from_file:  # lists the second category first
        options['ann_file'] = str(tmp_path / 'truth.json')
        texts = [
            {**a, 'segmentation': dict(size=SIZE, counts=a['segmentation']['counts'].decode())}
            for a in truth
        ]
        images = [dict(id=1, height=SIZE[0], width=SIZE[1])]
        content = dict(images=images, categories=[dict(id=2), dict(id=1)], annotations=texts)
        (tmp_path / 'truth.json').write_text(json.dumps(content))
    metric = ProposalARMetric(proposal_nums=(1, 3, 8), auc=False, iou_types='segm', **options)
    data = sample(truth, proposals, 'rle', with_instances=not from_file)
    labels = [2 - p['category_id'] if from_file else p['category_id'] for p in proposals]
    data['pred_instances']['labels'] = torch.tensor(labels)
    metric.process({}, [data])
    values = metric.compute_metrics(metric.results)
    expected = reference(truth, proposals, 'segm', (1, 3, 8), images=1)
    for n in (1, 3, 8):
        assert values[f'segm_AR@{n}'] == pytest.approx(expected['all'][n]), n


def test_predicted_images_must_be_those_that_count(tmp_path):
    """The file is not in the order of the ids; the first two by id are 1 and 2."""
    truth, proposals = scene(0, images=1)
    path = tmp_path / 'truth.json'
    images = [dict(id=i, height=SIZE[0], width=SIZE[1]) for i in (30, 2, 1)]
    content = dict(images=images, categories=[dict(id=1), dict(id=2)], annotations=[])
    path.write_text(json.dumps(content))
    data = sample(truth, proposals, 'rle', with_instances=False)
    for ids, reason in (
        ((1,), r'1 images were not predicted, such as 2; 2 images of .*truth.json count'),
        ((1, 2, 30), r'1 images predicted do not count, such as 30; 2 images'),
        ((1, 30), r'such as 2; 1 images predicted do not count, such as 30'),
    ):
        metric = ProposalARMetric(ann_file=str(path), max_images=2)
        metric.process({}, [dict(data, img_id=i) for i in ids])
        with pytest.raises(ValueError, match=reason):
            metric.evaluate(len(ids))
    metric = ProposalARMetric(ann_file=str(path), max_images=2)
    metric.process({}, [dict(data, img_id=i) for i in (2, 1)])
    assert metric.evaluate(2)['proposals/segm_AR@10'] == -1


def test_box_proposals_need_no_masks():
    truth, proposals = scene(0, images=1)
    data = sample(truth, proposals, 'none')
    metric = ProposalARMetric(iou_types='bbox')
    metric.process({}, [data])
    values = metric.compute_metrics(metric.results)
    assert set(values) == {
        'bbox_AR@10', 'bbox_AR@100', 'bbox_AR@1000', 'bbox_AR_s@100', 'bbox_AR_m@100',
        'bbox_AR_l@100', 'bbox_AUC',
    }  # fmt: skip
    with pytest.raises(KeyError, match="iou_types='bbox'"):
        ProposalARMetric().process({}, [data])


def test_ranges_without_objects_say_minus_one():
    metric = ProposalARMetric(iou_types='bbox')
    assert metric.compute_metrics([])['bbox_AR@10'] == -1


def test_images_without_proposals_or_objects_count_as_they_should():
    truth, proposals = scene(0, images=1)
    images = [image_ranks(truth, [], 'segm'), image_ranks([], proposals, 'segm')]
    assert average_recall(images, (10,))['all'][10] == 0


def test_missing_truth_is_explained():
    truth, proposals = scene(0, images=1)
    with pytest.raises(ValueError, match='ann_file'):
        ProposalARMetric().process({}, [sample(truth, proposals, 'rle', with_instances=False)])


@pytest.mark.parametrize(
    'options',
    [
        dict(iou_types='mask'),
        dict(proposal_nums=(0,)),
        dict(proposal_nums=(5000,)),
        dict(max_images=5),
        dict(max_images=-1, ann_file='truth.json'),
        dict(max_images=0, ann_file='truth.json'),
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match='iou_types|proposal numbers|ann_file|must be positive'):
        ProposalARMetric(**options)


def test_one_number_of_proposals_may_be_asked_for():
    assert ProposalARMetric(proposal_nums=10).proposal_nums == (10,)


NAN = float('nan')


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (dict(scores=torch.tensor([NAN, NAN])), 'image 1, instance 0: score nan'),
        (dict(bboxes=torch.tensor([[0, 0, 5, 5], [NAN] * 4])), 'image 1, instance 1: the box'),
        (dict(bboxes=torch.tensor([[9, 9, 5, 5], [0, 0, 5, 5]])), 'image 1, instance 0: the box'),
        (dict(bboxes=torch.zeros(3, 4)), r'differ in number: \[2, 3\]'),
        (dict(masks=torch.zeros(3, *SIZE, dtype=torch.bool)), r'differ in number: \[2, 3\]'),
    ],
)
def test_wrong_proposals_are_refused(kind, change, reason):
    truth, proposals = scene(0, images=1)
    data = sample(truth, proposals[:2], 'dense')
    data['pred_instances'].update(change)
    with pytest.raises(ValueError, match=reason):
        ProposalARMetric(iou_types=kind).process({}, [data])


def test_segments_need_no_boxes():
    truth, proposals = scene(0, images=1)
    data = sample(truth, proposals, 'rle')
    del data['pred_instances']['bboxes']
    ProposalARMetric(boxes_from_masks=True).process({}, [data])
    with pytest.raises(KeyError, match='bboxes'):
        ProposalARMetric().process({}, [data])


def test_the_area_under_the_curve_is_that_of_trapezoids():
    """Found by the sixth proposal: no recall at 1, full recall at 10, 100 and 1000."""
    ranks = np.full((len(COCO_AREAS), 10, 1), 5, np.int16)
    image = ImageRanks(ranks, np.ones((len(COCO_AREAS), 1), bool))
    found = average_recall([image], (5, 6))['all']
    assert found[5] == 0 and found[6] == 1
    assert found['auc'] == pytest.approx((0.5 + 1 + 1) / 3)


@pytest.mark.parametrize('categories', [(1, 2), (2, 1)])
def test_of_equal_overlaps_the_object_of_the_last_category_is_taken(tmp_path, categories):
    """The first proposal covers both objects alike, the second one only the first of the file."""
    masks = np.zeros((3, *SIZE), np.uint8)
    masks[0, :20, :15] = masks[1, :20, 5:20] = masks[2, :20, :20] = 1
    rles = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    truth = [
        dict(
            id=i + 1, image_id=1, category_id=category, iscrowd=0, area=300.0,
            bbox=coco_mask.toBbox(rle).tolist(), segmentation=rle,
        )
        for i, (category, rle) in enumerate(zip(categories, rles))
    ]  # fmt: skip
    proposals = [
        dict(image_id=1, category_id=1, score=score, segmentation=rles[i])
        for score, i in ((0.9, 2), (0.8, 0))
    ]
    metric = ProposalARMetric(proposal_nums=(2,), auc=False, iou_types='segm')
    metric.process({}, [sample(truth, proposals, 'rle')])
    expected = reference(truth, proposals, 'segm', (2,), images=1)['all'][2]
    found = metric.compute_metrics(metric.results)['segm_AR@2']
    # Both objects up to a threshold of 0.75, or at 0.5 only; one of them at the others.
    assert found == pytest.approx(expected)
    assert found == pytest.approx(0.8 if categories == (1, 2) else 0.55)
