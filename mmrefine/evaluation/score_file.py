"""Score a result file of any detector, without a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrefine.results.detections import Detections, load_results
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.json_files import load_json
from mmrefine.results.log import log_warning
from mmrefine.results.tracks import VideoTruth, load_tracks

from .cityscapes import score_cityscapes
from .cityscapes_files import paired_files
from .evaluate import Evaluation, evaluate
from .protocols import (
    PROTOCOLS,
    make_rules,
    read_truth,
    require_choice,
    require_objects,
    video_rules,
)
from .tables import category_table, result_table

FORMATS = (*PROTOCOLS, 'cityscapes', 'youtube-vis')
# Options that have no meaning for a format.
UNUSED = {
    'cityscapes': ('max_dets', 'areas', 'backend', 'box_areas'),
    'youtube-vis': ('dilation_ratio', 'box_areas'),
}


def score_file(
    gt: str | Path,
    results: str | Path,
    format: str = 'coco',
    iou_types: Sequence[str] | None = None,
    max_dets: int | None = None,
    areas: Mapping[str, Sequence[float]] | None = None,
    dilation_ratio: float = 0.02,
    backend: str = 'pycocotools',
    box_areas: bool = False,
    unknown: str | None = None,
    classwise: bool = False,
    show_progress: bool = True,
) -> tuple[dict[str, float], str]:
    """Score one file.

    The other arguments are those of ``make_rules`` and ``evaluate``; ``UNUSED`` says which of them
    a format does not have.

    Args:
        gt: Annotation json; for Cityscapes also the folder with ``*_gtFine_instanceIds.png``.
        results: Result json; for Cityscapes also the folder with ``*_pred.txt``.
        format: One of ``FORMATS``.
        iou_types: Default: all that the results allow; what is left out is logged.
        unknown: ``'error'`` or ``'drop'``: results of unlisted images, videos or categories.
            Default: drop them for ``'coco-on-lvis'``, whose annotations cover a part of COCO; else
            an error.
        classwise: Add ``<type>_AP/<category>``.

    Returns:
        Named numbers, 0-1 or -1 without ground truth, and a table of them.
    """
    require_choice('format', format, FORMATS)
    given = {
        'max_dets': max_dets is not None,
        'areas': areas is not None,
        'dilation_ratio': dilation_ratio != 0.02,
        'backend': backend != 'pycocotools',
        'box_areas': box_areas,
    }
    unused = [name for name in UNUSED.get(format, ()) if given[name]]
    if unused:
        options = ', '.join(f'--{name.replace("_", "-")} ({name})' for name in unused)
        raise ValueError(f'--format {format} has no use for {options}: leave it out')
    unknown = unknown or ('drop' if format == 'coco-on-lvis' else 'error')
    if unknown not in ('error', 'drop'):
        raise ValueError(f"unknown must be 'error' or 'drop', got {unknown!r}")
    for path in (gt, results):
        if not Path(path).exists():
            raise ValueError(f'{path} does not exist')
    if format == 'cityscapes':
        ratio = make_rules(dilation_ratio=dilation_ratio).dilation_ratio
        with paired_files(Path(gt), Path(results), unknown) as pairs:
            types = iou_types or ('segm', 'boundary')
            numbers = score_cityscapes(pairs, types, ratio, show_progress)
        kept = {k: v for k, v in numbers.items() if classwise or '/' not in k}
        return kept, result_table(Evaluation(kept))
    if format == 'youtube-vis':
        if iou_types is not None and list(iou_types) != ['segm']:
            raise ValueError(
                f'tracks are scored as masks only, --iou-type segm; got {list(iou_types)}'
            )
        rules = video_rules(max_dets, areas)
        videos = VideoTruth.load(gt)
        require_objects(videos.strips)
        truth, dt, iou_types = videos.strips, load_tracks(results, videos, unknown), ['segm']
    else:
        rules = make_rules(format, max_dets, areas, dilation_ratio=dilation_ratio)
        truth = read_truth(load_json(gt), format, str(gt))
        dt = load_results(results, truth, unknown)
        iou_types = iou_types or scorable_types(dt, truth)
    found = evaluate(truth, dt, iou_types, rules, backend, box_areas, show_progress)
    if not classwise:
        return found.numbers, result_table(found)
    numbers = {**found.numbers, **found.named_categories(truth)}
    return numbers, result_table(found) + category_table(found, truth)


def scorable_types(dt: Detections, gt: GroundTruth) -> list[str]:
    """IoU types for which the files have boxes or masks; what is left out is logged. ValueError if
    only a part of the results or annotations have masks."""
    masks = _all_have_masks('results', list(enumerate(dt.counts)))
    # Also checked if the results have none, as a part without masks is a fault of the file.
    masks &= _all_have_masks(
        f'annotations of {gt.name}', [(a['file_id'], a.get('segmentation')) for a in gt.annotations]
    )
    boxless = int(np.isnan(dt.boxes[:, 0]).sum())
    if boxless and masks:
        log_warning(
            f'{boxless} of {len(dt)} results have no bbox: box AP is left out; --iou-type bbox '
            'scores the boxes of their masks'
        )
        return ['segm', 'boundary']
    return ['bbox', 'segm', 'boundary'] if masks else ['bbox']


def _all_have_masks(what: str, masks: Sequence[tuple[Id, Any]]) -> bool:
    missing = [name for name, mask in masks if not mask]
    if missing and len(missing) < len(masks):
        raise ValueError(
            f'{len(missing)} of {len(masks)} {what} have no segmentation: '
            f'{", ".join(map(str, missing[:3]))}{", ..." if len(missing) > 3 else ""}; complete or '
            'remove them, or score boxes only: --iou-type bbox'
        )
    if missing:
        log_warning(f'the {what} have no masks: mask and boundary AP are left out')
    return not missing
