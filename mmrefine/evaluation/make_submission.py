"""From results or a model to checked submission files."""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .cityscapes_check import check_cityscapes, cityscapes_images
from .detections import load_results
from .dumps import read_dump, sample_entries
from .ground_truth import GroundTruth, load_json
from .json_stream import iterate_json_list
from .submission import (
    MAX_PER_IMAGE,
    best_per_image,
    write_cityscapes_tree,
    write_coco_submission,
    write_lvis_submission,
    write_video_results,
    zip_tree,
)
from .submission_check import check_list, check_tracks, name_note
from .tracks import VideoTruth

SHOWN = 5  # problems named in an error


@dataclass
class MakeOptions:
    """What to make, from what.

    Attributes:
        format: ``'coco'``, ``'lvis'``, ``'cityscapes'`` or ``'youtube-vis'``.
        gt: Json with the images (or videos) and categories.
        out: Folder; for LVIS the json, for YouTube-VIS the zip.
        results: Result json or dump; or:
        config: Config of a model to run,
        checkpoint: its weights,
        image_root: the folder of the images,
        device: where it runs.
        max_per_image: Default: COCO 100, LVIS 300, else any number.
        split: COCO: part of the file name.
        algorithm: COCO: part of the file name.
    """

    format: str
    gt: Path
    out: Path
    results: Path | None = None
    config: str | None = None
    checkpoint: str | None = None
    image_root: Path | None = None
    device: str = 'cpu'
    max_per_image: int | None = None
    split: str = 'test-dev2017'
    algorithm: str = 'mmrefine'


def make_submission(options: MakeOptions) -> list[str]:
    """Write a submission and check it.

    Returns:
        The files.

    Raises:
        ValueError: Options that do not fit, results that cannot be submitted.
    """
    if (options.results is None) == (options.config is None):
        raise ValueError('give either --results or --config with --checkpoint and --image-root')
    if options.format == 'youtube-vis':
        files = _make_tracks(options)
    else:
        files = _make_images(options)
    problems, _ = check_submission(options.format, files[-1], options.gt, options.max_per_image)
    if problems:
        shown = '; '.join(problems[:SHOWN])
        for file in files:
            shutil.rmtree(file) if Path(file).is_dir() else Path(file).unlink()
        raise ValueError(f'these results cannot be submitted ({len(problems)} problems): {shown}')
    return files


def _make_tracks(options: MakeOptions) -> list[str]:
    if options.results is None:
        raise ValueError(
            'YouTube-VIS: give --results; tools/track_video.py and the metric write them'
        )
    target = options.out.with_suffix('.zip')
    tracks = (t for t in iterate_json_list(options.results) if t.get('score') != 0)
    with tempfile.TemporaryDirectory(dir=_folder(target.parent)) as scratch:
        _, archive = write_video_results(tracks, Path(scratch) / 'results')
        Path(archive).replace(target)
    return [str(target)]


def _make_images(options: MakeOptions) -> list[str]:
    data = load_json(options.gt)
    gt = GroundTruth.from_dict(data, name=str(options.gt))
    entries = _entries(options, data, gt)
    most = options.max_per_image or MAX_PER_IMAGE.get(options.format)
    if options.format == 'coco':
        return write_coco_submission(
            entries, options.out, options.split, options.algorithm, most or 100
        )
    if options.format == 'lvis':
        return write_lvis_submission(entries, options.out.with_suffix('.json'), most or 300)
    dt = load_results(best_per_image(entries, most), gt)
    dt.require(masks=True)
    names = {image['id']: image['file_name'] for image in data['images']}
    # The tree appears under its name when it is complete.
    partial = options.out.with_name(f'{options.out.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_cityscapes_tree(dt, gt, names, partial)
    if options.out.exists():
        if any(p.suffix not in ('.txt', '.png') for p in options.out.iterdir()):
            raise ValueError(f'{options.out} holds other files; choose a new folder')
        shutil.rmtree(options.out)
    partial.replace(options.out)
    archive = options.out.with_name(f'{options.out.name}.zip')
    return [str(options.out), zip_tree(options.out, archive)]


def _entries(options: MakeOptions, data: dict, gt: GroundTruth) -> Iterable[dict]:
    if options.config is not None:
        # mmdet's inference is only imported when a model runs.
        from .predict_images import predict_images

        if options.checkpoint is None or options.image_root is None:
            raise ValueError('--config needs --checkpoint and --image-root')
        log = options.out.with_name(f'{options.out.name}.progress.jsonl')
        return predict_images(
            options.config,
            options.checkpoint,
            data['images'],
            options.image_root,
            gt,
            log,
            options.device,
        ).entries()
    assert options.results is not None  # one of both was given
    if options.results.suffix in ('.pkl', '.pickle'):
        categories = list(gt.categories)
        samples = {sample['img_id']: sample for sample in read_dump(options.results)}
        return (e for s in samples.values() for e in sample_entries(s, gt, categories))
    return _checked_scores(iterate_json_list(options.results))


def _checked_scores(entries: Iterable[dict]) -> Iterable[dict]:
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or 'image_id' not in entry or 'score' not in entry:
            raise ValueError(f'entry {i} is no result: expected an object with image_id and score')
        if 'segmentation' in entry and 'bbox' in entry:
            # Servers would take the areas of masks from such boxes.
            entry = {k: v for k, v in entry.items() if k != 'bbox'}
        yield entry


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def check_submission(
    format: str, path: str | Path, gt: str | Path, max_per_image: int | None = None
) -> tuple[list[str], list[str]]:
    """Check a submission of any tool.

    Args:
        format: ``'coco'``, ``'lvis'``, ``'cityscapes'`` or ``'youtube-vis'``.
        path: The file or folder.
        gt: Json with the images (or videos) and categories; Cityscapes: or a folder of its images.
        max_per_image: Default: COCO 100, LVIS 300, else any number.

    Returns:
        Problems, for which the file is refused, and notes.
    """
    if format == 'cityscapes':
        return check_cityscapes(path, cityscapes_images(gt)), []
    if format == 'youtube-vis':
        return check_tracks(path, VideoTruth.load(gt), max_per_image), []
    note = name_note(Path(path)) if format == 'coco' else None
    return check_list(path, GroundTruth.load(gt), format, max_per_image), [note] if note else []
