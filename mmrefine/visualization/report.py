"""One static page about one or several result files: numbers, worst images, wrong pixels."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmrefine.evaluation import Detections, Evaluation, GroundTruth, Rules, evaluate
from mmrefine.evaluation.protocols import IOU_TYPES, make_rules, read_truth, require_choice
from mmrefine.results.detections import load_results
from mmrefine.results.files import atomic_file
from mmrefine.results.ground_truth import load_json
from mmrefine.results.image_files import image_file
from mmrefine.results.progress import progress_bar

from .instances import Instances
from .report_page import Card, render
from .report_pictures import make_panels

FORMATS = ('coco', 'lvis', 'coco-on-lvis')
MOST_DRAWN = 100  # predictions of an image


@dataclass
class Results:
    """One result file, scored.

    Attributes:
        name: What the reader calls it.
        detections: Its contents.
        evaluation: Numbers over all images.
        per_image: Image id -> (mask AP, boundary AP); images without ground truth are left out.
    """

    name: str
    detections: Detections
    evaluation: Evaluation
    per_image: dict[Hashable, tuple[float, float]]


@dataclass
class Ranked:
    """One image and how much its boundaries cost.

    Attributes:
        image: Image id.
        drop: Largest mask AP minus boundary AP of any result file.
        behind: Boundary AP of the first file minus the lowest of the others; 0 with one file.
    """

    image: Hashable
    drop: float
    behind: float


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
        out: The HTML file; it appears whole or not at all.
        images: Folder of the pictures; without it masks are drawn on grey.
        format: ``'coco'``, ``'lvis'`` or ``'coco-on-lvis'``.
        worst: Images to show.
        score_thr: Lowest score of a prediction that is drawn.
        max_dets: As for ``make_rules``.
        backend: Engine that scores the whole files.
        title: Heading of the page.

    Returns:
        ``out``.

    Raises:
        ValueError: No result file, wrong files or values.
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
    scored = []
    for name, path in results.items():
        dt = load_results(path, truth, unknown)
        whole = evaluate(truth, dt, IOU_TYPES, rules, backend, show_progress=True)
        scored.append(Results(name, dt, whole, _score_images(truth, dt, rules)))
    shown = _choose(scored, worst)
    files = {image['id']: _file_name(image) for image in data['images']}
    cards = [_card(r, truth, scored, files[r.image], images, score_thr) for r in shown]
    facts = [
        f'{len(truth.sizes)} images, {len(truth.annotations)} objects in {Path(gt).name}.',
        f'Predictions drawn from a score of {score_thr:g}; {len(shown)} images shown.',
    ]
    numbers = [(r.name, r.evaluation.numbers) for r in scored]
    present = {a['category_id'] for a in truth.annotations}
    categories = [
        (name, [r.evaluation.per_category['boundary'][c] for r in scored])
        for c, name in truth.categories.items()
        if c in present
    ]
    with atomic_file(out) as file:
        file.write(render(title, facts, numbers, categories, cards))
    return Path(out)


def _score_images(
    gt: GroundTruth, dt: Detections, rules: Rules
) -> dict[Hashable, tuple[float, float]]:
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


def _choose(scored: Sequence[Results], count: int) -> list[Ranked]:
    """The images with the largest drop, then those where the first file is furthest ahead."""
    ranked = []
    for image in scored[0].per_image:
        masks, boundaries = zip(*(r.per_image[image] for r in scored))
        drop = max(m - b for m, b in zip(masks, boundaries))
        behind = boundaries[0] - min(boundaries[1:], default=boundaries[0])
        ranked.append(Ranked(image, drop, behind))
    ranked.sort(key=lambda r: -r.drop)  # images with equal drops stay in the order of the file
    chosen = ranked[:count]
    known = {r.image for r in chosen}
    ahead = sorted(ranked, key=lambda r: -r.behind)[:count]
    return chosen + [r for r in ahead if r.image not in known and r.behind > 0]


def _file_name(image: Mapping) -> str:
    named = image.get('file_name') or image.get('coco_url')
    return str(image_file(image) if named else image['id'])


def _card(
    ranked: Ranked,
    truth: GroundTruth,
    scored: Sequence[Results],
    file_name: str,
    images: str | Path | None,
    score_thr: float,
) -> Card:
    image = ranked.image
    picture, note = _read(images, file_name, truth.sizes[image])
    inside = [a for a in truth.annotations if a['image_id'] == image]
    objects = Instances(
        [a['segmentation'] for a in inside],
        [a['category_id'] for a in inside],
        crowd=np.array([bool(a['iscrowd']) for a in inside], bool),
    )
    found = {
        r.name: _predictions(r.detections, image, truth.sizes[image], score_thr) for r in scored
    }
    return Card(
        title=file_name,
        drop=ranked.drop,
        behind=ranked.behind,
        scores=[(r.name, *r.per_image[image]) for r in scored],
        rows=make_panels(picture, objects, found, truth.categories),
        note=note,
    )


def _predictions(
    dt: Detections, image: Hashable, size: tuple[int, int], score_thr: float
) -> Instances:
    """The best predictions of an image that are drawn, best first."""
    rows = [
        i for i, other in enumerate(dt.image_ids) if other == image and dt.scores[i] >= score_thr
    ]
    rows = sorted(rows, key=lambda i: -dt.scores[i])[:MOST_DRAWN]
    rles = [{'size': list(size), 'counts': dt.counts[i]} for i in rows]
    return Instances(rles, [dt.category_ids[i] for i in rows], dt.scores[rows])


def _read(
    images: str | Path | None, file_name: str, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """Read a picture as RGB; grey, and a sentence why, where that fails."""
    grey = np.full((*size, 3), 128, np.uint8)
    if images is None:
        return grey, ''
    path = Path(images) / file_name
    if not path.is_file():  # LVIS names the split too, images may be its folder
        path = Path(images) / Path(file_name).name
    picture = cv2.imread(str(path)) if path.is_file() else None
    if picture is None:
        return grey, f'The picture {file_name} was not found or cannot be read.'
    h, w = picture.shape[:2]
    if (h, w) != tuple(size):
        return grey, f'The picture is {w} x {h}, the annotations say {size[1]} x {size[0]}.'
    return np.ascontiguousarray(picture[..., ::-1]), ''
