"""What cannot be scored is refused with the entry and the reason."""

import collections
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.scenes import make_scene
from mmdet.registry import METRICS
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules
from mmrefine.evaluation.protocols import Rules
from mmrefine.results import fields
from mmrefine.results.detections import write_coco_truth
from mmrefine.results.dumps import read_dump
from mmrefine.results.json_files import iterate_json_list
from mmrefine.results.predictions import sample_entries

BOX = {'image_id': 5, 'category_id': 3, 'score': 0.5, 'bbox': [1, 2, 3, 4]}


@pytest.fixture
def truth() -> dict:
    return make_scene(0)[0]


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'score': float('nan')}, 'score nan'),
        ({'score': 'high'}, "score 'high'"),
        ({'bbox': [5, 5, -1, 3]}, 'negative width or height'),
        ({'bbox': [5, 5, float('inf'), 3]}, 'finite'),
        ({'bbox': [5, 5, 3]}, 'four finite numbers'),
        ({'image_id': 6}, r'image_id 6, which .* does not list \(it has 12: 5, 12, 19'),
        ({'image_id': [5]}, r'image_id \[5\]'),
        ({'category_id': 4}, r'category_id 4, which .* does not list \(it has 3: 3, 5, 7\)'),
        ({'segmentation': {'size': [2, 2], 'counts': '4'}}, r'size \[2, 2\], the image is'),
        ({'segmentation': [[1, 1, 2, 2]]}, 'polygon 0 has 2 points'),
        ({'segmentation': 'abc'}, "segmentation is 'abc'"),
    ],
)
def test_the_entry_and_the_reason_are_named(truth: dict, change: dict, reason: str) -> None:
    gt = GroundTruth.from_dict(truth)
    with pytest.raises(ValueError, match=rf'results\[1\].*{reason}'):
        load_results([BOX, {**BOX, **change}], gt)


@pytest.mark.parametrize('kind', [np.float32, np.float64, np.int64])
def test_numbers_of_numpy_are_numbers(truth: dict, kind: type, tmp_path: Path) -> None:
    expected = load_results([BOX], GroundTruth.from_dict(truth))
    for part in ('images', 'annotations', 'categories'):
        for record in truth[part]:
            keys = [k for k, v in record.items() if isinstance(v, int)]
            record.update({k: np.int64(record[k]) for k in keys})
    truth['annotations'][0]['area'] = kind(truth['annotations'][0]['area'])
    found = load_results([{**BOX, 'score': kind(1)}], GroundTruth.from_dict(truth))
    assert (found.image_ids, found.scores.tolist()) == (expected.image_ids, [1.0])
    write_coco_truth(GroundTruth.from_dict(truth), tmp_path / 'truth.json')
    written = json.loads((tmp_path / 'truth.json').read_text())
    assert {image['id'] for image in written['images']} == {i['id'] for i in truth['images']}
    for score in (np.float32('nan'), np.float32('inf'), np.bool_(True)):
        with pytest.raises(ValueError, match='expected a finite number'):
            load_results([{**BOX, 'score': score}], GroundTruth.from_dict(truth))


@pytest.mark.parametrize('form', ['polygon', 'text', 'list'])
def test_boxes_of_corners_are_refused_whatever_the_form_of_the_mask(form: str) -> None:
    inside = np.zeros((50, 60), np.uint8)
    inside[20:40, 30:50] = 1
    packed = coco_mask.encode(np.asfortranarray(inside))['counts'].decode()
    runs = [30 * 50 + 20, *[20, 30] * 19, 20, 50 * 60 - 49 * 50 - 40]
    forms = {
        'polygon': [[30, 20, 50, 20, 50, 40, 30, 40]],
        'text': {'size': [50, 60], 'counts': packed},
        'list': {'size': [50, 60], 'counts': runs},
    }
    annotation = {'id': 4, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'area': 400}
    annotation['segmentation'] = forms[form]
    truth = {
        'images': [{'id': 1, 'height': 50, 'width': 60}],
        'categories': [{'id': 1, 'name': 'box'}],
        'annotations': [annotation],
    }
    annotation['bbox'] = [30, 20, 20, 20]
    GroundTruth.from_dict(truth).require(boxes=True, masks=True)
    annotation['bbox'] = [30, 20, 50, 40]
    with pytest.raises(ValueError, match='which are the corners .* of its mask: write x, y, w, h'):
        GroundTruth.from_dict(truth).require(boxes=True, masks=True)


def test_a_polygon_over_the_edge_stays_valid_when_its_categories_are_chosen_again() -> None:
    truth = {
        'images': [{'id': 1, 'height': 60, 'width': 100}],
        'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}],
        'annotations': [
            {
                'id': 4,
                'image_id': 1,
                'category_id': 1,
                'bbox': [5, 0, 100, 50],  # its corners are those of what the image shows of it
                'segmentation': [[5, 0, 105, 0, 105, 50, 5, 50]],
            }
        ],
    }
    gt = GroundTruth.from_dict(truth)
    for _ in range(2):
        gt.of_classes(['a']).require(masks=True)


@pytest.mark.parametrize('key', ['image_id', 'category_id', 'score'])
def test_missing_fields_are_named(truth: dict, key: str) -> None:
    entry = {k: v for k, v in BOX.items() if k != key}
    with pytest.raises(ValueError, match=rf'results\[0\] has no "{key}"'):
        load_results([entry], GroundTruth.from_dict(truth))


def test_masks_are_decoded_some_at_a_time(truth: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, 'CHUNK', 2)
    gt = GroundTruth.from_dict(truth)
    size = list(gt.sizes[5])
    good = {**BOX, 'segmentation': {'size': size, 'counts': [size[0] * size[1]]}}
    bad = {**BOX, 'segmentation': {'size': size, 'counts': '4'}}
    for place in range(5):
        results = [good] * 5
        results[place] = bad
        with pytest.raises(ValueError, match=rf'results\[{place}\].*cannot be decoded'):
            load_results(results, gt)


def test_an_undecodable_mask_is_named(truth: dict) -> None:
    gt = GroundTruth.from_dict(truth)
    size = list(gt.sizes[5])
    good = {'size': size, 'counts': [size[0] * size[1]]}
    bad = {'size': size, 'counts': '0000'}
    with pytest.raises(ValueError, match=r'results\[1\] .*cannot be decoded'):
        load_results([{**BOX, 'segmentation': s} for s in (good, bad)], gt)


@pytest.mark.parametrize('results', [{'annotations': []}, [[BOX]], [3]])
def test_other_nestings_are_refused(truth: dict, results: object) -> None:
    with pytest.raises(ValueError, match='expected a list of result entries|expected an object'):
        load_results(results, GroundTruth.from_dict(truth))


def test_unknown_entries_can_be_dropped(truth: dict) -> None:
    gt = GroundTruth.from_dict(truth)
    results = [BOX, {**BOX, 'image_id': 6}, {**BOX, 'category_id': 4}]
    assert len(load_results(results, gt, unknown='drop')) == 1
    with pytest.raises(ValueError, match="'error' or 'drop'"):
        load_results(results, gt, unknown='keep')


def test_boxes_cannot_be_scored_as_masks(truth: dict) -> None:
    gt = GroundTruth.from_dict(truth)
    with pytest.raises(ValueError, match='--iou-type bbox'):
        evaluate(gt, load_results([BOX], gt), ['segm'])
    bare = {k: v for k, v in BOX.items() if k != 'bbox'}
    with pytest.raises(ValueError, match='no segmentation and no bbox'):
        evaluate(gt, load_results([bare], gt), ['bbox'])


@pytest.mark.parametrize('share', [0.2, 0.5, 0.8, 0.99])
def test_a_file_cut_off_is_recognised(truth: dict, tmp_path: Path, share: float) -> None:
    results = json.dumps(make_scene(0)[1])
    file = tmp_path / 'results.json'
    file.write_text(results[: int(share * len(results))])
    with pytest.raises(ValueError, match='results.json ends in the middle of entry'):
        load_results(file, GroundTruth.from_dict(truth))
    text = json.dumps(truth)
    file.write_text(text[: int(share * len(text))])
    with pytest.raises(ValueError, match='results.json ends in the middle of an entry'):
        GroundTruth.load(file)


@pytest.mark.parametrize('chunk', [1, 7, 64, 1 << 20])
def test_lists_are_read_in_pieces(tmp_path: Path, chunk: int) -> None:
    entries = [{'a': 1.5, 'b': 'x]y'}, 12345, [], None, {'c': [[1, 2]]}]
    file = tmp_path / 'list.json'
    for text in (json.dumps(entries), json.dumps(entries, indent=2) + '\n'):
        file.write_text(text)
        assert list(iterate_json_list(file, chunk)) == entries
    file.write_text(' [ ] ')
    assert list(iterate_json_list(file, chunk)) == []


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', 'is empty'),
        ('{"a": 1}', "begins with '{'"),
        ('[1 2]', 'entry 1 is no json'),
        ('[1] [2]', 'goes on after the list'),
        ('[tru]', 'entry 0 is no json'),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / 'list.json'
    file.write_text(text)
    with pytest.raises(ValueError, match=reason):
        list(iterate_json_list(file))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'images': None}, '"images" is a NoneType'),
        ({'images': [{'id': 5, 'height': 3}]}, 'has no width and height'),
        ({'categories': [{'name': 'ant'}]}, r'categories\[0\] has no id'),
        ({'annotations': [{'image_id': 6, 'category_id': 3}]}, 'image 6, which is not listed'),
        ({'annotations': [{'image_id': 5, 'category_id': 4}]}, 'category 4, which is not listed'),
        ({'annotations': [{'category_id': 4}]}, 'image_id and category_id'),
        ({'annotations': [{'image_id': 5, 'category_id': 3, 'bbox': [1, 1, -2, 2]}]}, 'negative'),
        (
            {'annotations': [{'image_id': 5, 'category_id': 3, 'bbox': [1, None, 2, 2]}]},
            r'annotations\[0\] has the bbox \[1, None, 2, 2\]: expected four finite numbers',
        ),
        ({'annotations': [{'image_id': 5, 'category_id': 3, 'bbox': '1234'}]}, "bbox '1234'"),
        ({'annotations': [{'image_id': 5, 'category_id': 3, 'bbox': 3}]}, 'the bbox 3: expected'),
        ({'annotations': [{'image_id': 5, 'category_id': 3, 'area': 'big'}]}, "area 'big'"),
        ({'annotations': [{'image_id': 5, 'category_id': 3, 'area': float('nan')}]}, 'area nan'),
    ],
)
def test_annotation_files_are_checked(truth: dict, change: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        GroundTruth.from_dict({**truth, **change})


@pytest.mark.parametrize(
    ('segmentation', 'reason'),
    [
        ([[1, 2, 3, 4]], 'annotation 77 of image 5: polygon 0 has 2 points'),
        ({'size': [1, 1], 'counts': '1'}, 'annotation 77 of image 5: the RLE has the size'),
        ({'size': None, 'counts': '1'}, 'annotation 77 of image 5: the RLE has the size None'),
        (None, 'annotation 77 has no segmentation'),
    ],
)
def test_masks_of_annotations_are_checked(truth: dict, segmentation: object, reason: str) -> None:
    bad = {'id': 77, 'image_id': 5, 'category_id': 3, 'area': 1, 'bbox': [0, 0, 1, 1]}
    gt = GroundTruth.from_dict({**truth, 'annotations': [{**bad, 'segmentation': segmentation}]})
    assert evaluate(gt, load_results([], gt), ['bbox']).numbers['bbox_AP'] == 0
    with pytest.raises(ValueError, match=reason):
        evaluate(gt, load_results([], gt), ['segm'])


@pytest.mark.parametrize(
    'options',
    [
        {'protocol': 'voc'},
        {'max_dets': 0},
        {'max_dets': ()},
        {'protocol': 'lvis', 'max_dets': 0},
        {'protocol': 'lvis', 'max_dets': ()},
        {'protocol': 'lvis-fixed', 'max_dets': -1},
        {'protocol': 'coco-on-lvis', 'max_dets': 1.5},
        {'areas': {'s': (9, 1)}},
        {'iou_thresholds': 1.5},
        {'dilation_ratio': 0},
    ],
)
def test_rules_are_checked(options: dict) -> None:
    with pytest.raises(ValueError, match='must'):
        make_rules(**options)


def process(truth: dict, tmp_path: Path, **change: object) -> object:
    file = tmp_path / 'truth.json'
    image = truth['images'][0]
    first = [one for one in truth['annotations'] if one['image_id'] == image['id']]
    file.write_text(json.dumps({**truth, 'images': [image], 'annotations': first}))
    metric = METRICS.build({'type': 'MaskAPMetric', 'ann_file': str(file), 'show_progress': False})
    metric.dataset_meta = {'classes': ('ant', 'bee', 'cat')}
    size = change.pop('size', (image['height'], image['width']))
    pred = {
        'bboxes': torch.tensor([[1.0, 1.0, 4.0, 4.0]]),
        'scores': torch.tensor([0.5]),
        'labels': torch.tensor([0]),
        'masks': torch.ones((1, *size), dtype=torch.bool),
        **change,
    }
    sample = {'img_id': change.pop('img_id', image['id']), 'ori_shape': size}
    metric.process({}, [{**sample, 'pred_instances': pred}])
    return metric.evaluate(1)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'scores': torch.tensor([float('nan')])}, 'image 5, instance 0: score nan'),
        ({'bboxes': torch.tensor([[4.0, 1.0, 1.0, 4.0]])}, 'x2 < x1'),
        ({'bboxes': torch.full((1, 4), float('nan'))}, 'is not finite'),
        ({'masks': torch.ones((1, 3, 3))}, 'rescale=True'),
        ({'masks': [{'size': [3, 3], 'counts': '9'}]}, 'instance 0: the RLE has the size'),
        ({'masks': torch.ones((0, 3, 3))}, 'rescale=True|differ in number'),
        ({'labels': torch.tensor([3])}, 'label 3, but .* has 3'),
        ({'img_id': 999}, 'image 999 is not in'),
    ],
)
def test_predictions_are_checked(truth: dict, tmp_path: Path, change: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        process(truth, tmp_path, **change)


def test_images_of_another_size_than_the_file_says_are_refused(truth: dict, tmp_path: Path) -> None:
    height, width = truth['images'][0]['height'], truth['images'][0]['width']
    truth['images'][0]['height'] += 1
    with pytest.raises(ValueError, match=rf'image 5: its masks have \({height}, {width}\) pixels'):
        process(truth, tmp_path, size=(height, width), masks=torch.ones((1, height, width)) > 0)


def test_empty_predictions_score_zero(truth: dict, tmp_path: Path) -> None:
    nothing = {
        'bboxes': torch.zeros((0, 4)),
        'scores': torch.zeros(0),
        'labels': torch.zeros(0, dtype=torch.long),
        'masks': [],
    }
    assert process(truth, tmp_path, **nothing)['coco/segm_mAP'] == 0


def test_options_of_the_metric_are_checked() -> None:
    for options, reason in (
        ({'metric': 'mask'}, 'metric must be'),
        ({'backend': 'fast'}, 'backend must be'),
        ({'format_only': True}, 'needs outfile_prefix'),
        ({'protocol': 'lvis'}, 'needs ann_file'),
    ):
        with pytest.raises(ValueError, match=reason):
            METRICS.build({'type': 'MaskAPMetric', **options})


def test_caps_of_rules_are_positive() -> None:
    for caps in ({'per_image': 0}, {'per_category': -3}, {'per_image': 2.0}):
        with pytest.raises(ValueError, match='must be a positive integer'):
            Rules(**caps)


def test_a_box_made_from_a_bad_mask_is_named(truth: dict) -> None:
    bad = {'id': 77, 'image_id': 5, 'category_id': 3, 'area': 1, 'segmentation': [[1, 2, 3, 4]]}
    gt = GroundTruth.from_dict({**truth, 'annotations': [bad]})
    with pytest.raises(ValueError, match='annotation 77 of image 5: polygon 0 has 2 points'):
        evaluate(gt, load_results([], gt), ['bbox'])


def test_lists_of_an_lvis_image_are_checked() -> None:
    truth = make_scene(0, lvis=True)[0]
    truth['images'][1]['neg_category_ids'] = None
    with pytest.raises(ValueError, match='image 12 has the neg_category_ids None: expected a list'):
        GroundTruth.from_dict(truth, federated=True)


@pytest.mark.parametrize(
    ('sample', 'reason'),
    [
        ({'img_id': 5}, r"image 5 of the dump has no pred_instances \(it has \['img_id'\]\)"),
        ({'img_id': 5, 'pred_instances': None}, 'has no pred_instances'),
        ({'img_id': 5, 'pred_instances': {'bboxes': []}}, 'without scores, labels'),
        ({'img_id': 6, 'pred_instances': {}}, 'image 6 is not in'),
    ],
)
def test_samples_of_a_dump_are_checked(truth: dict, sample: dict, reason: str) -> None:
    gt = GroundTruth.from_dict(truth)
    with pytest.raises(ValueError, match=reason):
        list(sample_entries(sample, gt, list(gt.categories)))


@pytest.mark.parametrize('label', [-1, 3])
def test_labels_of_no_category_are_refused(truth: dict, label: int) -> None:
    pred = {'scores': [0.5], 'bboxes': [[1, 2, 3, 4]], 'labels': [label]}
    sample = {'img_id': 5, 'pred_instances': pred}
    with pytest.raises(ValueError, match=f'label {label}, but .* has 3 categories'):
        list(sample_entries(sample, GroundTruth.from_dict(truth), [3, 5, 7]))


def test_a_damaged_dump_is_refused_whatever_it_breaks(tmp_path: Path) -> None:
    """Every byte of a small dump changed, and the dump cut off everywhere."""
    pred = {'scores': torch.ones(1), 'labels': collections.OrderedDict(a=[1.5, 'b'])}
    good = pickle.dumps([{'img_id': 1, 'pred_instances': pred}], protocol=2)
    file = tmp_path / 'dump.pkl'
    damaged = [good[:i] for i in range(0, len(good), 9)]
    damaged += [good[:i] + bytes([good[i] ^ 0x15]) + good[i + 1 :] for i in range(0, len(good), 3)]
    refused = 0
    for content in damaged:
        file.write_bytes(content)
        try:
            read_dump(file)
        except ValueError as error:
            refused += str(file) in str(error)
    assert refused > len(damaged) // 3
    file.write_bytes(b'\x80\x02}r')
    with pytest.raises(ValueError, match=r'dump.pkl cannot be read as a dump \(.+\): .* again'):
        read_dump(file)


def test_predictions_of_a_model_are_read_as_those_of_a_dump(truth: dict) -> None:
    gt = GroundTruth.from_dict(truth)
    pred = {
        'scores': torch.tensor([0.5]),
        'bboxes': torch.tensor([[1.0, 2.0, 4.0, 8.0]]),
        'labels': torch.tensor([1]),
    }
    for sample in (pred, InstanceData(**pred)):
        found = list(sample_entries({'img_id': 5, 'pred_instances': sample}, gt, [3, 5, 7]))
        assert found == [{'image_id': 5, 'category_id': 5, 'score': 0.5, 'bbox': [1, 2, 3, 6]}]
