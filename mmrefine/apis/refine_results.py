"""Give the boxes of a result file the masks of a model, image by image, and go on after a stop."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmrefine
from mmrefine.results.coco_files import digest, write_json_list
from mmrefine.results.files import refuse_overwriting
from mmrefine.results.ground_truth import GroundTruth, load_json
from mmrefine.results.image_files import image_file
from mmrefine.results.json_stream import iterate_json_list
from mmrefine.results.progress import progress_bar

from .class_names import class_names
from .given_boxes import BoxSegmenter, empty_mask
from .load_model import load_model
from .result_boxes import BAD_BOXES, BoxReader, labels_by_name
from .work_file import BoxRow, WorkFile

UNUSED = ('rpn_head.', 'roi_head.bbox_head.')  # the boxes are given


@dataclass
class RefineOptions:
    """What to refine, with what.

    Attributes:
        config: Config of a two-stage model with masks.
        checkpoint: Its weights.
        gt: COCO or LVIS json with the images and categories; annotations are not used.
        images: Folder of the images.
        results: Result json of any detector, with ``bbox``.
        out: Result json to write.
        device: E.g. ``'cuda:0'``.
        chunk: Boxes at once; None: see ``predict_masks``.
        bad_boxes: See ``BoxReader``.
        show_progress: Draw a progress bar.
    """

    config: str
    checkpoint: str
    gt: Path
    images: Path
    results: Path
    out: Path
    device: str = 'cpu'
    chunk: int | None = None
    bad_boxes: str = 'error'
    show_progress: bool = True


def refine_results(options: RefineOptions) -> list[str]:
    """Write the entries of a result file again, with masks; see ``tools/refine_results.py``.

    Memory does not grow with the file: boxes and masks wait in ``OUT.progress`` next to the
    output, from which an interrupted run continues; it goes when the output is complete.

    Returns:
        Lines to tell: what was written, and what was odd about the boxes.

    Raises:
        ValueError: Files that do not fit together; images that are missing or have another size.
        TypeError: The model has no RoI mask head.
        FloatingPointError: The model gives NaN.
    """
    if options.bad_boxes not in BAD_BOXES:
        raise ValueError(f'bad_boxes must be one of {BAD_BOXES}, got {options.bad_boxes!r}')
    _check_output(options)
    data = load_json(options.gt)
    listed = {key: data[key] for key in ('images', 'categories') if key in data}
    gt = GroundTruth.from_dict(listed, name=str(options.gt))
    config = Config.fromfile(options.config)
    work = WorkFile(
        options.out.with_name(f'{options.out.name}.progress'), _settings(options, config)
    )
    try:
        files = _run(options, config, gt, data['images'], work)
        write_json_list(options.out, _entries(options.results, work))
        notes = work.notes()
    except BaseException:
        work.close()
        raise
    work.close(remove=True)
    return [f'{options.out}: masks for the boxes of {files} images', *notes]


def _check_output(options: RefineOptions) -> None:
    inputs = {name: getattr(options, name) for name in ('results', 'gt', 'config', 'checkpoint')}
    refuse_overwriting(options.out, **inputs)
    if options.out.is_dir():
        raise ValueError(f'--out {options.out} is a folder: name a file in it')


def _run(
    options: RefineOptions, config: Config, gt: GroundTruth, images: list, work: WorkFile
) -> int:
    """Complete the work file; the number of images that have boxes."""
    if 'test_dataloader' not in config:
        raise ValueError(f'{options.config} has no test_dataloader, whose pipeline prepares images')
    model = load_model(config, options.checkpoint, options.device, UNUSED)
    segmenter = BoxSegmenter(model, options.chunk)
    if not work.complete:
        labels = labels_by_name(gt.categories, class_names(model))
        reader = BoxReader(gt, labels, options.bad_boxes)
        work.fill(reader.rows(options.results), reader.notes)
    sizes = list(gt.sizes.values())
    files = _image_files(images, gt, work.images(), options.images)
    todo = work.images(todo=True)
    with progress_bar('images', len(todo), options.show_progress) as step:
        for image in todo:
            rows = work.rows(image)
            work.add(image, rows, _masks(segmenter, files[image], rows, sizes[image]))
            step()
    return len(files)


def _masks(
    segmenter: BoxSegmenter, file: Path, rows: list[BoxRow], size: tuple[int, int]
) -> list[dict]:
    """RLEs of the boxes of one image."""
    good = [row for row in rows if row.box]
    boxes = [row.box for row in rows if row.box]
    corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    found, actual = segmenter.segment(file, corners, [row.label for row in good])
    if tuple(actual) != tuple(size):
        raise ValueError(
            f'{file} has {actual[0]} x {actual[1]} pixels (height x width), the json says '
            f'{size[0]} x {size[1]}'
        )
    masks = dict(zip((row.entry for row in good), found))
    return [masks.get(row.entry, empty_mask(size)) for row in rows]


def _entries(results: Path, work: WorkFile) -> Iterator[dict]:
    for entry, mask in zip(iterate_json_list(results), work.masks(), strict=True):
        yield {**entry, 'segmentation': mask}


def _image_files(images: list, gt: GroundTruth, used: list[int], folder: Path) -> dict[int, Path]:
    """Files of the used images.

    Raises:
        ValueError: Some do not exist; the first ones are named.
    """
    by_id = {image['id']: image for image in images}
    ids = list(gt.sizes)
    files = {i: _image_file(by_id[ids[i]], folder) for i in used}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(files)} images do not exist: {", ".join(missing[:3])}'
            + (' ...' if len(missing) > 3 else '')
        )
    return files


def _image_file(image: dict, folder: Path) -> Path:
    """The file itself, or one of its name without the folders in between."""
    name = image_file(image)
    file = folder / name
    bare = folder / Path(name).name
    return bare if not file.is_file() and bare.is_file() else file


def _settings(options: RefineOptions, config: Config) -> dict[str, Any]:
    """What decides about the masks."""
    text = json.dumps(config.to_dict(), sort_keys=True, default=str).encode()
    return {
        'config': hashlib.sha256(text).hexdigest()[:16],
        'checkpoint': digest(Path(options.checkpoint)),
        'results': digest(options.results),
        'gt': digest(options.gt),
        'chunk': options.chunk,
        'bad_boxes': options.bad_boxes,
        'version': mmrefine.__version__,
    }
