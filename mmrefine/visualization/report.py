"""One static page about one or several result files: numbers, worst images, boundary errors."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmrefine.evaluation import GroundTruth, cocofy, load_results, make_rules
from mmrefine.results.files import atomic_file
from mmrefine.results.ground_truth import load_json
from mmrefine.results.image_files import image_file

from .boundary_errors import Objects
from .report_page import Card, render
from .report_panels import make_panels
from .report_scores import Ranked, Results, rank, score

FORMATS = ('coco', 'lvis', 'coco-on-lvis')


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
    if format not in FORMATS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}; got {format!r}')
    if not results:
        raise ValueError('no result file to report on')
    if worst < 1:
        raise ValueError(f'worst must be at least 1, got {worst}')
    if images is not None and not Path(images).is_dir():
        raise ValueError(f'{images} is no folder of pictures')
    rules = make_rules(format, max_dets)
    data = load_json(gt)
    if format == 'coco-on-lvis':
        data = cocofy(data, str(gt))
    truth = GroundTruth.from_dict(data, rules.federated, name=str(gt))
    truth.require(masks=True)
    unknown = 'drop' if format == 'coco-on-lvis' else 'error'
    scored = [
        score(name, truth, load_results(path, truth, unknown), rules, backend)
        for name, path in results.items()
    ]
    chosen = rank(scored)
    shown = _worst_of_each_order(chosen, worst, len(scored) > 1)
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


def _worst_of_each_order(ranked: list[Ranked], count: int, several: bool) -> list[Ranked]:
    chosen = ranked[:count]
    if several:
        known = {r.image for r in chosen}
        by_file = sorted(ranked, key=lambda r: -r.behind)[:count]
        chosen = chosen + [r for r in by_file if r.image not in known and r.behind > 0]
    return chosen


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
    size = truth.sizes[ranked.image]
    picture, note = _read(images, file_name, size)
    found = [(r.name, _predictions(r, truth, ranked.image, score_thr)) for r in scored]
    return Card(
        title=file_name,
        drop=ranked.drop,
        behind=ranked.behind,
        scores=[(r.name, *r.per_image[ranked.image]) for r in scored],
        rows=make_panels(picture, _objects(truth, ranked.image), found, truth.categories),
        note=note,
    )


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
    if picture.shape[:2] != tuple(size):
        height, width = picture.shape[:2]
        return (
            grey,
            f'The picture is {width} x {height}, the annotations say {size[1]} x {size[0]}.',
        )
    return np.ascontiguousarray(picture[..., ::-1]), ''


def _objects(truth: GroundTruth, image: Hashable) -> Objects:
    mine = [a for a in truth.annotations if a['image_id'] == image]
    return Objects(
        [a['segmentation'] for a in mine],
        [a['category_id'] for a in mine],
        np.ones(len(mine)),
        np.array([bool(a['iscrowd']) for a in mine], bool),
    )


def _predictions(
    results: Results, truth: GroundTruth, image: Hashable, score_thr: float
) -> Objects:
    found = results.detections
    rows = [
        i
        for i, owner in enumerate(found.image_ids)
        if owner == image and found.scores[i] >= score_thr
    ]
    rows = sorted(rows, key=lambda i: -found.scores[i])[:100]
    return Objects(
        [{'size': list(truth.sizes[image]), 'counts': found.counts[i]} for i in rows],
        [found.category_ids[i] for i in rows],
        found.scores[rows],
        np.zeros(len(rows), bool),
    )
