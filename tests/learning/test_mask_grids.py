"""The tool that says what a grid of masks can show."""

import importlib.util
import json
from pathlib import Path

import pytest
from pycocotools import mask as coco_mask

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location('mask_grids', ROOT / 'tools' / 'mask_grids.py')
mask_grids = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mask_grids)
BOXES, MAPS = ('112 x 112 of the box', '28 x 28 of the box'), tuple(mask_grids.MAPS)


def square(first: int, last: int) -> list[list[int]]:
    return [[first, first, last, first, last, last, first, last]]


def annotations(folder: Path, *segmentations: object) -> Path:
    file = folder / 'gt.json'
    objects = [
        dict(id=i + 1, image_id=1, category_id=1, iscrowd=0, segmentation=each)
        for i, each in enumerate(segmentations)
    ]
    image = dict(id=1, file_name='1.png', height=64, width=64)
    file.write_text(
        json.dumps(dict(images=[image], annotations=objects, categories=[dict(id=1, name='a')]))
    )
    return file


def measure(file: Path, scale: int) -> dict:
    return mask_grids.measure(mask_grids.read_objects(file, ()), scale)


def test_a_square_of_whole_cells_fits_every_grid(tmp_path: Path) -> None:
    table = measure(annotations(tmp_path, square(16, 48)), 64)
    assert set(table) == {*BOXES, *MAPS}
    # 'any of the central pixels' of whole cells adds nothing either
    assert [row['mask AP'] for row in table.values()] == pytest.approx([1.0] * len(table))


def test_small_objects_need_fine_grids_or_large_pictures(tmp_path: Path) -> None:
    file = annotations(tmp_path, square(20, 24))  # half a cell of stride 8 in either direction
    small = measure(file, 64)
    fine = (*BOXES, 'stride 2, more than half of the cell')
    assert [small[name]['mask AP'] for name in fine] == pytest.approx([1.0] * 3)
    assert small['stride 8, its share of the cell']['mask AP'] == 0.0
    assert small['stride 8, its share of the cell']['small'] == 0.0
    assert small['stride 8, its share of the cell']['large'] == -1
    large = measure(file, 256)
    assert large['stride 8, its share of the cell']['mask AP'] == pytest.approx(1.0)


@pytest.mark.parametrize('mixed', [False, True])
def test_run_lengths_count_as_polygons_do(tmp_path: Path, mixed: bool) -> None:
    parts = square(16, 48), square(8, 56)
    rles = [coco_mask.merge(coco_mask.frPyObjects(each, 64, 64)) for each in parts]
    rles = [dict(each, counts=each['counts'].decode()) for each in rles]
    found = measure(annotations(tmp_path, parts[0] if mixed else rles[0], rles[1]), 64)
    assert [row['mask AP'] for row in found.values()] == pytest.approx([1.0] * len(found))


def test_more_objects_than_cocos_cap_count_and_none_are_told(tmp_path: Path) -> None:
    crowd = [square(8 * (i % 8), 8 * (i % 8) + 8) for i in range(150)]
    table = measure(annotations(tmp_path, *crowd), 64)
    assert table['112 x 112 of the box']['mask AP'] == pytest.approx(1.0)
    with pytest.raises(ValueError, match='no objects but crowds'):
        mask_grids.read_objects(annotations(tmp_path), ())


def test_objects_meet_where_boxes_share_a_tenth_of_one(tmp_path: Path) -> None:
    def share(*spans: tuple[int, int]) -> float:
        file = annotations(tmp_path, *(square(*span) for span in spans))
        return mask_grids.met_share(mask_grids.read_objects(file, ()))

    assert share((8, 40)) == 0
    assert share((0, 20), (20, 40)) == 0
    assert share((0, 20), (13, 33)) == 1  # 49 of 400 pixels
    assert share((0, 20), (14, 34)) == 0  # 36 of 400
    assert share((0, 60), (30, 40), (61, 64), (60, 63)) == 0.75  # the large one keeps 97 %


def test_main_prints_one_line_a_grid_or_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = annotations(tmp_path, square(16, 48))
    assert mask_grids.main(['--gt', str(file), '--scale', '64']) == 0
    printed = capsys.readouterr().out
    assert '1 objects; 0.0% of them have 10% of their box' in printed
    assert printed.count('| 100.0 | 100.0 |') == len(BOXES + MAPS)
    assert mask_grids.main(['--gt', str(file), '--scale', '0']) == 1
    assert '--scale must be positive, got 0' in capsys.readouterr().err
