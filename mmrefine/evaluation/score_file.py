"""Score a result file of any detector, without a model."""

import tempfile
from collections.abc import Mapping, Sequence
from logging import WARNING
from pathlib import Path

from mmengine.logging import print_log

from .cityscapes import score_cityscapes, truth_file
from .cocofy import cocofy
from .detections import Detections, load_results
from .evaluate import Evaluation, evaluate
from .ground_truth import GroundTruth, Id, load_json
from .rules import VIDEO_AREAS, Rules, make_rules
from .submission import cityscapes_stem, write_cityscapes_tree
from .tables import category_table, result_table
from .tracks import VideoTruth, load_tracks
from .truth_pngs import paint_truth

FORMATS = ('coco', 'lvis', 'lvis-fixed', 'coco-on-lvis', 'cityscapes', 'youtube-vis')


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
        max_dets: See ``make_rules``.
        areas: See ``make_rules``.
        dilation_ratio: Width of the boundary band over the image diagonal.
        backend: ``'pycocotools'`` or ``'vernier'``.
        box_areas: Small, medium and large masks by the area of their box.
        unknown: ``'error'`` or ``'drop'``: results of unlisted images or categories. Default: drop
            them for ``'coco-on-lvis'``, whose annotations cover a part of COCO; else an error.
        classwise: Add ``<type>_AP/<category>``.
        show_progress: Draw a progress bar.

    Returns:
        Named numbers, 0-1 or -1 without ground truth, and a table of them.

    Raises:
        ValueError: Files or values that cannot be used.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}; got {format!r}')
    for path in (gt, results):
        if not Path(path).exists():
            raise ValueError(f'{path} does not exist')
    if format == 'cityscapes':
        numbers = _cityscapes(Path(gt), Path(results), iou_types, dilation_ratio, show_progress)
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
        truth, dt, iou_types = videos.strips, load_tracks(results, videos), ['segm']
    else:
        rules = make_rules(format, max_dets, areas, dilation_ratio=dilation_ratio)
        data = load_json(gt)
        if format == 'coco-on-lvis':
            data = cocofy(data)
        truth = GroundTruth.from_dict(data, rules.federated, name=str(gt))
        dt = load_results(
            results, truth, unknown or ('drop' if format == 'coco-on-lvis' else 'error')
        )
        iou_types = iou_types or _available(dt, truth)
    found = evaluate(truth, dt, iou_types, rules, backend, box_areas, show_progress)
    numbers, table = dict(found.numbers), result_table(found)
    if classwise:
        table += category_table(found, truth)
        for iou_type, values in found.per_category.items():
            for category, value in values.items():
                numbers[f'{iou_type}_AP/{truth.categories[category]}'] = value
    return numbers, table


def _available(dt: Detections, gt: GroundTruth) -> list[str]:
    masks = all(counts is not None for counts in dt.counts)
    outlined = all(a.get('segmentation') for a in gt.annotations)
    return ['bbox', 'segm', 'boundary'] if masks and outlined else ['bbox']


def _cityscapes(
    gt: Path, results: Path, iou_types: Sequence[str] | None, ratio: float, shown: bool
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
            results = _write_tree(gt, results, Path(scratch) / 'results')
        texts = {
            _stem(p.name.removesuffix('_pred.txt')): p for p in sorted(results.rglob('*_pred.txt'))
        }
        missing = sorted(set(truths) - set(texts))
        if missing:
            raise ValueError(
                f'{len(missing)} of {len(truths)} images have no *_pred.txt below {results}, the '
                'first '
                f'is {missing[0]}; an image without detections needs an empty one'
            )
        pairs = [(texts[stem], path) for stem, path in truths.items()]
        return score_cityscapes(pairs, iou_types, ratio, shown)


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
            truths[_stem(image['file_name'])] = found
    if absent:
        print_log(
            f'{len(absent)} images have no *_gtFine_instanceIds.png beside {annotation_file}: '
            'they are drawn '
            'from the annotations, without areas to ignore',
            logger='current',
            level=WARNING,
        )
        painted = paint_truth(gt, _file_names(data, absent), scratch)
        truths.update({_stem(p): p for p in painted.values()})
    return truths


def _write_tree(gt: Path, results: Path, folder: Path) -> Path:
    data = load_json(gt)
    truth = GroundTruth.from_dict(data, name=str(gt))
    dt = load_results(results, truth)
    dt.require(masks=True)
    write_cityscapes_tree(dt, truth, _file_names(data, list(truth.sizes)), folder)
    return folder


def _file_names(data: Mapping, images: Sequence[Id]) -> dict[Id, str]:
    names = {image['id']: image['file_name'] for image in data['images']}
    return {image: names[image] for image in images}
