"""MaskAPMetric in the place of CocoMetric and LVISMetric: their names, options and numbers.

The cases are those of MMDetection's own tests of the two metrics: four boxes on one picture, all
found. The masks fill the boxes here, as masks must have the size of their picture.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.scenes import make_scene, text_rle
from evaluation.test_mask_ap_metric import build, sample
from mmdet.registry import METRICS

from mmrefine.evaluation import GroundTruth, load_results
from mmrefine.evaluation.score_file import score_file

BOXES = [(50, 60, 20, 20), (100, 120, 30, 30), (150, 160, 40, 40), (250, 260, 100, 100)]
LABELS = [0, 0, 1, 0]
SIZE = (640, 640)
COCO_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
LVIS_ITEMS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')
STOCK = {'coco': 'CocoMetric', 'lvis': 'LVISMetric'}
CLASSES = {'coco': ('car', 'bicycle'), 'lvis': ('aerosol_can', 'air_conditioner')}


def drawn(box: tuple[int, int, int, int]) -> np.ndarray:
    x, y, w, h = box
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def write_truth(folder: Path, protocol: str) -> str:
    image = {'id': 0, 'width': 640, 'height': 640, 'file_name': 'a.jpg'}
    image |= {'neg_category_ids': [], 'not_exhaustive_category_ids': []}
    first = 0 if protocol == 'coco' else 1
    annotations = [
        {
            'id': i + 1, 'image_id': 0, 'category_id': label + first, 'bbox': list(box),
            'area': box[2] * box[3], 'iscrowd': 0, 'segmentation': text_rle(drawn(box)),
        }
        for i, (box, label) in enumerate(zip(BOXES, LABELS))
    ]  # fmt: skip
    categories = [
        {'id': i + first, 'name': name, 'frequency': 'cf'[i]}
        for i, name in enumerate(CLASSES[protocol])
    ]
    path = folder / 'truth.json'
    data = {'images': [image], 'annotations': annotations, 'categories': categories}
    path.write_text(json.dumps(data))
    return str(path)


def predictions(count: int = 4) -> dict:
    boxes = torch.tensor(BOXES[:count], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = np.stack([drawn(box) for box in BOXES])[:count]
    pred = {'bboxes': boxes, 'scores': torch.tensor([1.0, 0.98, 0.96, 0.95][:count])}
    pred |= {'labels': torch.tensor(LABELS[:count]), 'masks': torch.from_numpy(masks)}
    return {'pred_instances': pred, 'img_id': 0, 'ori_shape': SIZE}


def run(protocol: str, count: int = 4, entry: dict | None = None, **options: object) -> dict:
    metric = build(CLASSES[protocol], protocol=protocol, **options)
    metric.process({}, [entry or predictions(count)])
    return metric.evaluate(size=1)


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@pytest.mark.parametrize('classwise', [False, True])
def test_names_and_numbers_of_the_stock_metrics(
    tmp_path: Path, protocol: str, classwise: bool
) -> None:
    options = {'ann_file': write_truth(tmp_path, protocol), 'metric': ['bbox', 'segm']}
    options |= {'classwise': classwise, 'outfile_prefix': f'{tmp_path}/test'}
    stock = METRICS.build({'type': STOCK[protocol], **options})
    stock.dataset_meta = {'classes': list(CLASSES[protocol])}
    stock.process({}, [predictions()])
    expected = stock.evaluate(size=1)
    found = run(protocol, **options)
    items = COCO_ITEMS if protocol == 'coco' else LVIS_ITEMS
    names = {f'{protocol}/{kind}_{item}' for kind in ('bbox', 'segm') for item in items}
    names |= {f'{protocol}/{name}_precision' for name in CLASSES[protocol] if classwise}
    assert names == expected.keys() and names <= found.keys()
    for name, value in expected.items():
        assert value == (-1 if name.endswith('APr') else 1), name
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert {'test.bbox.json', 'test.segm.json'} <= {p.name for p in tmp_path.iterdir()}


def test_both_metrics_agree_where_not_all_is_right(tmp_path: Path) -> None:
    truth, results = make_scene(11)
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    options = {'ann_file': str(tmp_path / 'truth.json'), 'metric': ['bbox', 'segm']}
    options['proposal_nums'] = (1, 10, 100)
    options['metric_items'] = [*COCO_ITEMS, 'AR@100', 'AR_s@1000', 'AR_m@1000']
    stock = METRICS.build({'type': 'CocoMetric', **options})
    options['metric_items'] = [*COCO_ITEMS, 'AR@1', 'AR_s@100', 'AR_m@100']
    ours = METRICS.build({'type': 'MaskAPMetric', **options})
    gt = GroundTruth.from_dict(truth)
    for metric in (stock, ours):
        metric.dataset_meta = {'classes': ['ant', 'bee', 'cat']}
        metric.process({}, [sample(i, results, False, gt) for i in truth['images']])
    expected = stock.evaluate(len(truth['images']))
    found = ours.evaluate(len(truth['images']))
    # CocoMetric's names hold its own default caps, whatever proposal_nums says.
    others = {'AR@100': 'AR@1', 'AR_s@1000': 'AR_s@100', 'AR_m@1000': 'AR_m@100'}
    assert len(found) == len(expected) == 18
    for name, value in expected.items():
        kind, _, item = name.partition('_')
        # Rounded to three digits there.
        assert found[f'{kind}_{others.get(item, item)}'] == pytest.approx(value, abs=5.1e-4), name


@pytest.mark.parametrize(('protocol', 'item'), [('coco', 'mAP_m'), ('lvis', 'APm')])
def test_single_items(tmp_path: Path, protocol: str, item: str) -> None:
    file = write_truth(tmp_path, protocol)
    found = run(protocol, ann_file=file, metric='bbox', metric_items=[item])
    assert found == pytest.approx({f'{protocol}/bbox_{item}': 1})
    with pytest.raises(ValueError, match="'invalid' is none of .*mAP_50|AP50"):
        build(ann_file=file, protocol=protocol, metric_items=['invalid'])


def test_recall_is_named_by_its_cap(tmp_path: Path) -> None:
    file = write_truth(tmp_path, 'coco')
    items = ['AR@100', 'AR@300', 'AR@1000', 'AR_s@1000']
    found = run('coco', ann_file=file, metric='bbox', metric_items=items)
    assert found == pytest.approx({f'coco/bbox_{item}': 1 for item in items})
    found = run('coco', ann_file=file, metric='bbox', proposal_nums=(1, 2))
    # Of the three cars only one counts, then two; the bicycle is found at once.
    assert found['coco/bbox_AR@1'] == pytest.approx((1 / 3 + 1) / 2)
    assert found['coco/bbox_AR@2'] == pytest.approx((2 / 3 + 1) / 2)
    file = write_truth(tmp_path, 'lvis')
    found = run('lvis', ann_file=file, metric='bbox')
    assert found['lvis/bbox_AR@300'] == found['lvis/bbox_ARs@300'] == 1


def test_boundaries_are_named_in_the_same_style(tmp_path: Path) -> None:
    found = run('coco', ann_file=write_truth(tmp_path, 'coco'), metric='boundary', classwise=True)
    assert {f'coco/boundary_{item}' for item in COCO_ITEMS} <= found.keys()
    assert found['coco/car_precision'] == found['coco/boundary_AP/car'] == 1
    found = run('lvis', ann_file=write_truth(tmp_path, 'lvis'), metric='boundary')
    assert {f'lvis/boundary_{item}' for item in LVIS_ITEMS} <= found.keys()


def test_every_number_has_one_name(tmp_path: Path) -> None:
    found = run('coco', count=2, ann_file=write_truth(tmp_path, 'coco'), metric='segm')
    recalls = ('AR@1', 'AR@10', 'AR@100', 'AR_s@100', 'AR_m@100', 'AR_l@100')
    assert found.keys() == {f'coco/segm_{item}' for item in (*COCO_ITEMS, *recalls)}
    assert 0 < found['coco/segm_mAP'] < 1
    with pytest.raises(ValueError, match="'AP50' is none of mAP, mAP_50, .*AR@100"):
        build(metric_items=['AP50'])


def test_thresholds_can_be_set(tmp_path: Path) -> None:
    """Boxes moved by a fifth of their width overlap by 2/3."""
    moved = predictions()
    boxes = moved['pred_instances']['bboxes']
    boxes[:, ::2] += 0.2 * (boxes[:, 2:3] - boxes[:, 0:1])
    file = write_truth(tmp_path, 'coco')
    for thresholds, value in (([0.3, 0.6], 1), ([0.3, 0.7], 0.5), (0.7, 0)):
        found = run('coco', entry=moved, ann_file=file, metric='bbox', iou_thrs=thresholds)
        assert found['coco/bbox_mAP'] == pytest.approx(value)


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
def test_nothing_found_is_zero(tmp_path: Path, protocol: str) -> None:
    found = run(protocol, count=0, ann_file=write_truth(tmp_path, protocol))
    assert {v for name, v in found.items() if not name.endswith('APr')} == {0.0}


@pytest.mark.parametrize('format_only', [False, True])
def test_without_a_file_the_annotations_are_written(tmp_path: Path, format_only: bool) -> None:
    entry = predictions()
    entry['instances'] = [
        {'bbox_label': label, 'bbox': box.tolist(), 'ignore_flag': 0, 'mask': text_rle(drawn(b))}
        for label, box, b in zip(LABELS, entry['pred_instances']['bboxes'], BOXES)
    ]
    prefix = f'{tmp_path}/test'
    options = {'metric': ['bbox', 'segm'], 'outfile_prefix': prefix, 'format_only': format_only}
    found = run('coco', entry=entry, **options)
    assert {'test.bbox.json', 'test.segm.json', 'test.gt.json'} == {
        p.name for p in tmp_path.iterdir()
    }
    numbers, _ = score_file(f'{prefix}.gt.json', f'{prefix}.segm.json', show_progress=False)
    assert [numbers['segm_AP'], numbers['segm_AP_l']] == pytest.approx([1, 1])
    if format_only:
        assert found == {}
    else:
        for kind in ('bbox', 'segm'):
            for item in COCO_ITEMS:
                assert found[f'coco/{kind}_{item}'] == pytest.approx(1), item


def test_only_files_need_a_path(tmp_path: Path) -> None:
    file = write_truth(tmp_path, 'coco')
    with pytest.raises(ValueError, match='outfile_prefix'):
        build(ann_file=file, format_only=True)
    with pytest.raises(ValueError, match=r"got 'proposal_fast': ProposalARMetric"):
        build(ann_file=file, metric='proposal_fast')
    prefix = f'{tmp_path}/test'
    assert run('coco', ann_file=file, format_only=True, outfile_prefix=prefix) == {}
    gt = GroundTruth.load(file)
    assert len(load_results(f'{prefix}.bbox.json', gt)) == 4


def test_recall_of_proposals(tmp_path: Path) -> None:
    options = {'ann_file': write_truth(tmp_path, 'coco'), 'iou_types': 'bbox', 'auc': False}
    metric = METRICS.build({'type': 'ProposalARMetric', 'proposal_nums': (2, 4), **options})
    metric.dataset_meta = {'classes': ('car', 'bicycle')}
    metric.process({}, [predictions()])
    found = metric.evaluate(size=1)
    assert found['proposals/bbox_AR@2'] == 0.5 and found['proposals/bbox_AR@4'] == 1
    assert all(found[f'proposals/bbox_AR_{area}@100'] == 1 for area in 'sml')
