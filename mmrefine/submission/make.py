"""Make checked submission files from results, a dump or a model."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmrefine.masks.run_lengths import pixel_counts, present
from mmrefine.results.cityscapes import write_cityscapes_tree, zip_tree
from mmrefine.results.detections import load_results
from mmrefine.results.dumps import read_dump
from mmrefine.results.entries import EntryReader, coco_entry
from mmrefine.results.files import refuse_overwriting
from mmrefine.results.ground_truth import GroundTruth
from mmrefine.results.image_files import image_file
from mmrefine.results.json_files import iterate_json_list, load_json, write_json_list
from mmrefine.results.log import log_warning
from mmrefine.results.predictions import sample_entries
from mmrefine.results.result_lists import iterate_results
from mmrefine.results.tracks import VideoTruth, read_track, write_tracks

from .check import check_submission
from .formats import best_per_image, coco_name, most_per_image, write_coco_submission

SHOWN = 5  # problems named in an error
TREE_FILE = re.compile(r'.+_leftImg8bit(_\d+_\d+\.png|_pred\.txt)')  # of a Cityscapes submission


@dataclass
class MakeOptions:
    """What to make, from what: ``results`` (json or dump), or a model by ``config``,
    ``checkpoint``, ``image_root`` and ``device``.

    Attributes:
        format: ``'coco'``, ``'lvis'``, ``'cityscapes'`` or ``'youtube-vis'``.
        gt: Json with the images (or videos) and categories.
        out: Folder; for LVIS the json, for YouTube-VIS the zip.
        max_per_image: Default: COCO 100, LVIS 300, else any number.
        split, algorithm: COCO: parts of the file name.
        classes: Names of the classes of the model that made a dump; None: all categories of ``gt``.
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
    classes: list[str] | None = None

    @property
    def is_dump(self) -> bool:
        """Whether ``results`` is a dump."""
        return self.results is not None and self.results.suffix in ('.pkl', '.pickle')

    @property
    def targets(self) -> list[Path]:
        """What is written; the last one is what a server takes."""
        if self.format == 'coco':
            name = coco_name(self.split, self.algorithm)
            return [self.out / f'{name}.json', self.out / f'{name}.zip']
        if self.format == 'cityscapes':
            return [self.out, self.out.with_name(f'{self.out.name}.zip')]
        suffix = '.zip' if self.format == 'youtube-vis' else '.json'
        whole = self.out.suffix == suffix
        return [self.out if whole else self.out.with_name(f'{self.out.name}{suffix}')]

    @property
    def log(self) -> Path:
        """Where the results of a model wait until the submission is made."""
        return self.out.with_name(f'{self.out.name}.progress')


def make_submission(options: MakeOptions) -> list[str]:
    """Write a submission that has passed its check; one that fails leaves an earlier one alone.

    Returns the files; a ValueError names options that do not fit and results that cannot be
    submitted.
    """
    if (options.results is None) == (options.config is None):
        raise ValueError('give either --results or --config with --checkpoint and --image-root')
    _refuse_idle(options)
    most_per_image(options.format, options.max_per_image)
    make = _make_tracks if options.format == 'youtube-vis' else _make_images
    for target in options.targets:
        refuse_overwriting(target, results=options.results, gt=options.gt)
        _require_replaceable(target, options.format)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f'.{options.out.name}.'
    with tempfile.TemporaryDirectory(dir=options.out.parent, prefix=prefix) as scratch:
        made = make(options, Path(scratch))
        problems, _ = check_submission(options.format, made[-1], options.gt, options.max_per_image)
        if problems:
            raise ValueError(
                f'these results cannot be submitted ({len(problems)} problems): '
                f'{"; ".join(problems[:SHOWN])}'
            )
        for file, target in zip(made, options.targets, strict=True):
            _require_replaceable(target, options.format)
            if target.is_dir():
                shutil.rmtree(target)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)
    options.log.unlink(missing_ok=True)
    return list(map(str, options.targets))


def _refuse_idle(options: MakeOptions) -> None:
    """Raise ValueError if an option is given that nothing would read."""
    default = MakeOptions(options.format, options.gt, options.out)
    for names, read, where in (
        (('classes',), options.is_dump, 'a dump (.pkl) in --results'),
        (('checkpoint', 'image_root', 'device'), options.config is not None, '--config'),
        (('split', 'algorithm'), options.format == 'coco', '--format coco'),
    ):
        given = [name for name in names if getattr(options, name) != getattr(default, name)]
        if given and not read:
            raise ValueError(
                f'--{given[0].replace("_", "-")} is read with {where} only: leave it out'
            )


def _require_replaceable(target: Path, format: str) -> None:
    """Raise ValueError unless a target may be replaced: as a whole if it is a folder, which then
    holds nothing else."""
    if not target.exists():
        return
    tree = format == 'cityscapes' and target.suffix != '.zip'
    if target.is_dir() != tree:
        kind = 'a folder' if target.is_dir() else 'a file'
        raise ValueError(f'{target} is {kind}: choose another --out')
    if tree:
        foreign = [p.name for p in target.iterdir() if not TREE_FILE.fullmatch(p.name)]
        if foreign:
            raise ValueError(f'{target} holds other files, e.g. {foreign[0]}; choose a new folder')


def _make_tracks(options: MakeOptions, folder: Path) -> list[Path]:
    if options.results is None:
        raise ValueError(
            'YouTube-VIS: give --results; tools/track_video.py and the metric write them'
        )
    tracks: Iterable[Mapping] = _read_tracks(options.results, VideoTruth.load(options.gt))
    if options.max_per_image is not None:
        tracks = best_per_image(tracks, options.max_per_image, 'video_id')
    return [Path(write_tracks(tracks, folder / 'results')[-1])]


def _read_tracks(results: Path, truth: VideoTruth) -> Iterator[dict]:
    """Tracks of a json list as servers read them, with compressed masks; scores of 0 are left
    out."""
    reader = EntryReader(truth.strips, 'video')
    for i, entry in enumerate(iterate_json_list(results)):
        track = read_track(reader, f'entry {i}', entry, truth)
        if track is None or track[0].score == 0:
            continue
        found, frames = track
        size = list(truth.videos[found.image][:2])
        masks = [counts and {'size': size, 'counts': counts.decode('ascii')} for counts in frames]
        yield {
            'video_id': found.image,
            'category_id': found.category,
            'score': found.score,
            'segmentations': masks,
        }


def _make_images(options: MakeOptions, folder: Path) -> list[Path]:
    data = load_json(options.gt)
    gt = GroundTruth.from_dict(data, name=str(options.gt))
    entries = _entries(options, data, gt)
    most = most_per_image(options.format, options.max_per_image)
    if options.format == 'coco':
        return write_coco_submission(entries, folder, options.split, options.algorithm, most)
    if options.format == 'lvis':
        path = folder / options.targets[0].name
        write_json_list(path, best_per_image(entries, most))
        return [path]
    dt = load_results(best_per_image(entries, most), gt)
    dt.require(masks=True)
    if empty := np.count_nonzero(pixel_counts(present(dt.counts)) == 0):
        log_warning(f'{empty} detections whose mask is empty were left out')
    tree = folder / 'tree'
    tree.mkdir()
    write_cityscapes_tree(dt, gt, {i['id']: image_file(i) for i in data['images']}, tree)
    return [tree, Path(zip_tree(tree, folder / 'tree.zip'))]


def _entries(options: MakeOptions, data: dict, gt: GroundTruth) -> Iterable[dict]:
    if options.config is not None:
        # mmdet's inference is only imported when a model runs.
        from mmrefine.apis.predict_images import predict_images

        if options.checkpoint is None or options.image_root is None:
            raise ValueError('--config needs --checkpoint and --image-root')
        return predict_images(
            options.config,
            options.checkpoint,
            data['images'],
            options.image_root,
            gt,
            options.log,
            options.device,
        )
    assert options.results is not None  # make_submission has checked that one of both is given
    if options.is_dump:
        categories = list(gt.categories)
        if options.classes is not None:
            categories = gt.categories_named(options.classes)
        samples = {sample['img_id']: sample for sample in read_dump(options.results)}
        return (e for s in samples.values() for e in sample_entries(s, gt, categories))
    return _read_entries(options.results, gt)


def _read_entries(results: Path, gt: GroundTruth) -> Iterator[dict]:
    """Entries of a json list as servers read them, with compressed masks or boxes."""
    reader = EntryReader(gt)
    for i, entry in enumerate(iterate_results(results, gt)):
        if found := reader.read(f'entry {i}', entry):
            size = gt.sizes[found.image]
            yield coco_entry(
                found.image, found.category, found.score, found.box, found.counts, size
            )
    reader.finish()
