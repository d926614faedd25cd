"""Find out in which format a source is, and read it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from . import coco, labelme, png_masks, via, voc, yolo
from .records import Source, SourceImage, counted, files_below, naming, picture_size

# In the order in which they are tried: the more particular first. ``find`` of each gives the files
# or folders by which it recognises a source, none if it is another; ``read`` takes these too.
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
    finds = ((name, FORMATS[name].find(source)) for name in kinds)
    found, files = next(((name, files) for name, files in finds if files), ('', []))
    if not found:
        raise ValueError(
            f'{source} is in none of the known formats ({", ".join(kinds)}): a COCO json, a '
            'labelme folder, a VIA json, a YOLO folder with data.yaml, a Pascal VOC folder, or '
            'images/ with masks/ of PNGs'
        )
    with naming(str(source), found):
        content = FORMATS[found].read(source, files)
    require_distinct(content.images, str(source))
    for image in content.images:
        _require_size(image)
    if left := [path for path in files_below(source, ('.json',)) if path not in files]:
        text = f'json files hold no {found} annotations and are left out'
        content.notes.append(counted(len(left), text, left))
    for name in ('voc', 'png'):
        if kind is None and name != found and (left := FORMATS[name].find(source)):
            text = f'folders hold {name} annotations too, which are left out (--format {name})'
            content.notes.append(counted(len(left), text, left))
    return found, content


def _require_size(image: SourceImage) -> None:
    width, height = picture_size(image.path)
    if (image.width, image.height) != (width, height):
        raise ValueError(
            f'{image.path} has {width} x {height} pixels (width x height, upright by its EXIF '
            f'orientation), its annotations are of {image.width} x {image.height}: give the '
            'picture that was annotated'
        )


def require_distinct(images: Sequence[SourceImage], name: str) -> None:
    """Raise ValueError if a picture is listed twice, as in a file and a part of it."""
    seen = Counter(image.path.resolve() for image in images)
    if twice := [path for path, count in seen.items() if count > 1]:
        raise ValueError(
            f'{name} lists {len(twice)} pictures more than once, the first is {twice[0]}: name the '
            'annotation files to use one by one'
        )
