"""Drawn pictures as files: panels of bounded size, sheets of them, JPEG that keeps thin lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .instances import Instances
from .overlays import shrunk, truth_beside_prediction

SHEET_PANELS = 6
SHEET_SIDE = 1600  # longest side of a panel on a sheet, pixels
PANEL_SIDE = 4096  # of one picture in a file
SMALL = 600  # pixels; smaller pictures are doubled
# Colours at full resolution: at half of it thin coloured outlines turn grey.
JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 92),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]


def comparison(
    image: np.ndarray,
    truth: Instances,
    found: Instances,
    names: Mapping[Any, str] | Sequence[str],
    scale: int | None = None,
) -> np.ndarray:
    """Ground truth beside prediction at a size that can be looked at, uint8[H, W, 3] RGB as the
    image.

    ``names`` are those of the categories; ``scale=None`` doubles pictures below ``SMALL`` and
    bounds others by ``PANEL_SIDE``.
    """
    factor = scale or (2 if max(image.shape[:2]) < SMALL else 1)
    return truth_beside_prediction(
        image, truth, found, names, factor, None if scale else PANEL_SIDE
    )


def on_sheet(panel: np.ndarray) -> np.ndarray:
    """The panel as it goes on a sheet."""
    return shrunk(panel, SHEET_SIDE)


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
