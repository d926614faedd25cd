"""The images with the lowest ids, whatever the order of the file."""

import json
from pathlib import Path

import pytest

from mmrefine.datasets.coco_by_id import CocoFirstImagesDataset


def write(folder: Path, ids: list[int]) -> str:
    images = [{'id': i, 'file_name': f'{i}.jpg', 'height': 8, 'width': 8} for i in ids]
    data = {'images': images, 'annotations': [], 'categories': [{'id': 1, 'name': 'person'}]}
    (folder / 'truth.json').write_text(json.dumps(data))
    return str(folder / 'truth.json')


def load(file: str, number: int) -> CocoFirstImagesDataset:
    return CocoFirstImagesDataset(
        ann_file=file, data_prefix=dict(img=''), num_images=number, test_mode=True
    )


def test_lowest_ids_come_first_and_no_others(tmp_path: Path) -> None:
    file = write(tmp_path, [391895, 42, 7, 100])
    assert [load(file, 3)[i]['img_id'] for i in range(3)] == [7, 42, 100]
    assert len(load(file, 3)) == 3


def test_a_file_with_too_few_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='has 2 images, num_images=3 asked for'):
        load(write(tmp_path, [2, 1]), 3)
