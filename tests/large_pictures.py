"""Large generated pictures: many scenes side by side, whose frames are no seams of tiles."""

import numpy as np
from shapes import SceneSpec, make_picture
from shapes.rng import Rng

CELL = 512
SCENES = 24  # drawn; the others are these, turned


def large_picture(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list]:
    """Make one picture with about four objects a scene of 512 x 512 pixels.

    Returns:
        uint8[height, width, 3] in BGR; int32[height, width], 0 or the number of an object from 1;
        the label of each object.
    """
    pixels = np.zeros((height, width, 3), np.uint8)
    numbers = np.zeros((height, width), np.int32)
    labels: list[int] = []
    spec = SceneSpec(height=CELL, width=CELL, objects=(3, 6), scales=(1, 0, 0), empty=0)
    drawn: list[tuple] = []
    for scene, (y, x) in enumerate(np.ndindex(-(-height // CELL), -(-width // CELL))):
        if scene < SCENES:
            drawn.append(make_picture(Rng(seed, 7, scene), spec))
        image, masks, kinds = drawn[scene % SCENES]
        turns = scene // SCENES % 4
        image, masks = np.rot90(image, turns), np.rot90(masks, turns, (1, 2))
        rows, columns = slice(y * CELL, (y + 1) * CELL), slice(x * CELL, (x + 1) * CELL)
        h, w = numbers[rows, columns].shape
        pixels[rows, columns] = image[:h, :w, ::-1]
        for mask, kind in zip(masks, kinds):
            labels.append(kind)
            numbers[rows, columns][mask[:h, :w]] = len(labels)
    return pixels, numbers, labels
