"""Nothing that users give is dropped, counted twice or taken for something else without a word."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.scenes import make_scene, text_rle
from evaluation.test_lvis_scores import lvis_numbers
from evaluation.test_mask_ap_metric import build

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules
from mmrefine.evaluation.score_file import score_file

SIZE = (20, 20)


def square(x: int, side: int = 8) -> dict:
    mask = np.zeros(SIZE, np.uint8)
    mask[2 : 2 + side, x : x + side] = 1
    return text_rle(mask)


def truth(*annotations: dict, names: tuple[str, ...] = ('ant',)) -> dict:
    defaults = {'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'area': 64, 'bbox': [0, 2, 8, 8]}
    image = {'id': 1, 'height': 20, 'width': 20}
    return {
        'images': [{**image, 'neg_category_ids': [], 'not_exhaustive_category_ids': []}],
        'categories': [{'id': i, 'name': n, 'frequency': 'f'} for i, n in enumerate(names, 1)],
        'annotations': [{'id': i, **defaults, **a} for i, a in enumerate(annotations, 1)],
    }


def result(score: float, **more: object) -> dict:
    return {'image_id': 1, 'category_id': 1, 'score': score, **more}


def score(folder: Path, gt: dict, results: list[dict], **options: object) -> dict[str, float]:
    (folder / 'gt.json').write_text(json.dumps(gt))
    (folder / 'results.json').write_text(json.dumps(results))
    paths = folder / 'gt.json', folder / 'results.json'
    return score_file(*paths, show_progress=False, **options)[0]


def sample(x: int, **more: object) -> dict:
    pred = {'bboxes': torch.tensor([[x, 2.0, x + 8, 10]]), 'scores': torch.tensor([0.9])}
    pred |= {'labels': torch.tensor([0]), 'masks': [square(x)]}
    return {'img_id': 1, 'ori_shape': SIZE, 'pred_instances': pred, **more}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What users are told."""
    said: list[str] = []
    for module in ('score_file', 'mask_ap_metric', 'scoring_metric'):
        path = f'mmrefine.evaluation.{module}.log_warning'
        monkeypatch.setattr(path, said.append)
    return said


@pytest.mark.parametrize('classes', [('Ant', 'Bee'), ('fourmi', 'abeille')])
def test_class_names_that_match_nothing(tmp_path: Path, classes: tuple[str, ...]) -> None:
    (tmp_path / 'gt.json').write_text(
        json.dumps(truth({'segmentation': square(0)}, names=('ant', 'bee')))
    )
    metric = build(classes, ann_file=str(tmp_path / 'gt.json'), metric='segm')
    metric.process({}, [sample(0)])
    with pytest.raises(ValueError, match=rf'gt.json has .*{", ".join(classes)}; .* ant, bee: '):
        metric.evaluate(1)


@pytest.mark.parametrize(
    ('classes', 'told'),
    [
        (('ant', 'bee', 'cat'), None),
        (('bee', 'cat', 'dog'), None),  # whose last label has no category and is refused
        (('cat', 'ant'), "label 0 means 'ant', not 'cat'; 1 means 'cat', not 'ant'. If"),
        (('ant', 'dog', 'cat'), "label 1 means 'cat', not 'dog'. If"),
    ],
)
def test_labels_that_mean_another_category_than_their_class(
    tmp_path: Path, log: list[str], classes: tuple[str, ...], told: str | None
) -> None:
    gt = truth({'segmentation': square(0)}, names=('ant', 'bee', 'cat'))
    (tmp_path / 'gt.json').write_text(json.dumps(gt))
    metric = build(classes, ann_file=str(tmp_path / 'gt.json'), metric='segm')
    for _ in range(2):  # the second validation of a training
        metric.process({}, [sample(0)])
        metric.evaluate(1)
    assert len(log) == (told is not None) and all(told in text for text in log)


def test_no_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="metric must be some of bbox, segm, boundary; got 'none'"):
        build(('ant',), metric=[])


def test_categories_in_the_order_of_their_ids(tmp_path: Path) -> None:
    gt = truth({'segmentation': square(0)}, names=('ant', 'bee'))
    gt['categories'].reverse()
    (tmp_path / 'gt.json').write_text(json.dumps(gt))
    scores = []
    for order in (True, False):
        options = {'ann_file': str(tmp_path / 'gt.json'), 'metric': 'segm'}
        metric = build(('ant', 'bee'), sort_categories=order, **options)
        metric.process({}, [sample(0)])
        scores.append(metric.evaluate(1)['coco/segm_mAP'])
    assert scores == pytest.approx([1, 0])


def instances(x: int) -> dict:
    box = [x, 2.0, x + 8, 10]
    entry = {'bbox': box, 'bbox_label': 0, 'ignore_flag': 0, 'mask': square(x)}
    return {'instances': [entry]}


def test_equal_image_ids_of_two_files(log: list[str], tmp_path: Path) -> None:
    """One picture is right, one is wrong: half of the objects are found at full precision."""
    samples = [
        sample(0, img_path='a/1.jpg', **instances(0)),
        sample(0, img_path='b/1.jpg', **instances(12)),
    ]
    metric = build(('ant',), metric='segm', outfile_prefix=f'{tmp_path}/run')
    # The second time as samplers repeat images.
    metric.process({}, samples + samples)
    found = metric.evaluate(4)
    assert found['coco/segm_AR@100'] == 0.5 and 0.2 < found['coco/segm_mAP'] < 0.6
    assert log == [
        '1 image ids occur in several files: the 2 images are numbered 1, 2, ... in the order of '
        'the data set'
    ]
    numbers, _ = score_file(f'{tmp_path}/run.gt.json', f'{tmp_path}/run.segm.json')
    assert numbers['segm_AP'] == pytest.approx(found['coco/segm_mAP'])


def test_equal_image_ids_that_nothing_tells_apart() -> None:
    metric = build(('ant',), metric='segm')
    metric.process({}, [sample(0, **instances(0)), sample(0, **instances(12))])
    with pytest.raises(ValueError, match='have the id 1: .*img_path'):
        metric.evaluate(2)


def test_two_categories_of_one_name(tmp_path: Path) -> None:
    gt = truth(
        {'segmentation': square(0)},
        {'category_id': 2, 'segmentation': square(12)},
        names=('ant', 'ant', 'bee'),
    )
    results = [result(0.9, segmentation=square(0))]
    found = score(tmp_path, gt, results, iou_types=['segm'], classwise=True)
    assert found['segm_AP/ant (id 1)'] == pytest.approx(1) and found['segm_AP/ant (id 2)'] == 0
    assert found['segm_AP/bee'] == -1 and 'segm_AP/ant' not in found


def test_objects_and_results_without_masks(tmp_path: Path, log: list[str]) -> None:
    whole = truth(*[{'segmentation': square(0)}] * 5)
    part = truth({'segmentation': square(0)}, *[{'segmentation': []}] * 4)
    none = truth({}, {})
    masks = [result(0.9, bbox=[0, 2, 8, 8], segmentation=square(0))]
    boxes = [result(0.8, bbox=[0, 2, 8, 8])]
    with pytest.raises(ValueError, match=r'4 of 5 annotations .* have no segmentation: 2, 3, 4, .'):
        score(tmp_path, part, masks)
    with pytest.raises(ValueError, match=r'1 of 2 results have no segmentation: 1; .* bbox'):
        score(tmp_path, whole, masks + boxes)
    assert not log
    for gt, results, text in (
        (whole, boxes, 'the results have no masks'),
        (none, masks, 'gt.json have no masks'),
    ):
        assert {name.split('_')[0] for name in score(tmp_path, gt, results)} == {'bbox'}
        assert sum(text in line for line in log) == 1
    asked = score(tmp_path, part, masks, iou_types=['bbox'])
    assert asked['bbox_AP'] > 0


def test_boxes_that_are_not_there(tmp_path: Path, log: list[str]) -> None:
    gt, results = make_scene(3, crowds=False)
    found = score(tmp_path, gt, results)
    assert {name.split('_')[0] for name in found} == {'segm', 'boundary'}
    assert f'{len(results)} of {len(results)} results have no bbox' in log[0]
    assert score(tmp_path, gt, results, iou_types=['bbox'])['bbox_AP'] > 0


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
def test_a_file_of_crowds_only(tmp_path: Path, protocol: str) -> None:
    flag = {'coco': 'iscrowd', 'lvis': 'ignore'}[protocol]
    gt = truth(*[{flag: 1, 'segmentation': square(0)}] * 3)
    with pytest.raises(ValueError, match=f'all 3 annotations have {flag}=1'):
        score(tmp_path, gt, [result(0.9, segmentation=square(0))], format=protocol)
    with pytest.raises(ValueError, match=f'all 3 annotations have {flag}=1'):
        build(ann_file=str(tmp_path / 'gt.json'), protocol=protocol)
    if protocol == 'coco':
        crowd = {'instances': [{**instances(0)['instances'][0], 'ignore_flag': 1}]}
        metric = build(('ant',), metric='segm')
        metric.process({}, [sample(0, **crowd)])
        with pytest.raises(ValueError, match='all 1 annotations have iscrowd=1'):
            metric.evaluate(1)


@pytest.mark.parametrize('backend', ['pycocotools', 'vernier'])
@pytest.mark.parametrize('iou_type', ['segm', 'boundary', 'bbox'])
def test_lvis_sees_no_area_of_zero(tmp_path: Path, iou_type: str, backend: str) -> None:
    """An empty prediction at 0.9, an exact one at 0.8, and objects of which nothing is left."""
    logging.getLogger('lvis').setLevel(logging.ERROR)
    empty = square(0, side=0)
    gt = truth(
        {'segmentation': square(0)},
        {'segmentation': empty, 'area': 0, 'bbox': [12, 2, 0, 0]},
        # A category of which only an empty object is there was not looked for.
        {'category_id': 2, 'segmentation': empty, 'area': 0, 'bbox': [12, 2, 0, 0]},
        names=('ant', 'bee'),
    )
    masks = [empty, square(0), square(4)]
    boxes = [[0, 2, 0, 0], [0, 2, 8, 8], [4, 2, 8, 8]]
    results = [
        {**result(s, category_id=c), **({'bbox': b} if iou_type == 'bbox' else {'segmentation': m})}
        for s, c, b, m in zip((0.9, 0.8, 0.7), (1, 1, 2), boxes, masks)
    ]
    federated = GroundTruth.from_dict(gt, federated=True)
    dt = load_results(results, federated)
    expected = lvis_numbers(tmp_path, gt, results, iou_type)
    for protocol in ('lvis', 'lvis-fixed'):
        found = evaluate(federated, dt, [iou_type], make_rules(protocol), backend).numbers
        assert found[f'{iou_type}_AP'] == pytest.approx(expected['AP']) == pytest.approx(1)


def test_empty_predictions_take_part_in_the_caps_of_lvis(tmp_path: Path) -> None:
    gt = truth({'segmentation': square(0)})
    results = [result(0.9, segmentation=square(0, side=0)), result(0.8, segmentation=square(0))]
    expected = lvis_numbers(tmp_path, gt, results, 'segm', max_dets=1)
    federated = GroundTruth.from_dict(gt, federated=True)
    rules = make_rules('lvis', max_dets=1)
    found = evaluate(federated, load_results(results, federated), ['segm'], rules).numbers
    assert found['segm_AP'] == expected['AP'] == 0


def test_ignored_objects_of_lvis(tmp_path: Path) -> None:
    gt = truth({'segmentation': square(0)}, {'segmentation': square(12), 'ignore': 1})
    results = [result(0.9, segmentation=square(0)), result(0.95, segmentation=square(12))]
    expected = lvis_numbers(tmp_path, gt, [dict(r) for r in results], 'segm')
    found = score(tmp_path, gt, results, format='lvis')
    assert found['segm_AP'] == pytest.approx(expected['AP']) == pytest.approx(1)
    with pytest.raises(ValueError, match="ignore=1 .*backend='pycocotools'"):
        score(tmp_path, gt, results, format='lvis', backend='vernier')
