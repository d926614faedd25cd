"""Results of ``predict`` read against an annotation file with other ids."""

import json

import pytest
from pycocotools import mask as coco_mask

from mmrefine.results.detections import load_results
from mmrefine.results.ground_truth import GroundTruth
from mmrefine.results.result_lists import matching_files

SIZE = dict(height=8, width=10)
RLE = dict(
    size=[8, 10],
    counts=coco_mask.frPyObjects([[1, 1, 6, 1, 6, 6]], 8, 10)[0]['counts'].decode(),
)


OTHER = dict(
    images=[dict(id=i, file_name=f'{i}.jpg', **SIZE) for i in (1, 2)],
    categories=[dict(id=i, name=str(i)) for i in (1, 2)],
)


def truth(**images):
    """Annotations of pictures ``name=id``, of a dog and a cat."""
    return GroundTruth.from_dict(
        dict(
            images=[dict(id=i, file_name=f'{name}.jpg', **SIZE) for name, i in images.items()],
            categories=[dict(id=90, name='dog'), dict(id=7, name='cat')],
        )
    )


@pytest.fixture
def predicted(tmp_path):
    """A cat on b.jpg and a dog on a.jpg, numbered as ``predict`` does."""
    listing = dict(
        images=[dict(id=i + 1, file_name=f'photos/{n}.jpg', **SIZE) for i, n in enumerate('ab')],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        annotations=[],
    )
    entries = [
        dict(image_id=2, category_id=1, score=0.9, segmentation=RLE),
        dict(image_id=1, category_id=2, score=0.8, segmentation=RLE),
    ]
    (tmp_path / 'images.json').write_text(json.dumps(listing))
    path = tmp_path / 'predictions.json'
    path.write_text(json.dumps(entries))
    return path


def test_pictures_and_classes_are_found_by_name(predicted):
    # read by id, both would count for the other picture
    found = load_results(predicted, truth(b=1, a=2))
    assert (found.image_ids, found.category_ids) == ([1, 2], [7, 90])


@pytest.mark.parametrize('entry', ['3', '{"image_id": [1], "category_id": 1, "score": 1}'])
def test_malformed_entries_are_still_reported(predicted, entry):
    predicted.write_text(f'[{entry}]')
    with pytest.raises(ValueError, match=r'results\[0\]'):
        load_results(predicted, truth(a=1, b=2))


@pytest.mark.parametrize('content', [[], {}, {'images': 3}, {'images': [{'id': 1}]}, None])
def test_lists_of_other_programs_say_nothing(predicted, content):
    predicted.with_name('images.json').write_text(json.dumps(content))
    assert load_results(predicted, GroundTruth.from_dict(OTHER)).image_ids == [2, 1]


def test_other_result_files_keep_their_ids(predicted):
    other = predicted.rename(predicted.with_name('results.json'))
    with pytest.raises(ValueError, match='unknown category_id 1'):
        load_results(other, truth(b=1, a=2))


def test_a_picture_that_the_annotations_lack_is_named_or_dropped(predicted):
    gt = truth(a=5)
    with pytest.raises(ValueError, match=r"unknown image_id 'photos/b\.jpg'"):
        load_results(predicted, gt)
    assert load_results(predicted, gt, unknown='drop').image_ids == [5]


def test_a_class_that_the_annotations_lack_is_named(predicted):
    listing = predicted.with_name('images.json')
    listing.write_text(listing.read_text().replace('cat"', 'bird"'))
    with pytest.raises(ValueError, match="unknown category_id 'bird'"):
        load_results(predicted, truth(a=1, b=2))


def test_names_that_the_annotations_list_twice_are_refused(predicted):
    gt = truth(**{'photos/a': 1, 'photos/b': 2})
    gt.file_names[2] = 'photos/a.jpg'
    with pytest.raises(ValueError, match=r"lists 'photos/a\.jpg' under 2 ids"):
        load_results(predicted, gt, unknown='drop')


def test_the_same_path_counts_before_the_same_name():
    files = {1: 'x/a.jpg', 2: 'y/a.jpg', 3: 'b.jpg', 4: 'z/a.jpg'}
    known = {10: 'y/a.jpg', 20: 'x/a.jpg', 30: 'images/b.jpg'}
    assert matching_files(files, known) == {1: 20, 2: 10, 3: 30, 4: 'z/a.jpg'}
    assert matching_files({1: 'a.jpg'}, {}) == {1: 'a.jpg'}


def test_pictures_of_one_name_in_other_folders_are_not_confused():
    files = {1: 'train/0.jpg', 2: 'valid/0.jpg'}
    assert matching_files(files, {7: 'valid/0.jpg'}) == {1: 'train/0.jpg', 2: 7}
    assert matching_files({1: 'train/0.jpg'}, {7: 'valid/0.jpg'}) == {1: 'train/0.jpg'}
    assert matching_files(files, {7: '0.jpg'}) == files  # either may be meant
    assert matching_files({1: '0.jpg'}, {7: 'a/0.jpg', 8: 'b/0.jpg'}) == {1: '0.jpg'}
