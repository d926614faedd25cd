"""Masks in any form become what servers read; ids that are none end in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation.clips import make_clips
from evaluation.scenes import make_scene
from pycocotools import mask as coco_mask

from mmrefine.evaluation.score_file import score_file
from mmrefine.submission.check import check_submission
from mmrefine.submission.make import MakeOptions, make_submission


def listed(rle: dict | None) -> dict | None:
    """The same mask with its run lengths as numbers."""
    if not rle:
        return rle
    flat = coco_mask.decode(rle).T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return {'size': rle['size'], 'counts': [0, *runs] if flat[0] else runs}


def write(folder: Path, truth: dict, results: list) -> tuple[Path, Path]:
    (folder / 'gt.json').write_text(json.dumps(truth))
    (folder / 'in.json').write_text(json.dumps(results))
    return folder / 'gt.json', folder / 'in.json'


@pytest.mark.parametrize('format', ['coco', 'lvis'])
def test_lists_of_run_lengths_are_compressed(format: str, tmp_path: Path) -> None:
    truth, results = make_scene(0)
    given = [{**r, 'segmentation': listed(r['segmentation'])} for r in results]
    gt, source = write(tmp_path, truth, given)
    problems, _ = check_submission(format, source, gt)
    assert 'the counts are a list' in problems[0]
    out = tmp_path / ('out' if format == 'coco' else 'out.json')
    file = make_submission(MakeOptions(format, gt, out, source))[0]
    masks = {json.dumps(r['segmentation']) for r in results if r['score'] > 0}
    assert {json.dumps(e['segmentation']) for e in json.loads(Path(file).read_text())} == masks


def test_lists_of_run_lengths_and_empty_frames_of_tracks(tmp_path: Path) -> None:
    truth, results = make_clips(0)
    given = [{**r, 'segmentations': [listed(m) or [] for m in r['segmentations']]} for r in results]
    gt, source = write(tmp_path, truth, given)
    options = MakeOptions('youtube-vis', gt, tmp_path / 'out.zip', source)
    assert make_submission(options) == [str(tmp_path / 'out.zip')]
    assert 'the counts are a list' in check_submission('youtube-vis', source, gt)[0][0]
    for track in truth['annotations']:
        track['segmentations'] = [mask or [] for mask in track['segmentations']]
    numbers = score_file(gt, source, 'youtube-vis', show_progress=False)[0]
    gt, source = write(tmp_path, *make_clips(0))
    assert numbers == score_file(gt, source, 'youtube-vis', show_progress=False)[0]


def test_boxes_beside_empty_masks_are_submitted(tmp_path: Path) -> None:
    """As SAHI writes them."""
    truth, results = make_scene(0)
    box = [1, 2, 8, 4]
    boxes = [
        {k: r[k] for k in ('image_id', 'category_id', 'score')} | {'bbox': box, 'segmentation': []}
        for r in results
    ]
    gt, source = write(tmp_path, truth, boxes)
    file = make_submission(MakeOptions('coco', gt, tmp_path / 'out', source))[0]
    found = json.loads(Path(file).read_text())
    assert all(entry['bbox'] == box and 'segmentation' not in entry for entry in found)


@pytest.mark.parametrize('image', [[5], None, {}])
def test_ids_that_are_none_are_named(image: object, tmp_path: Path) -> None:
    truth, results = make_scene(0)
    gt, source = write(tmp_path, truth, [{**results[0], 'image_id': image}])
    with pytest.raises(ValueError, match='entry 0 .* has the unknown image_id'):
        make_submission(MakeOptions('coco', gt, tmp_path / 'out', source))
