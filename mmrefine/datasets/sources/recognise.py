"""Find out in which format a source is, and read it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from . import coco, labelme, png_masks, via, voc, yolo
from .records import Source, SourceImage

# In the order in which they are tried: the more particular first. ``find`` of each gives the files
# or folders by which it recognises a source, none if it is another; ``read`` the content.
FORMATS = {
    'yolo': yolo,
    'voc': voc,
    'coco': coco,
    'labelme': labelme,
    'via': via,
    'png': png_masks,
}


def read_source(source: Path, kind: str | None = None) -> tuple[str, Source]:
    """Read annotations, a file or folder, of a ``kind`` in ``FORMATS``, or of the one it is
    recognised by.

    Raises:
        OSError: There is no such file or folder.
        ValueError: No format fits, or the content is faulty.
    """
    if not source.exists():
        raise OSError(f'there is no {source}')
    kinds = [kind] if kind else list(FORMATS)
    found = next((name for name in kinds if FORMATS[name].find(source)), None)
    if found is None:
        raise ValueError(
            f'{source} is in none of the known formats ({", ".join(kinds)}): a COCO json, a '
            'labelme folder, a VIA json, a YOLO folder with data.yaml, a Pascal VOC folder, or '
            'images/ with masks/ of PNGs'
        )
    try:
        content = FORMATS[found].read(source)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f'{source} is no sound {found} data set: {error!r}') from error
    require_distinct(content.images, str(source))
    return found, content


def require_distinct(images: Sequence[SourceImage], name: str) -> None:
    """Raise ValueError if a picture is listed twice, as in a file and a part of it."""
    seen = Counter(image.path.resolve() for image in images)
    if twice := [path for path, count in seen.items() if count > 1]:
        raise ValueError(
            f'{name} lists {len(twice)} pictures more than once, the first is {twice[0]}: name the '
            'annotation files to use one by one'
        )
