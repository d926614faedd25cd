"""Numbers of a report: average precision of whole result files and of single images."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from mmrefine.evaluation import Detections, Evaluation, GroundTruth, Rules, evaluate
from mmrefine.results.progress import progress_bar

IOU_TYPES = ('bbox', 'segm', 'boundary')


@dataclass
class Results:
    """One result file.

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


def score(
    name: str, gt: GroundTruth, detections: Detections, rules: Rules, backend: str = 'pycocotools'
) -> Results:
    """Evaluate a result file as a whole and image by image.

    Args:
        name: What the reader calls it.
        gt: Ground truth.
        detections: Every one with a mask.
        rules: The protocol.
        backend: Engine for the whole file.
    """
    whole = evaluate(gt, detections, IOU_TYPES, rules, backend, show_progress=True)
    return Results(name, detections, whole, _score_images(gt, detections, rules))


def _score_images(
    gt: GroundTruth, detections: Detections, rules: Rules
) -> dict[Hashable, tuple[float, float]]:
    annotations, rows = defaultdict(list), defaultdict(list)
    for annotation in gt.annotations:
        annotations[annotation['image_id']].append(annotation)
    for i, image in enumerate(detections.image_ids):
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
            one = GroundTruth(
                {image: gt.sizes[image]},
                {c: name for c, name in gt.categories.items() if c in present},
                objects,
                gt.federation,
                gt.name,
            )
            chosen = detections.select(np.array(rows[image], np.int64))
            numbers = evaluate(one, chosen, ('segm', 'boundary'), rules).numbers
            scores[image] = (numbers['segm_AP'], numbers['boundary_AP'])
    return scores


def rank(results: Sequence[Results]) -> list[Ranked]:
    """Order images, worst boundary AP drop first; ties in the order of the data set."""
    ranked = []
    for image in results[0].per_image:
        pairs = [r.per_image[image] for r in results]
        drop = max(mask - boundary for mask, boundary in pairs)
        others = [boundary for _, boundary in pairs[1:]]
        behind = pairs[0][1] - min(others) if others else 0.0
        ranked.append(Ranked(image, drop, behind))
    return sorted(ranked, key=lambda r: -r.drop)
