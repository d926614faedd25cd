"""Pictures and clips of smooth noise."""

from pathlib import Path

import cv2
import numpy as np


def photo(path: Path, size: tuple[int, int] = (96, 128), seed: int = 0) -> Path:
    """Smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    content = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    cv2.imencode(path.suffix, content)[1].tofile(path)
    return path


def clip(path: Path, frames: int = 2) -> Path:
    """A few frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (128, 96))
    for seed in range(frames):
        writer.write(cv2.imread(str(photo(path.parent / 'frames' / 'f.png', seed=seed))))
    writer.release()
    return path
