"""Write detections as COCO result lists; files appear whole or not at all."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrefine.masks.run_lengths import present

from .detections import Detections
from .files import atomic_file
from .ground_truth import GroundTruth


def digest(path: str | Path) -> str:
    """What tells a file from another: the first 16 digits of its SHA-256."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()[:16]


def result_entries(dt: Detections, gt: GroundTruth, masks: bool) -> Iterator[dict[str, Any]]:
    """COCO result entries: ``segmentation`` or ``bbox``, never both.

    An entry with both would be put among the small, medium or large masks by the area of its box.
    """
    scores = dt.mask_scores if masks and dt.mask_scores is not None else dt.scores
    for i in range(len(dt)):
        entry: dict[str, Any] = {
            'image_id': dt.image_ids[i],
            'category_id': dt.category_ids[i],
            'score': float(scores[i]),
        }
        if masks:
            size = list(gt.sizes[dt.image_ids[i]])
            entry['segmentation'] = {
                'size': size,
                'counts': present([dt.counts[i]])[0].decode('ascii'),
            }
        else:
            entry['bbox'] = dt.boxes[i].tolist()
        yield entry


def write_json_list(path: str | Path, entries: Iterator[Any]) -> None:
    """Write a json list entry by entry."""
    with atomic_file(path) as file:
        file.write('[')
        for i, entry in enumerate(entries):
            file.write((',\n' if i else '\n') + json.dumps(entry, separators=(',', ':')))
        file.write('\n]\n')


def write_coco_results(dt: Detections, gt: GroundTruth, prefix: str) -> list[str]:
    """Write ``PREFIX.bbox.json``, and ``PREFIX.segm.json`` if there are masks.

    Returns:
        The paths.
    """
    files = [f'{prefix}.bbox.json']
    write_json_list(files[0], result_entries(dt, gt, masks=False))
    if len(dt) == 0 or dt.counts[0] is not None:
        files.append(f'{prefix}.segm.json')
        write_json_list(files[1], result_entries(dt, gt, masks=True))
    return files
