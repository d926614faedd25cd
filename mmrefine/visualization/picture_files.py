"""Drawn pictures as files: JPEG that keeps thin lines."""

from pathlib import Path

import cv2
import numpy as np

# Colours at full resolution: at half of it thin coloured outlines turn grey.
JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 92),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]
JPEG_SIDE = 65_500  # pixels, the most that libjpeg takes


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8[H, W, 3] RGB, see ``write_bgr``."""
    write_bgr(path, picture[..., ::-1])


def write_bgr(path: Path, picture: np.ndarray) -> None:
    """Write a picture in OpenCV's channel order, under any file name; OSError where OpenCV only
    returns False.

    A picture that is longer than a JPEG can be is reduced.
    """
    jpeg = path.suffix.lower() in ('.jpg', '.jpeg')
    longest = max(picture.shape[:2])
    if jpeg and longest > JPEG_SIDE:
        w, h = (max(1, side * JPEG_SIDE // longest) for side in picture.shape[1::-1])
        picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    good, content = cv2.imencode(path.suffix, np.ascontiguousarray(picture), JPEG if jpeg else [])
    if not good:
        raise OSError(f'OpenCV cannot write {path}')
    path.parent.mkdir(parents=True, exist_ok=True)
    content.tofile(path)
