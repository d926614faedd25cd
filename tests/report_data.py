"""A small data set with two result files, one with rounder masks than the other."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from mmrefine.masks import encode

NAMES = {3: 'star & <b>comet</b>', 7: 'disc'}


def _star(size: int, centre: tuple[int, int], radius: int, points: int, depth: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False)
    reach = radius * np.where(np.arange(2 * points) % 2, 1 - depth, 1)
    corners = np.stack([np.cos(angle) * reach + centre[0], np.sin(angle) * reach + centre[1]], 1)
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 1)
    return canvas


def _entry(image: int, category: int, mask: np.ndarray, **more: object) -> dict:
    rle = encode(torch.from_numpy(mask[None]))[0]
    ys, xs = np.nonzero(mask)
    box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
    rle = dict(rle, counts=rle['counts'].decode())
    return dict(
        image_id=image,
        category_id=category,
        segmentation=rle,
        bbox=box,
        area=int(mask.sum()),
        **more,
    )


def write_report_data(
    folder: Path, images: int = 5, size: int = 96
) -> tuple[Path, Path, Path, Path]:
    """Write pictures, annotations and results; return gt, pictures, sharp and blunt results.

    The stars of image n are the deeper the larger n is, so blunt masks cost it more.
    """
    pictures = folder / 'pictures'
    pictures.mkdir()
    annotations, sharp, blunt, listed = [], [], [], []
    for n in range(images):
        objects = [
            (3, _star(size, (30, 30), 24, 9, 0.12 * n)),
            (7, _star(size, (66, 66), 20, 40, 0.0)),
        ]
        picture = np.full((size, size, 3), 40 + 10 * n, np.uint8)
        for category, mask in objects:
            picture[mask > 0] = (60, 200, 90) if category == 3 else (200, 120, 60)
            more = dict(id=len(annotations) + 1, iscrowd=0)
            annotations.append(_entry(n, category, mask, **more))
            sharp.append(_entry(n, category, mask, score=0.9))
            round_mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
            blunt.append(_entry(n, category, round_mask, score=0.8))
        cv2.imwrite(str(pictures / f'{n}.png'), picture)
        listed.append(dict(id=n, file_name=f'{n}.png', height=size, width=size))
    gt = dict(
        images=listed,
        annotations=annotations,
        categories=[dict(id=c, name=name) for c, name in NAMES.items()],
    )
    paths = [folder / name for name in ('gt.json', 'sharp.json', 'blunt.json')]
    for path, content in zip(paths, (gt, sharp, blunt)):
        path.write_text(json.dumps(content))
    return paths[0], pictures, paths[1], paths[2]
