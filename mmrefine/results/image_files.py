"""Where an image of an annotation file lies."""

from collections.abc import Mapping
from typing import Any


def image_file(image: Mapping[str, Any]) -> str:
    """Path below the image folder; LVIS v1 gives only addresses, which end in split and name.

    Args:
        image: Entry of ``images`` in a COCO or LVIS file.

    Raises:
        ValueError: It has neither ``file_name`` nor ``coco_url``.
    """
    name = image.get('file_name') or '/'.join((image.get('coco_url') or '').split('/')[-2:])
    if not name:
        raise ValueError(f'image {image.get("id")!r} has neither file_name nor coco_url')
    return name
