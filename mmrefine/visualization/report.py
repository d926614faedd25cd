"""One static page about one or several result files: numbers, worst images, wrong pixels."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmrefine.evaluation import Detections, GroundTruth, Rules, evaluate
from mmrefine.evaluation.evaluate import Evaluation
from mmrefine.evaluation.protocols import make_rules, read_truth, require_choice
from mmrefine.results.detections import load_results
from mmrefine.results.files import atomic_file
from mmrefine.results.ground_truth import Id
from mmrefine.results.image_files import named_file
from mmrefine.results.json_files import load_json
from mmrefine.results.progress import progress_bar

from .instances import Instances
from .overlays import (
    SHEET_PANELS,
    SHEET_SIDE,
    contact_sheet,
    shrunk,
    truth_beside_prediction,
)
from .picture_files import write_picture
from .report_page import Card, render
from .report_pictures import Panel, make_panel, make_panels
from .score_pictures import confusion_picture, count_confusions, precision_recall

FORMATS = ('coco', 'lvis', 'coco-on-lvis')
MOST_DRAWN = 100  # predictions of an image
Scores = Sequence[tuple[float, float]]  # mask AP and boundary AP of one image, file by file


def write_report(
    gt: str | Path,
    results: Mapping[str, str | Path],
    out: str | Path,
    images: str | Path | None = None,
    format: str = 'coco',
    worst: int = 12,
    score_thr: float = 0.3,
    max_dets: int | None = None,
    backend: str = 'pycocotools',
    title: str = 'Masks and their boundaries',
    pictures: Path | None = None,
    unknown: str = 'error',
) -> Path:
    """Score result files and write the page.

    Args:
        gt: Annotation json.
        results: Name -> result json (COCO list with masks). The first is the one compared with.
        out: The HTML file; a failed run leaves no part of it.
        images: Folder of the pictures; without it masks are drawn on grey.
        format: One of ``FORMATS``.
        worst: Images to show.
        score_thr: Lowest score of a prediction that is drawn.
        max_dets: As for ``make_rules``.
        backend: Engine that scores the files; single images are scored by pycocotools.
        pictures: Folder that also gets ``precision_recall.png``, ``confusion.png`` (of the first
            file) and ``sheet.jpg`` (its first images beside the ground truth).
        unknown: As for ``load_results``; AP* drops them always.

    Raises:
        ValueError: No result file, wrong files or values, a folder without any of the pictures.
    """
    require_choice('format', format, FORMATS)
    if not results:
        raise ValueError('no result file to report on')
    if worst < 1:
        raise ValueError(f'worst must be at least 1, got {worst}')
    if math.isnan(score_thr):
        raise ValueError('score_thr must be a number, got nan')
    if images is not None and not Path(images).is_dir():
        raise ValueError(f'{images} is no folder of pictures')
    rules = make_rules(format, max_dets)
    data = load_json(gt)
    truth = read_truth(data, format, str(gt))
    truth.require(masks=True)
    unknown = 'drop' if format == 'coco-on-lvis' else unknown
    detections = {name: load_results(path, truth, unknown) for name, path in results.items()}
    files = {image['id']: _file_name(image) for image in data['images']}
    if images is not None and not any(_find(images, name) for name in files.values()):
        raise ValueError(
            f'none of the {len(files)} pictures that {gt} names is in {images}, such as '
            f'{next(iter(files.values()))}: give --images the folder that these names start from'
        )
    found = {
        name: evaluate(truth, dt, _iou_types(dt), rules, backend, show_progress=True)
        for name, dt in detections.items()
    }
    objects = {image: _objects(some) for image, some in _by_image(truth.annotations).items()}
    drawn = {name: _predictions(dt, truth, score_thr) for name, dt in detections.items()}
    charts = {
        name: _charts(evaluation, rules, truth, objects, drawn[name])
        for name, evaluation in found.items()
    }
    per_file = [_score_images(truth, dt, rules) for dt in detections.values()]
    per_image = {image: [scores[image] for scores in per_file] for image in per_file[0]}
    cards = []
    for image in _choose(per_image, worst):
        picture, note = _read(images, files[image], truth.sizes[image])
        of_image = {name: predictions[image] for name, predictions in drawn.items()}
        panels = make_panels(picture, objects[image], of_image, truth.categories)
        scores = per_image[image]
        cards.append(Card(files[image], _drop(scores), _behind(scores), scores, panels, note))
    if pictures is not None:
        first = next(iter(drawn.values()))
        sheet = _sheet(list(objects)[:SHEET_PANELS], images, files, truth, objects, first)
        write_picture(pictures / 'sheet.jpg', sheet)
        for name, chart in next(iter(charts.values())).items():
            write_picture(pictures / f'{name}.png', chart)
    facts = [
        f'{len(truth.sizes)} images, {len(truth.annotations)} objects in {Path(gt).name}.',
        f'Predictions drawn from a score of {score_thr:g}; {len(cards)} images shown.',
    ]
    numbers = {name: evaluation.numbers for name, evaluation in found.items()}
    present = {a['category_id'] for a in truth.annotations}
    categories = [
        (name, [evaluation.per_category['boundary'][c] for evaluation in found.values()])
        for c, name in truth.categories.items()
        if c in present
    ]
    with atomic_file(out) as file:
        file.write(render(title, facts, numbers, categories, _chart_panels(charts), cards))
    return Path(out)


def _by_image(annotations: Iterable[dict]) -> dict[Id, list[dict]]:
    found = defaultdict(list)
    for annotation in annotations:
        found[annotation['image_id']].append(annotation)
    return dict(found)


def _charts(
    evaluation: Evaluation,
    rules: Rules,
    truth: GroundTruth,
    objects: Mapping[Id, Instances],
    found: Mapping[Id, Instances],
) -> dict[str, np.ndarray]:
    """File name -> picture of precision and recall, and of confusions."""
    categories = list(truth.categories)
    counts = np.zeros((len(categories) + 1,) * 2, int)
    nothing = Instances([], [], np.zeros(0))
    for image in truth.sizes:
        count_confusions(objects.get(image, nothing), found[image], categories, counts)
    names = list(truth.categories.values())
    return {
        'precision_recall': precision_recall(evaluation.tables, rules),
        'confusion': confusion_picture(counts, names),
    }


def _chart_panels(charts: Mapping[str, Mapping[str, np.ndarray]]) -> list[list[Panel]]:
    texts = {
        'precision_recall': 'precision and recall',
        'confusion': 'objects by the class of their prediction',
    }
    return [
        [make_panel(f'{name}: {texts[kind]}', texts[kind], chart) for kind, chart in some.items()]
        for name, some in charts.items()
    ]


def _sheet(
    shown: Sequence[Id],
    images: str | Path | None,
    files: Mapping[Id, str],
    truth: GroundTruth,
    objects: Mapping[Id, Instances],
    found: Mapping[Id, Instances],
) -> np.ndarray:
    """Some images, ground truth beside prediction, as ``draw_results`` draws them."""
    panels = []
    for image in shown:
        picture, _ = _read(images, files[image], truth.sizes[image])
        drawn = truth_beside_prediction(picture, objects[image], found[image], truth.categories)
        panels.append(shrunk(drawn, SHEET_SIDE))
    return contact_sheet(panels)


def _score_images(gt: GroundTruth, dt: Detections, rules: Rules) -> dict[Id, tuple[float, float]]:
    """Mask and boundary AP of every image with an object that counts, over its categories."""
    annotations, rows = _by_image(gt.annotations), defaultdict(list)
    for i, image in enumerate(dt.image_ids):
        rows[image].append(i)
    scores = {}
    with progress_bar('images', len(annotations), True) as step:
        for image, objects in annotations.items():
            step()
            if all(a['iscrowd'] or a['ignore'] for a in objects):
                continue
            if not rows[image]:
                scores[image] = (0.0, 0.0)
                continue
            present = {a['category_id'] for a in objects}
            categories = {c: name for c, name in gt.categories.items() if c in present}
            one = GroundTruth({image: gt.sizes[image]}, categories, objects, gt.federation, gt.name)
            chosen = dt.select(np.array(rows[image], np.int64))
            numbers = evaluate(one, chosen, ('segm', 'boundary'), rules).numbers
            scores[image] = (numbers['segm_AP'], numbers['boundary_AP'])
    return scores


def _drop(scores: Scores) -> float:
    """Largest mask AP minus boundary AP of any file."""
    return max(mask - boundary for mask, boundary in scores)


def _behind(scores: Scores) -> float:
    """Boundary AP of the first file minus the lowest of the others; 0 with one file."""
    first, *others = (boundary for _, boundary in scores)
    return first - min(others, default=first)


def _choose(per_image: Mapping[Id, Scores], count: int) -> list[Id]:
    """The images with the largest drop, then those where another file is furthest behind."""
    ranked = sorted(per_image, key=lambda image: -_drop(per_image[image]))
    behind = sorted(ranked, key=lambda image: -_behind(per_image[image]))
    chosen = ranked[:count]
    return chosen + [i for i in behind[:count] if i not in chosen and _behind(per_image[i]) > 0]


def _file_name(image: Mapping) -> str:
    return named_file(image) or str(image['id'])


def _objects(annotations: Sequence[Mapping]) -> Instances:
    return Instances(
        [a['segmentation'] for a in annotations],
        [a['category_id'] for a in annotations],
        crowd=np.array([bool(a['iscrowd']) for a in annotations], bool),
    )


def _predictions(dt: Detections, truth: GroundTruth, score_thr: float) -> dict[Id, Instances]:
    """The best predictions of every image that are drawn, best first."""
    rows: dict[Id, list[int]] = {image: [] for image in truth.sizes}
    kept = np.flatnonzero(dt.scores >= score_thr)
    for i in kept[np.argsort(-dt.scores[kept], kind='stable')].tolist():
        if len(rows[dt.image_ids[i]]) < MOST_DRAWN:
            rows[dt.image_ids[i]].append(i)
    return {
        image: Instances(
            [{'size': list(truth.sizes[image]), 'counts': dt.counts[i]} for i in some],
            [dt.category_ids[i] for i in some],
            dt.scores[some],
        )
        for image, some in rows.items()
    }


def _iou_types(dt: Detections) -> tuple[str, ...]:
    """Masks and boundaries, and boxes if every result has one: boxes of masks are not scored."""
    boxes = len(dt) > 0 and not np.isnan(dt.boxes).any()
    return ('bbox', 'segm', 'boundary') if boxes else ('segm', 'boundary')


def _find(images: str | Path, file_name: str) -> Path | None:
    # LVIS names the split too, images may be its folder.
    paths = (Path(images) / file_name, Path(images) / Path(file_name).name)
    return next((path for path in paths if path.is_file()), None)


def _read(
    images: str | Path | None, file_name: str, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """Read a picture as RGB; grey, and a sentence why, where that fails."""
    grey = np.full((*size, 3), 128, np.uint8)
    if images is None:
        return grey, ''
    path = _find(images, file_name)
    picture = None if path is None else cv2.imread(str(path))
    if picture is None:
        return grey, f'The picture {file_name} was not found or cannot be read.'
    h, w = picture.shape[:2]
    if (h, w) != tuple(size):
        return grey, f'The picture is {w} x {h}, the annotations say {size[1]} x {size[0]}.'
    return np.ascontiguousarray(picture[..., ::-1]), ''
