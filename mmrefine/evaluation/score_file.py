"""Score a result file of any detector, without a model."""

import tempfile
from collections.abc import Mapping, Sequence
from logging import WARNING
from pathlib import Path

from mmengine.logging import print_log
from PIL import Image

from mmrefine.results.detections import Detections, load_results
from mmrefine.results.ground_truth import GroundTruth, Id, load_json
from mmrefine.results.image_files import image_file
from mmrefine.results.tracks import VideoTruth, load_tracks
from mmrefine.submission.cityscapes import scoring_problems
from mmrefine.submission.formats import cityscapes_stem, write_cityscapes_tree

from .cityscapes import score_cityscapes, truth_file
from .cocofy import cocofy
from .evaluate import Evaluation, evaluate
from .rules import VIDEO_AREAS, Rules, make_rules
from .tables import category_table, result_table
from .truth_pngs import paint_truth

FORMATS = ('coco', 'lvis', 'lvis-fixed', 'coco-on-lvis', 'cityscapes', 'youtube-vis')
# What a format has no use for.
UNUSED = {
    'cityscapes': ('max_dets', 'areas', 'backend', 'box_areas'),
    'youtube-vis': ('dilation_ratio', 'box_areas'),
}
SHOWN = 5  # problems named in an error


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

    Args:
        gt: Annotation json; for Cityscapes also the folder with ``*_gtFine_instanceIds.png``.
        results: Result json; for Cityscapes also the folder with ``*_pred.txt``.
        format: One of ``FORMATS``.
        iou_types: Some of ``'bbox'``, ``'segm'``, ``'boundary'``; default: all that the results
            allow.
        max_dets: See ``make_rules``; not for Cityscapes.
        areas: See ``make_rules``; not for Cityscapes.
        dilation_ratio: Width of the boundary band over the image diagonal; not for YouTube-VIS.
        backend: ``'pycocotools'`` or ``'vernier'``; not for Cityscapes.
        box_areas: Small, medium and large masks by the area of their box; not for Cityscapes and
            YouTube-VIS.
        unknown: ``'error'`` or ``'drop'``: results of unlisted images, videos or categories.
            Default: drop them for ``'coco-on-lvis'``, whose annotations cover a part of COCO; else
            an error.
        classwise: Add ``<type>_AP/<category>``.
        show_progress: Draw a progress bar.

    Returns:
        Named numbers, 0-1 or -1 without ground truth, and a table of them.

    Raises:
        ValueError: Files or values that cannot be used, options the format has no use for.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}; got {format!r}')
    given = {
        'max_dets': max_dets is not None,
        'areas': areas is not None,
        'dilation_ratio': dilation_ratio != 0.02,
        'backend': backend != 'pycocotools',
        'box_areas': box_areas,
    }
    _refuse_unused(format, [name for name in UNUSED.get(format, ()) if given[name]])
    unknown = unknown or ('drop' if format == 'coco-on-lvis' else 'error')
    if unknown not in ('error', 'drop'):
        raise ValueError(f"unknown must be 'error' or 'drop', got {unknown!r}")
    for path in (gt, results):
        if not Path(path).exists():
            raise ValueError(f'{path} does not exist')
    if format == 'cityscapes':
        ratio = make_rules(dilation_ratio=dilation_ratio).dilation_ratio
        numbers = _cityscapes(Path(gt), Path(results), iou_types, ratio, unknown, show_progress)
        kept = {k: v for k, v in numbers.items() if classwise or '/' not in k}
        return kept, result_table(Evaluation(kept))
    if format == 'youtube-vis':
        if iou_types is not None and list(iou_types) != ['segm']:
            raise ValueError(
                f'tracks are scored as masks only, --iou-type segm; got {list(iou_types)}'
            )
        caps = make_rules(max_dets=max_dets).max_dets
        named = make_rules(areas=VIDEO_AREAS if areas is None else areas).areas
        rules = Rules(caps, named, crowd_overlap=False)
        videos = VideoTruth.load(gt)
        truth, dt, iou_types = videos.strips, load_tracks(results, videos, unknown), ['segm']
    else:
        rules = make_rules(format, max_dets, areas, dilation_ratio=dilation_ratio)
        data = load_json(gt)
        if format == 'coco-on-lvis':
            data = cocofy(data, str(gt))
        truth = GroundTruth.from_dict(data, rules.federated, name=str(gt))
        dt = load_results(results, truth, unknown)
        iou_types = iou_types or _available(dt, truth)
    found = evaluate(truth, dt, iou_types, rules, backend, box_areas, show_progress)
    numbers, table = dict(found.numbers), result_table(found)
    if classwise:
        table += category_table(found, truth)
        for iou_type, values in found.per_category.items():
            for category, value in values.items():
                numbers[f'{iou_type}_AP/{truth.categories[category]}'] = value
    return numbers, table


def _refuse_unused(format: str, names: Sequence[str]) -> None:
    if names:
        options = ', '.join(f'--{name.replace("_", "-")} ({name})' for name in names)
        raise ValueError(f'--format {format} has no use for {options}: leave it out')


def _available(dt: Detections, gt: GroundTruth) -> list[str]:
    masks = all(counts is not None for counts in dt.counts)
    outlined = all(a.get('segmentation') for a in gt.annotations)
    return ['bbox', 'segm', 'boundary'] if masks and outlined else ['bbox']


def _cityscapes(
    gt: Path,
    results: Path,
    iou_types: Sequence[str] | None,
    ratio: float,
    unknown: str,
    shown: bool,
) -> dict[str, float]:
    iou_types = iou_types or ['segm', 'boundary']
    with tempfile.TemporaryDirectory() as scratch:
        if gt.is_dir():
            if not results.is_dir():
                raise ValueError(
                    f'{results} refers to images by number: give --gt the json that numbers them, '
                    f'not the folder {gt}'
                )
            truths = {_stem(p): p for p in sorted(gt.rglob('*_gtFine_instanceIds.png'))}
        else:
            truths = _truths_of_json(gt, Path(scratch) / 'gt')
        if not truths:
            raise ValueError(f'{gt} holds no *_gtFine_instanceIds.png')
        if not results.is_dir():
            results = _write_tree(gt, results, Path(scratch) / 'results', unknown)
        texts = _texts(results, truths, gt, unknown)
        pairs = [(texts[stem], path) for stem, path in truths.items()]
        return score_cityscapes(pairs, iou_types, ratio, shown)


def _texts(folder: Path, truths: Mapping[str, Path], gt: Path, unknown: str) -> dict[str, Path]:
    """Text file of every image, checked."""
    texts: dict[str, Path] = {}
    foreign = []
    for path in sorted(folder.rglob('*_pred.txt')):
        try:
            stem = _stem(path.name.removesuffix('_pred.txt'))
        except ValueError:
            stem = ''
        if stem not in truths:
            foreign.append(path)
        elif stem in texts:
            raise ValueError(f'{stem} has two text files, {texts[stem]} and {path}: remove one')
        else:
            texts[stem] = path
    missing = sorted(set(truths) - set(texts))
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(truths)} images have no *_pred.txt below {folder}, the first '
            f'is {missing[0]}; an image without detections needs an empty one'
        )
    if foreign and unknown == 'error':
        raise ValueError(
            f'{len(foreign)} *_pred.txt below {folder} belong to no image of {gt}, the first is '
            f'{foreign[0].name}. If these results cover more than this ground truth, leave them '
            "out: --unknown drop (unknown='drop')"
        )
    if foreign:
        print_log(
            f'{len(foreign)} *_pred.txt of unknown images were left out',
            logger='current',
            level=WARNING,
        )
    sizes = {stem: _size(path) for stem, path in truths.items()}
    problems = list(scoring_problems(folder, texts, sizes, unknown))
    if problems:
        shown = '; '.join(problems[:SHOWN])
        raise ValueError(f'{folder} cannot be scored ({len(problems)} problems): {shown}')
    return texts


def _size(png: Path) -> tuple[int, int]:
    with Image.open(png) as image:
        return image.height, image.width


def _stem(path: str | Path) -> str:
    return cityscapes_stem(str(path))


def _truths_of_json(annotation_file: Path, scratch: Path) -> dict[str, Path]:
    data = load_json(annotation_file)
    gt = GroundTruth.from_dict(data, name=str(annotation_file))
    truths: dict[str, Path] = {}
    absent = []
    for image in data['images']:
        found = truth_file(image, annotation_file)
        if found is None:
            absent.append(image['id'])
        else:
            truths[_stem(image_file(image))] = found
    if absent:
        print_log(
            f'{len(absent)} images have no *_gtFine_instanceIds.png beside {annotation_file}: '
            'they are drawn from the annotations, without areas to ignore',
            logger='current',
            level=WARNING,
        )
        painted = paint_truth(gt, _file_names(data, absent), scratch)
        truths.update({_stem(p): p for p in painted.values()})
    return truths


def _write_tree(gt: Path, results: Path, folder: Path, unknown: str) -> Path:
    data = load_json(gt)
    truth = GroundTruth.from_dict(data, name=str(gt))
    dt = load_results(results, truth, unknown)
    dt.require(masks=True)
    write_cityscapes_tree(dt, truth, _file_names(data, list(truth.sizes)), folder)
    return folder


def _file_names(data: Mapping, images: Sequence[Id]) -> dict[Id, str]:
    names = {image['id']: image_file(image) for image in data['images']}
    return {image: names[image] for image in images}
