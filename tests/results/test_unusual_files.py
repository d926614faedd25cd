"""Files as other tools write them: read rightly, or refused with a number, a name and a remedy."""

from pathlib import Path

import pytest
from evaluation.scenes import make_scene

from mmrefine.evaluation import GroundTruth, evaluate, load_results
from mmrefine.results.json_files import iterate_json_list, load_json

SIZE = {'height': 30, 'width': 40}
SQUARE = [4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]


def truth(*annotations: dict, **changes: object) -> dict:
    """One image of 40 x 30 pixels with a square, changed by ``annotations``."""
    square = {
        'image_id': 1,
        'category_id': 3,
        'bbox': [4, 4, 16, 16],
        'area': 256,
        'iscrowd': 0,
        'segmentation': [SQUARE],
    }
    return {
        'images': [{'id': 1, 'file_name': 'a.png', **SIZE}],
        'categories': [{'id': 3, 'name': 'ant'}, {'id': 5, 'name': 'bee'}],
        'annotations': [{**square, 'id': i + 1, **a} for i, a in enumerate(annotations or ({},))],
        **changes,
    }


@pytest.mark.parametrize('flag', ['0', '1', 'false', 2, 0.5, [0]])
@pytest.mark.parametrize('key', ['iscrowd', 'ignore'])
def test_flags_are_the_numbers_0_and_1(key: str, flag: object) -> None:
    with pytest.raises(ValueError, match=f'{key} .*: write the number 0 or 1'):
        GroundTruth.from_dict(truth({key: flag}))


@pytest.mark.parametrize(('flag', 'crowd'), [(0, 0), (1, 1), (True, 1), (0.0, 0), (None, 0)])
def test_numbers_and_booleans_are_flags(flag: object, crowd: int) -> None:
    gt = GroundTruth.from_dict(truth({}, {'iscrowd': flag}))
    assert gt.annotations[1]['iscrowd'] == crowd


def test_a_loose_box_near_the_origin_is_no_pair_of_corners() -> None:
    mask = [[1, 1, 20, 1, 20, 20, 1, 20]]
    gt = GroundTruth.from_dict(truth({'bbox': [3, 3, 20, 20], 'segmentation': mask}))
    assert gt.annotations[0]['bbox'] == [3, 3, 20, 20]


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (truth({'bbox': [4, 4, 20, 20]}), r'\[4, 4, 20, 20\], which are the corners'),
        (truth(images=[{'id': 1, 'height': 0, 'width': 4}]), 'whole numbers above 0'),
        (truth(images=[{'id': 1, 'height': -3, 'width': 4}]), 'whole numbers above 0'),
        (truth(images=[{'id': 1, 'height': 3.5, 'width': 4}]), r'4 x 3.5 pixels'),
        (truth(images=[{'id': 1, 'height': '3', 'width': 4}]), "'3'"),
        (truth(images=[{'id': 1, 'height': 1 << 17, 'width': 1 << 17}]), 'can count'),
        (truth(images=[{'id': 1, 'height': 10**400, 'width': 4}]), 'that are numbers'),
        (truth(images=[None]), r'images\[0\] has no id'),
        (truth(images=['a.png']), r'images\[0\] has no id'),
        (truth(images=[{'id': [1], **SIZE}]), r'images\[0\] has the id \[1\]'),
        (truth(categories=['ant']), r'categories\[0\] has no id'),
        (truth(categories=[{'id': {}, 'name': 'ant'}]), r'has the id \{\}'),
        (truth(annotations=[None]), r'annotations\[0\] must be an object'),
        (truth(annotations=['square']), r'annotations\[0\] must be an object'),
        (truth({'image_id': [1]}), r'image \[1\], which is not listed'),
        (truth({'category_id': None}), 'category None, which is not listed'),
        (truth({'bbox': '4444'}), "bbox '4444': expected four"),
        (truth({'bbox': {'x': 4, 'y': 4, 'w': 2, 'h': 2}}), 'expected four finite numbers'),
        (truth({'bbox': ['4', '4', '2', '2']}), 'expected four finite numbers'),
        (truth({'bbox': [4, 4, 10**400, 2]}), 'expected four finite numbers'),
        (truth({'area': 10**400}), 'expected a finite number'),
    ],
)
def test_what_would_spoil_scores_is_refused(data: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        GroundTruth.from_dict(data)


def test_ids_of_annotations_may_be_anything_for_scores() -> None:
    gt = GroundTruth.from_dict(truth({'id': [1]}, {'id': None}, {'id': 'x'}))
    assert [a['file_id'] for a in gt.annotations] == [[1], None, 'x']


@pytest.mark.parametrize('empty', [[], None, {}])
def test_objects_without_a_mask_are_counted_and_named(empty: object) -> None:
    gt = GroundTruth.from_dict(truth(*[{'segmentation': empty}] * 4, {}))
    dt = load_results([], gt)
    reason = r'annotation 1 has no segmentation, nor have 3 others \(2, 3...\)'
    with pytest.raises(ValueError, match=reason):
        evaluate(gt, dt, ['segm'])
    assert evaluate(gt, dt, ['bbox']).numbers['bbox_AP'] == 0


def entry(**changes: object) -> dict:
    return {'image_id': 1, 'category_id': 3, 'score': 0.5, 'bbox': [4, 4, 16, 16], **changes}


def test_results_of_boxes_may_carry_empty_masks() -> None:
    """As SAHI writes them."""
    gt = GroundTruth.from_dict(truth())
    dt = load_results([entry(segmentation=[SQUARE]), *[entry(segmentation=[])] * 3], gt)
    assert evaluate(gt, dt, ['bbox']).numbers['bbox_AP'] == pytest.approx(1)
    reason = (
        r'results\[1\] \(image 1\) has no segmentation, nor have 2 others, such as results\[2\]'
    )
    with pytest.raises(ValueError, match=reason):
        evaluate(gt, dt, ['segm'])


def test_names_decide_which_category_a_label_is() -> None:
    gt = GroundTruth.from_dict(truth())
    assert gt.categories_of(()) == gt.categories_of(('bee', 'ant')) == [3, 5]
    assert gt.categories_named(('bee',)) == gt.categories_of(('bee', 'cat')) == [5]
    with pytest.raises(ValueError, match='has none of the classes Ant, Bee; .* ant, bee'):
        gt.categories_of(('Ant', 'Bee'))
    for classes, reason in (
        (('Ant', 'Bee'), r'does not list .*: Ant, Bee \(it lists ant, bee\)'),
        (('ant', 'bee', 'cat'), 'cat'),
        (('bee', 'ant'), 'another order'),
    ):
        with pytest.raises(ValueError, match=reason):
            gt.categories_named(classes)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'\xef\xbb\xbf[]', 'byte order mark.*utf-8'),
        ('[]'.encode('utf-16'), 'UTF-16'),
        ('[]'.encode('utf-16-le'), 'UTF-16'),
        (b'["\xe9"]', 'no json: .*utf-8.* save it as UTF-8'),
        (b'[' * 200000 + b']' * 200000, 'nested too deep'),
        (b'[1' + b'0' * 5000 + b']', r'no json: [^;]*digits[^;]*$'),
    ],
)
def test_texts_that_no_reader_takes_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / 'list.json'
    file.write_bytes(content)
    for read in (load_json, lambda path: list(iterate_json_list(path))):
        with pytest.raises(ValueError, match=f'list.json .*{reason}'):
            read(file)


def test_an_lvis_file_with_lists_of_lists_is_refused() -> None:
    data = make_scene(0, lvis=True)[0]
    data['images'][0]['neg_category_ids'] = [[3]]
    with pytest.raises(ValueError, match=r'neg_category_ids \[\[3\]\]: expected ids'):
        GroundTruth.from_dict(data, federated=True)


def test_masks_outside_their_image_are_scored_as_empty() -> None:
    far = [[x + 100 for x in SQUARE]]
    gt = GroundTruth.from_dict(truth({}, {'segmentation': far}))
    dt = load_results([entry(segmentation=[SQUARE])], gt)
    assert evaluate(gt, dt, ['segm']).numbers['segm_AR100'] == 0.5
