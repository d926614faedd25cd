"""Find the image files that an annotation file names."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SHOWN = 3  # files named in an error


def image_file(image: Mapping[str, Any]) -> str:
    """Path of an entry of ``images`` below the image folder.

    LVIS v1 gives only addresses, which end in split and name. A ValueError says that there is
    neither.
    """
    name = image.get('file_name') or '/'.join((image.get('coco_url') or '').split('/')[-2:])
    if not name:
        raise ValueError(f'image {image.get("id")!r} has neither file_name nor coco_url')
    return name


def existing_files(images: Iterable[Mapping[str, Any]], folder: str | Path) -> dict[Any, Path]:
    """Image id -> file of entries of ``images``, found also without the folders in its name.

    Raises:
        ValueError: Some do not exist; the first ones are named.
    """
    files: dict[Any, Path] = {}
    missing = []
    for image in images:
        file = Path(folder) / image_file(image)
        bare = Path(folder) / file.name
        files[image['id']] = bare if not file.is_file() and bare.is_file() else file
        if not files[image['id']].is_file():
            missing.append(str(file))
    if missing:
        more = ' ...' if len(missing) > SHOWN else ''
        raise ValueError(
            f'{len(missing)} of {len(files)} images do not exist: '
            f'{", ".join(missing[:SHOWN])}{more}'
        )
    return files
