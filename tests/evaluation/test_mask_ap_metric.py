"""The metric inside MMDetection: dense or RLE, any number of ranks, with or without a COCO file."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation.references import STOCK_NAMES
from evaluation.scenes import NAMES, make_scene
from mmdet.registry import METRICS
from mmengine.config import Config

from mmrefine.evaluation import GroundTruth, cocofy, evaluate, load_results, make_rules
from mmrefine.evaluation.metric_names import stock_names
from mmrefine.masks import to_dense

IDS = (3, 5, 7)


def build(classes: tuple[str, ...] = NAMES, **options: object) -> object:
    metric = METRICS.build({'type': 'MaskAPMetric', 'show_progress': False, **options})
    metric.dataset_meta = {'classes': classes}
    return metric


def sample(image: dict, results: list[dict], dense: bool, gt: GroundTruth) -> dict:
    own = [r for r in results if r['image_id'] == image['id']]
    size = (image['height'], image['width'])
    boxes = torch.as_tensor(load_results(own, gt).filled_boxes(gt)).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    rles = [r['segmentation'] for r in own]
    pred = {
        'bboxes': boxes,
        'scores': torch.tensor([r['score'] for r in own], dtype=torch.float64),
        'labels': torch.tensor([IDS.index(r['category_id']) for r in own], dtype=torch.long),
        'masks': to_dense(rles, size) if dense else rles,
    }
    return {'img_id': image['id'], 'ori_shape': size, 'pred_instances': pred}


@pytest.fixture
def scene(tmp_path: Path) -> SimpleNamespace:
    truth, results = make_scene(11)
    file = tmp_path / 'truth.json'
    file.write_text(json.dumps(truth))
    gt = GroundTruth.from_dict(truth)
    numbers = evaluate(gt, load_results(results, gt)).numbers
    expected = {
        f'coco/{kind}_{STOCK_NAMES[short]}': value
        for (kind, _, short), value in ((name.partition('_'), v) for name, v in numbers.items())
    }
    samples = {
        dense: [sample(image, results, dense, gt) for image in truth['images']]
        for dense in (True, False)
    }
    return SimpleNamespace(
        truth=truth, results=results, file=str(file), expected=expected, samples=samples
    )


@pytest.mark.parametrize('dense', [True, False])
def test_dense_and_rle_masks_give_the_numbers_of_the_file(
    scene: SimpleNamespace, dense: bool
) -> None:
    metric = build(ann_file=scene.file)
    for entry in scene.samples[dense]:
        metric.process({}, [entry])
    found = metric.evaluate(len(scene.samples[dense]))
    # bbox mAP_s, mAP_m: masks of the file carry no boxes, predictions do
    assert found.keys() == scene.expected.keys()
    for name, value in scene.expected.items():
        if not name.startswith('coco/bbox') or name.endswith(('_mAP', '_mAP_50', '_mAP_75')):
            assert found[name] == pytest.approx(value, abs=1e-12), name


def test_repeated_images_and_other_orders_change_nothing(scene: SimpleNamespace) -> None:
    """Distributed samplers repeat images, and ranks hand over their parts one after the other."""
    samples = scene.samples[False]
    reference = build(ann_file=scene.file)
    reference.process({}, samples)
    expected = reference.evaluate(len(samples))
    ranks = [samples[0::3], samples[1::3], [*samples[2::3], samples[0], samples[1]]]
    metric = build(ann_file=scene.file)
    for part in reversed(ranks):
        metric.process({}, part)
    assert metric.evaluate(sum(map(len, ranks))) == expected


def test_of_a_repeated_image_the_first_prediction_counts(scene: SimpleNamespace) -> None:
    samples = scene.samples[False]
    again = {
        **samples[0],
        'pred_instances': {k: v[:0] for k, v in samples[0]['pred_instances'].items()},
    }
    found = []
    for parts in (samples, [*samples, again]):
        metric = build(ann_file=scene.file)
        metric.process({}, parts)
        found.append(metric.evaluate(len(parts)))
    assert found[0] == found[1]
    metric = build(ann_file=scene.file)
    metric.process({}, [again, *samples])
    assert metric.evaluate(len(samples) + 1) != found[0]


def test_truth_can_come_from_the_samples(scene: SimpleNamespace) -> None:
    for source in ('instances', 'gt_instances'):
        metric = build(metric=['segm', 'boundary'])
        for image, entry in zip(scene.truth['images'], scene.samples[False]):
            own = [a for a in scene.truth['annotations'] if a['image_id'] == image['id']]
            metric.process({}, [{**entry, **truth_fields(source, own, image)}])
        found = metric.evaluate(len(scene.samples[False]))
        for name, value in scene.expected.items():
            if not name.startswith('coco/bbox'):
                assert found[name] == pytest.approx(value, abs=1e-12), name


def truth_fields(source: str, annotations: list[dict], image: dict) -> dict:
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in annotations)]
    labels = [IDS.index(a['category_id']) for a in annotations]
    if source == 'instances':
        return {
            'instances': [
                {'bbox': b, 'bbox_label': i, 'ignore_flag': a['iscrowd'], 'mask': a['segmentation']}
                for b, i, a in zip(boxes, labels, annotations)
            ]
        }
    fields = {}
    for name, crowd in (('gt_instances', 0), ('ignored_instances', 1)):
        rows = [i for i, a in enumerate(annotations) if a['iscrowd'] == crowd]
        rles = [annotations[i]['segmentation'] for i in rows]
        fields[name] = {
            'bboxes': torch.tensor([boxes[i] for i in rows]).reshape(-1, 4),
            'labels': torch.tensor([labels[i] for i in rows], dtype=torch.long),
            'masks': to_dense(rles, (image['height'], image['width'])),
        }
    return fields


def test_categories_are_reported_by_name(scene: SimpleNamespace) -> None:
    metric = build(ann_file=scene.file, metric='segm', classwise=True)
    metric.process({}, scene.samples[False])
    found = metric.evaluate(len(scene.samples[False]))
    per_class = [found[f'coco/segm_AP/{name}'] for name in NAMES]
    assert np.mean(per_class) == pytest.approx(found['coco/segm_mAP'])


def test_categories_of_one_side_only_do_not_count_as_in_the_stock_metric(
    scene: SimpleNamespace,
) -> None:
    """The file has no dogs, the data set no bees; labels follow the file, ant before cat."""
    classes = ('cat', 'dog', 'ant')
    ours = build(classes, ann_file=scene.file, metric='segm', classwise=True)
    stock = METRICS.build({'type': 'CocoMetric', 'ann_file': scene.file, 'metric': 'segm'})
    stock.dataset_meta = {'classes': classes}
    only = [r for r in scene.results if r['category_id'] in (3, 7)]
    gt = GroundTruth.from_dict(scene.truth)
    for image in scene.truth['images']:
        entry = sample(image, only, False, gt)
        entry['pred_instances']['labels'] //= 2
        ours.process({}, [entry])
        stock.process({}, [entry])
    found, expected = (m.evaluate(len(scene.truth['images'])) for m in (ours, stock))
    assert expected['coco/segm_mAP'] > 0.1
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=5.1e-4), name  # stock rounds
    assert 'coco/segm_AP/bee' not in found


def test_result_files_can_be_written_instead(scene: SimpleNamespace, tmp_path: Path) -> None:
    prefix = str(tmp_path / 'deep' / 'run')
    metric = build(ann_file=scene.file, format_only=True, outfile_prefix=prefix)
    metric.process({}, scene.samples[True])
    assert metric.evaluate(len(scene.samples[True])) == {}
    gt = GroundTruth.from_dict(scene.truth)
    numbers = evaluate(gt, load_results(f'{prefix}.segm.json', gt), ['segm', 'boundary']).numbers
    for name, value in numbers.items():
        kind, _, short = name.partition('_')
        expected = scene.expected[f'coco/{kind}_{STOCK_NAMES[short]}']
        assert value == pytest.approx(expected, abs=1e-12)
    assert len(load_results(f'{prefix}.bbox.json', gt)) == len(scene.results)
    assert sorted(p.name for p in (tmp_path / 'deep').iterdir()) == [
        'run.bbox.json',
        'run.segm.json',
    ]


def test_results_of_an_lvis_test_set_can_be_written(scene: SimpleNamespace, tmp_path: Path) -> None:
    prefix = tmp_path / 'run'
    metric = build(
        ann_file=scene.file, protocol='lvis', format_only=True, outfile_prefix=str(prefix)
    )
    metric.process({}, scene.samples[True])
    assert metric.evaluate(len(scene.samples[True])) == {}
    gt = GroundTruth.from_dict(scene.truth)
    assert len(load_results(f'{prefix}.segm.json', gt)) == len(scene.results)
    with pytest.raises(ValueError, match='neg_category_ids'):
        build(ann_file=scene.file, protocol='lvis')


def test_masks_may_be_rated_apart_from_boxes(scene: SimpleNamespace) -> None:
    metric = build(ann_file=scene.file, metric=['bbox', 'segm'])
    for entry in scene.samples[False]:
        pred = dict(entry['pred_instances'])
        pred['mask_scores'], pred['scores'] = pred['scores'], torch.full_like(pred['scores'], 0.5)
        metric.process({}, [{**entry, 'pred_instances': pred}])
    found = metric.evaluate(len(scene.samples[False]))
    assert found['coco/segm_mAP'] == pytest.approx(scene.expected['coco/segm_mAP'], abs=1e-12)
    assert found['coco/bbox_mAP'] != pytest.approx(scene.expected['coco/bbox_mAP'], abs=1e-3)


def test_it_takes_the_place_of_the_metric_in_stock_configs(scene: SimpleNamespace) -> None:
    for name in ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco'):
        import mmdet

        path = Path(mmdet.__file__).parent / '.mim' / 'configs' / f'{name}.py'
        evaluator = Config.fromfile(path).val_evaluator
        evaluator.update(type='MaskAPMetric', ann_file=scene.file, metric=['segm', 'boundary'])
        metric = METRICS.build(evaluator)
        metric.dataset_meta = {'classes': NAMES}
        metric.process({}, scene.samples[False])
        found = metric.evaluate(len(scene.samples[False]))
        assert found['coco/boundary_mAP'] == pytest.approx(scene.expected['coco/boundary_mAP'])


def test_images_that_were_not_predicted_are_an_error(scene: SimpleNamespace) -> None:
    metric = build(NAMES, ann_file=scene.file)
    metric.process({}, scene.samples[False][:-2])
    with pytest.raises(ValueError, match=r'2 images were not predicted, such as .* images of'):
        metric.evaluate(len(scene.samples[False]) - 2)


def test_ap_star_scores_coco_labels_on_lvis_annotations(tmp_path: Path) -> None:
    truth, results = make_scene(2, lvis=True)
    synsets = ('person.n.01', 'beef.n.01', 'acorn.n.01')
    for category, synset in zip(truth['categories'], synsets):
        category['synset'] = synset
    file = tmp_path / 'lvis.json'
    file.write_text(json.dumps(truth))
    classes = tuple(c['name'] for c in cocofy(truth)['categories'])
    metric = build(classes, ann_file=str(file), protocol='coco-on-lvis', metric='segm')
    gt = GroundTruth.from_dict(truth)
    labels = {3: classes.index('person'), 5: classes.index('cow'), 7: classes.index('dog')}
    # One annotated image is not predicted, and one predicted image not annotated.
    left_out = truth['images'][-1]['id']
    for image in truth['images'][:-1]:
        entry = sample(image, results, True, gt)
        found = entry['pred_instances']['labels']
        entry['pred_instances']['labels'] = torch.tensor([labels[IDS[i]] for i in found.tolist()])
        metric.process({}, [entry])
    metric.process({}, [{**entry, 'img_id': 999}])
    numbers = metric.evaluate(len(truth['images']))
    kept = [
        {**r, 'category_id': {3: 1, 5: 21}[r['category_id']]}
        for r in results
        if r['category_id'] < 7 and r['image_id'] != left_out
    ]
    common = {
        **truth,
        'images': truth['images'][:-1],
        'annotations': [a for a in truth['annotations'] if a['image_id'] != left_out],
    }
    star = GroundTruth.from_dict(cocofy(common), federated=True)
    rules = make_rules('coco-on-lvis')
    expected = evaluate(star, load_results(kept, star), ['segm'], rules).numbers
    for name, value in stock_names(expected, rules).items():
        assert numbers[f'coco-on-lvis/{name}'] == pytest.approx(value), name


def test_images_of_one_pixel_and_of_8k(tmp_path: Path) -> None:
    sizes = [(1, 1), (4320, 7680)]
    truth = {
        'images': [{'id': i, 'height': h, 'width': w} for i, (h, w) in enumerate(sizes)],
        'categories': [{'id': 1, 'name': 'ant'}],
        'annotations': [],
    }
    rles = []
    for i, (h, w) in enumerate(sizes):
        start = (w // 2) * h + h // 2
        runs = [start, 1] if h == 1 else [start, 900] + [h - 900, 900] * 99
        runs.append(h * w - sum(runs))
        runs = runs[:-1] if runs[-1] == 0 else runs
        rles.append({'size': [h, w], 'counts': runs})
        truth['annotations'].append(
            {'id': i, 'image_id': i, 'category_id': 1, 'iscrowd': 0, 'segmentation': rles[-1]}
        )
    file = tmp_path / 'truth.json'
    file.write_text(json.dumps(truth))
    metric = build(('ant',), ann_file=str(file))
    for i, size in enumerate(sizes):
        box = torch.tensor([[size[1] // 2, size[0] // 2, size[1] // 2 + 1, size[0] // 2 + 1]])
        pred = {
            'bboxes': box,
            'scores': torch.ones(1),
            'labels': torch.zeros(1),
            'masks': [rles[i]],
        }
        metric.process({}, [{'img_id': i, 'ori_shape': size, 'pred_instances': pred}])
    found = metric.evaluate(2)
    assert found['coco/segm_mAP'] == found['coco/boundary_mAP'] == pytest.approx(1)
