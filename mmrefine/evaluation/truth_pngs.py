"""Cityscapes instance maps drawn from COCO-style annotations."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.submission.formats import cityscapes_labels, cityscapes_stem

from .boundary import crop_masks

GROUND = 7  # road: a class that is scored, but has no instances


def paint_truth(gt: GroundTruth, file_names: Mapping[Id, str], folder: Path) -> dict[Id, Path]:
    """Write ``*_gtFine_instanceIds.png``: 1000 x label id + number, the bare label id for crowds.

    Args:
        gt: Annotations; later ones cover earlier ones.
        file_names: Image id -> path of the image, for the images to draw.
        folder: Where the maps go.

    Returns:
        Image id -> path.
    """
    gt.require(masks=True)
    labels = cityscapes_labels(gt)
    maps: dict[Id, list[dict]] = {image: [] for image in file_names}
    for annotation in gt.annotations:
        if annotation['image_id'] in maps:
            maps[annotation['image_id']].append(annotation)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for image, annotations in maps.items():
        h, w = gt.sizes[image]
        canvas = np.full((h, w), GROUND, np.uint16)
        number: Counter = Counter()
        crops = crop_masks([a['segmentation']['counts'] for a in annotations], h)
        for annotation, crop in zip(annotations, crops):
            label = labels[annotation['category_id']]
            value = label if annotation['iscrowd'] else 1000 * label + number[label]
            number[label] += not annotation['iscrowd']
            inside = crop.pixels
            window = canvas[crop.y : crop.y + inside.shape[0], crop.x : crop.x + inside.shape[1]]
            window[inside] = value
        stem = cityscapes_stem(file_names[image]).removesuffix('_leftImg8bit')
        paths[image] = folder / f'{stem}_gtFine_instanceIds.png'
        cv2.imwrite(str(paths[image]), canvas)
    return paths
