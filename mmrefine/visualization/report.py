"""One static page about one or several result files: numbers, worst images, wrong pixels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmrefine.evaluation import Detections, GroundTruth, Rules, evaluate
from mmrefine.evaluation.protocols import make_rules, read_truth, require_choice
from mmrefine.results.detections import load_results
from mmrefine.results.files import atomic_file
from mmrefine.results.ground_truth import Id
from mmrefine.results.image_files import image_file
from mmrefine.results.json_files import load_json
from mmrefine.results.progress import progress_bar

from .instances import Instances
from .report_page import Card, render
from .report_pictures import make_panels

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

    Raises:
        ValueError: No result file, wrong files or values, a folder without any of the pictures.
    """
    require_choice('format', format, FORMATS)
    if not results:
        raise ValueError('no result file to report on')
    if worst < 1:
        raise ValueError(f'worst must be at least 1, got {worst}')
    if images is not None and not Path(images).is_dir():
        raise ValueError(f'{images} is no folder of pictures')
    rules = make_rules(format, max_dets)
    data = load_json(gt)
    truth = read_truth(data, format, str(gt))
    truth.require(masks=True)
    unknown = 'drop' if format == 'coco-on-lvis' else 'error'
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
    per_file = [_score_images(truth, dt, rules) for dt in detections.values()]
    per_image = {image: [scores[image] for scores in per_file] for image in per_file[0]}
    cards = []
    for image in _choose(per_image, worst):
        picture, note = _read(images, files[image], truth.sizes[image])
        drawn = {
            name: _predictions(dt, image, truth.sizes[image], score_thr)
            for name, dt in detections.items()
        }
        panels = make_panels(picture, _objects(truth, image), drawn, truth.categories)
        scores = per_image[image]
        cards.append(Card(files[image], _drop(scores), _behind(scores), scores, panels, note))
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
        file.write(render(title, facts, numbers, categories, cards))
    return Path(out)


def _score_images(gt: GroundTruth, dt: Detections, rules: Rules) -> dict[Id, tuple[float, float]]:
    """Mask and boundary AP of every image with an object that counts, over its categories."""
    annotations, rows = defaultdict(list), defaultdict(list)
    for annotation in gt.annotations:
        annotations[annotation['image_id']].append(annotation)
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
    named = image.get('file_name') or image.get('coco_url')
    return str(image_file(image) if named else image['id'])


def _objects(truth: GroundTruth, image: Id) -> Instances:
    inside = [a for a in truth.annotations if a['image_id'] == image]
    return Instances(
        [a['segmentation'] for a in inside],
        [a['category_id'] for a in inside],
        crowd=np.array([bool(a['iscrowd']) for a in inside], bool),
    )


def _predictions(dt: Detections, image: Id, size: tuple[int, int], score_thr: float) -> Instances:
    """The best predictions of an image that are drawn, best first."""
    rows = [
        i for i, other in enumerate(dt.image_ids) if other == image and dt.scores[i] >= score_thr
    ]
    rows = sorted(rows, key=lambda i: -dt.scores[i])[:MOST_DRAWN]
    rles = [{'size': list(size), 'counts': dt.counts[i]} for i in rows]
    return Instances(rles, [dt.category_ids[i] for i in rows], dt.scores[rows])


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
