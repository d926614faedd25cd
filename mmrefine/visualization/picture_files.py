"""Drawn pictures as files: JPEG that keeps thin lines."""

from pathlib import Path

import cv2
import numpy as np

# Colours at full resolution: at half of it thin coloured outlines turn grey.
JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 92),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8[H, W, 3] RGB, see ``write_bgr``."""
    write_bgr(path, picture[..., ::-1])


def write_bgr(path: Path, picture: np.ndarray) -> None:
    """Write a picture in OpenCV's channel order, under any file name; OSError where OpenCV only
    returns False."""
    jpeg = path.suffix.lower() in ('.jpg', '.jpeg')
    good, content = cv2.imencode(path.suffix, np.ascontiguousarray(picture), JPEG if jpeg else [])
    if not good:
        raise OSError(f'OpenCV cannot write {path}')
    path.parent.mkdir(parents=True, exist_ok=True)
    content.tofile(path)
