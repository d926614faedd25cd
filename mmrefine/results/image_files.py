"""Find the image files that an annotation file names, and read them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SHOWN = 3  # files named in an error


def named_file(image: Mapping[str, Any]) -> str | None:
    """Path of an entry of ``images`` below the image folder; None if it has none.

    LVIS v1 gives only addresses, which end in split and name.
    """
    name, url = image.get('file_name'), image.get('coco_url')
    if not name and isinstance(url, str):
        name = '/'.join(url.split('/')[-2:])
    return name if isinstance(name, str) and name else None


def image_file(image: Mapping[str, Any]) -> str:
    """As ``named_file``; a ValueError says that there is none."""
    name = named_file(image)
    if name is None:
        raise ValueError(f'image {image.get("id")!r} has neither file_name nor coco_url')
    return name


def existing_files(images: Iterable[Mapping[str, Any]], folder: str | Path) -> dict[Any, Path]:
    """Image id -> file of entries of ``images``, found also without the folders in its name.

    Raises:
        ValueError: Some do not exist; the first ones are named. Or a file found without its folders
            stands for two names.
    """
    files: dict[Any, Path] = {}
    names: dict[Path, str] = {}
    missing = []
    for image in images:
        name = image_file(image)
        file = Path(folder) / name
        bare = Path(folder) / file.name
        found = files[image['id']] = bare if not file.is_file() and bare.is_file() else file
        if not found.is_file():
            missing.append(str(file))
        if names.setdefault(found, name) != name:
            raise ValueError(
                f'{name} and {names[found]} would both be {found}: give the folder that holds both'
            )
    if missing:
        more = ' ...' if len(missing) > SHOWN else ''
        raise ValueError(
            f'{len(missing)} of {len(files)} images do not exist: '
            f'{", ".join(missing[:SHOWN])}{more}'
        )
    return files


def read_picture(path: Path) -> np.ndarray:
    """Read a picture, uint8[H, W, 3], as OpenCV does: upright by its EXIF orientation, 8 bits, BGR.

    Grey pictures get three channels, alpha is dropped, of 16 bits the upper 8 are taken. A
    ValueError names one that cannot be read.
    """
    # imread knows no paths outside the local character set on some systems
    content = np.fromfile(path, np.uint8)
    try:
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error as error:
        raise ValueError(
            f'{path} cannot be read as a picture: {error.err or error}; the variables '
            'OPENCV_IO_MAX_IMAGE_WIDTH, _HEIGHT and _PIXELS of the environment raise its limits'
        ) from None
    if picture is None:
        raise ValueError(f'{path} cannot be read as a picture: damaged, or no picture')
    return picture
