"""Give the boxes of a result file the masks of a model, image by image, and go on after a stop."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmrefine
from mmrefine.results.entries import EntryReader
from mmrefine.results.fields import BoxError, read_box
from mmrefine.results.files import file_digest, refuse_overwriting, value_digest
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.image_files import existing_files
from mmrefine.results.json_files import load_json, write_json_list
from mmrefine.results.progress import progress_bar
from mmrefine.results.result_lists import iterate_results
from mmrefine.results.resume_log import ResumeLog

from .class_names import class_names
from .given_boxes import BoxSegmenter, empty_mask
from .load_model import load_model, read_config
from .tiled_boxes import TiledBoxSegmenter
from .tiling import Tiling, read_tiling

UNUSED = ('rpn_head.', 'roi_head.bbox_head.')  # the boxes are given
BAD_BOXES = ('error', 'empty')
SHOWN = 5  # names listed in an error


@dataclass
class RefineOptions:
    """What to refine, with what."""

    config: str  # config of a two-stage model with masks
    checkpoint: str
    gt: Path  # COCO or LVIS json with the images and categories; annotations are not used
    images: Path  # folder of the images
    results: Path  # result json of any detector, with ``bbox``
    out: Path  # result json to write
    device: str = 'cpu'  # e.g. ``'cuda:0'``
    chunk: int | None = None  # boxes at once; None: see ``predict_masks``
    # A box that is not finite, or inverted: ``'error'``, or ``'empty'`` for an empty mask
    bad_boxes: str = 'error'
    # Height and width, or one number for both: larger images are cut, see ``Tiling``
    tile: int | Sequence[int] | None = None
    overlap: int | None = None  # pixels that tiles share; a quarter of the shorter side
    show_progress: bool = True


def refine_results(options: RefineOptions) -> list[str]:
    """Write the entries of a result file again, with masks; see ``tools/refine_results.py``.

    Memory does not grow with the file: boxes and masks wait in ``OUT.progress`` next to the
    output, from which an interrupted run continues; it goes when the output is complete.

    Returns:
        Lines for the user: what was written, and what was unusual about the boxes.

    Raises:
        ValueError: Files that do not match; images that are missing or have another size.
        TypeError: The model has no RoI mask head.
        FloatingPointError: The model gives NaN.
    """
    if options.bad_boxes not in BAD_BOXES:
        raise ValueError(f'bad_boxes must be one of {BAD_BOXES}, got {options.bad_boxes!r}')
    tiling = read_tiling(options.tile, options.overlap)
    inputs = {name: getattr(options, name) for name in ('results', 'gt', 'config', 'checkpoint')}
    refuse_overwriting(options.out, **inputs)
    if options.out.is_dir():
        raise ValueError(f'--out {options.out} is a folder: name a file in it')
    data = load_json(options.gt)
    listed = {key: data[key] for key in ('images', 'categories') if key in data}
    gt = GroundTruth.from_dict(listed, name=str(options.gt))
    config = read_config(options.config)
    progress = options.out.with_name(f'{options.out.name}.progress')
    with closing(ResumeLog(progress, _run_settings(options, config, tiling))) as log:
        count = _segment_all(options, config, gt, data['images'], log, tiling)
        entries = zip(iterate_results(options.results, gt), log.results(), strict=True)
        write_json_list(options.out, ({**e, 'segmentation': mask} for e, mask in entries))
        notes = log.notes()
    progress.unlink()
    return [f'{options.out}: masks for the boxes of {count} images', *notes]


def _segment_all(
    options: RefineOptions,
    config: Config,
    gt: GroundTruth,
    images: list,
    log: ResumeLog,
    tiling: Tiling | None,
) -> int:
    """Complete the log; return the number of images that have boxes."""
    model = load_model(config, options.checkpoint, options.device, UNUSED)
    whole = BoxSegmenter(model, options.chunk)
    segmenter = whole if tiling is None else TiledBoxSegmenter(whole, tiling)
    if not log.filled:
        unusual: Counter = Counter()
        boxes = _boxes(options, gt, class_names(model), unusual)
        log.fill(
            boxes, lambda: [f'{n} {what}: their masks are empty' for what, n in unusual.items()]
        )
    ids = list(gt.sizes)
    by_id = {image['id']: image for image in images}
    used = log.images()
    files = existing_files((by_id[ids[i]] for i in used), options.images)
    done = log.done()
    todo = [i for i in used if i not in done]
    with progress_bar('images', len(todo), options.show_progress) as step:
        for i in todo:
            tasks = log.tasks(i)
            masks = _masks(segmenter, files[ids[i]], [task for _, task in tasks], gt.sizes[ids[i]])
            log.add(i, zip((number for number, _ in tasks), masks))
            step()
    return len(used)


def _boxes(
    options: RefineOptions, gt: GroundTruth, classes: Sequence[str], unusual: Counter
) -> Iterator[tuple[int, tuple[int, Any]]]:
    """Yield position of the image, class and box (None if it is bad) of every entry.

    ``classes`` are the model's; categories are matched by name, and those it does not know are
    named in a ValueError after the last entry. ``unusual`` counts boxes that get empty masks.
    """
    reader = EntryReader(gt)
    position = {image: i for i, image in enumerate(gt.sizes)}
    labels = {name: label for label, name in enumerate(classes)}
    missing: dict[Id, None] = {}
    for number, entry in enumerate(iterate_results(options.results, gt)):
        found = reader.read_ids(f'{options.results}: entry {number}', entry)
        if found is None:  # only where faults do not raise
            continue
        if gt.categories[found.category] not in labels:
            missing[found.category] = None
            continue
        box = _box(found.label, entry, options.bad_boxes)
        if box is None:
            unusual['boxes are not finite or inverted'] += 1
        else:
            x, y, w, h = box
            height, width = gt.sizes[found.image]
            if not (x < width and y < height and x + w > 0 and y + h > 0):
                unusual['boxes do not touch their image'] += 1
        yield position[found.image], (labels[gt.categories[found.category]], box)
    if missing:
        names = [f'{gt.categories[category]} (id {category})' for category in missing]
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        raise ValueError(
            f'the model has no class of the name of these categories: {", ".join(names[:SHOWN])}'
            f'{more}; it needs a mask head trained on them, or a json whose categories carry the '
            'names it knows'
        )


def _box(label: str, entry: Mapping, bad_boxes: str) -> tuple[float, ...] | None:
    """The box of an entry; None if it is bad and may be."""
    if entry.get('bbox') is None:
        raise ValueError(f'{label} has no "bbox"; give the box results of the detector')
    try:
        return read_box(entry['bbox'])
    except BoxError as error:
        if error.kind != 'type' and bad_boxes == 'empty':
            return None
        hint = '' if error.kind == 'type' else '; --bad-boxes empty gives such boxes an empty mask'
        raise ValueError(f'{label} {error}{hint}') from None


def _masks(
    segmenter: BoxSegmenter | TiledBoxSegmenter, file: Path, tasks: list, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """RLEs of the boxes of one image, counts as text."""
    good = [(label, box) for label, box in tasks if box is not None]
    corners = [(x, y, x + w, y + h) for _, (x, y, w, h) in good]
    found, actual = segmenter.segment(file, corners, [label for label, _ in good])
    if tuple(actual) != tuple(size):
        raise ValueError(
            f'{file} has {actual[0]} x {actual[1]} pixels (height x width), the json says '
            f'{size[0]} x {size[1]}'
        )
    masks = iter(found)
    rles = [empty_mask(size) if box is None else next(masks) for _, box in tasks]
    return [{'size': list(r['size']), 'counts': r['counts'].decode('ascii')} for r in rles]


def _run_settings(options: RefineOptions, config: Config, tiling: Tiling | None) -> dict[str, Any]:
    """What the masks depend on."""
    return {
        'config': value_digest(config.to_dict()),
        'checkpoint': file_digest(options.checkpoint),
        'results': file_digest(options.results),
        'gt': file_digest(options.gt),
        'images': str(options.images.resolve()),
        'chunk': options.chunk,
        'bad_boxes': options.bad_boxes,
        'tiling': str(tiling),
        'version': mmrefine.__version__,
    }
