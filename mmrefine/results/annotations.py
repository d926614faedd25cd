"""Find the faults of a COCO or LVIS annotation file, for training and for scoring.

One pass over the file yields every fault. ``GroundTruth`` raises the first one that spoils scores,
``mmrefine.datasets.annotation_check`` lists all that matter to training.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from mmrefine.masks.run_lengths import MaskError, check_polygons, to_counts, undecodable

from .fields import CHUNK, BoxError, is_number, read_box
from .image_files import named_file


class Kind(NamedTuple):
    """A kind of fault."""

    text: str  # what is wrong with all of its annotations, and what to do
    unscorable: bool = False  # scores cannot be computed, or would be wrong
    # training would go wrong; otherwise these are left out of training, but not always of scoring
    fatal: bool = True


MOST_PIXELS = 1 << 32  # pycocotools counts with 32 bits
SLACK = 2.0  # pixels between a box and its mask
_IDS = 'ids that occur twice, or are neither number nor text'
_FILE = 'images without file_name, width and height'
_BOX = 'annotations without a box [x, y, width, height] of finite numbers'
_AREA = 'annotations without an area that is a finite number: add the number of mask pixels'
KINDS = {
    'category id': Kind(f'category {_IDS}', unscorable=True),
    'no name': Kind('categories without a name'),
    'category name': Kind(
        'category names that occur twice: names decide, so rename one, or merge the two'
    ),
    'image id': Kind(f'image {_IDS}', unscorable=True),
    'id': Kind('annotation ids that occur twice, or no id'),
    'no object': Kind('annotations without image_id and category_id', unscorable=True),
    'image': Kind('annotations of images that the file does not list', unscorable=True),
    'category': Kind('annotations whose category_id the file does not list', unscorable=True),
    'flag': Kind('values of iscrowd or ignore other than the numbers 0 and 1', unscorable=True),
    'crowds': Kind(
        'every annotation is a crowd, which is neither learned nor scored: set iscrowd to 0, or '
        'export the objects as instances'
    ),
    'no box': Kind(_BOX),
    'box': Kind(_BOX, unscorable=True),
    'corners': Kind(
        'boxes that hold x1, y1, x2, y2, as their masks show: write x, y, width, height',
        unscorable=True,
    ),
    'rle': Kind(
        'run lengths of another size than the image ([height, width]), without counts and size, or '
        'that cannot be decoded'
    ),
    'no area': Kind(_AREA),
    'area': Kind(_AREA, unscorable=True),
    'flat': Kind(
        'masks that are neither run lengths nor a list of polygons, each one flat list '
        '[x1, y1, x2, y2, ...] of finite numbers in pixels of the image'
    ),
    'no size': Kind(_FILE, unscorable=True),
    'size': Kind(
        'images whose width and height are not whole numbers above 0, or make more pixels than run '
        'lengths can count (2^32)',
        unscorable=True,
    ),
    'file': Kind(_FILE),
    'file twice': Kind(
        'files listed as several images, where objects of one are background of the others: give '
        'all objects of a file one image_id'
    ),
    'no mask': Kind('annotations without a mask: left out where masks are learned', fatal=False),
    'inverted box': Kind('boxes with a negative width or height: left out', True, fatal=False),
    'empty box': Kind(
        'boxes less than a pixel wide or high, or masks without area: left out', fatal=False
    ),
    'outside': Kind('boxes that lie outside their image: left out', fatal=False),
    'polygon': Kind(
        'polygons of fewer than 3 points, or an odd number of coordinates: left out', fatal=False
    ),
    'unseen': Kind('polygons that lie outside their image: nothing of them is drawn', fatal=False),
}
# Kind of a fault -> how ``check_polygons`` and ``to_counts`` name it.
_MASK_KINDS = {'type': 'flat', 'far': 'flat', 'points': 'polygon', 'rle': 'rle'}


class Fault(NamedTuple):
    """A fault of one record."""

    kind: str  # key of ``KINDS``
    where: Any  # id of the annotation, image or category, or a name; the position if it has none
    sentence: str  # position, value and remedy


def require_lists(data: Any, name: str, keys: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Check that an annotation file is an object with these lists, optional ones unless they are
    missing or null; ValueError otherwise."""
    if not isinstance(data, Mapping):
        raise ValueError(
            f'{name} holds a {type(data).__name__}: expected a COCO annotation file (ground truth '
            'and results swapped?)'
        )
    for key in (*keys, *(key for key in optional if data.get(key) is not None)):
        if key not in data:
            raise ValueError(f'{name} has no "{key}": expected a COCO annotation file')
        if not isinstance(data[key], (list, tuple)):
            raise ValueError(f'{name}: "{key}" is a {type(data[key]).__name__}, expected a list')


def find_faults(data: Mapping, decode: bool = False) -> Iterator[Fault]:
    """Yield the faults of a file that has its lists; annotations may be missing.

    ``decode`` also decodes RLE strings. Those who read the masks later need not; they call
    ``rle_corner_faults`` then.
    """
    yield from _id_faults('images', data['images'], 'image id')
    yield from _id_faults('categories', data['categories'], 'category id')
    yield from _name_faults(data['categories'])
    images: dict[Any, Mapping] = {}
    files: dict[Any, Any] = {}
    for i, image in enumerate(data['images']):
        if (found := record_id(image)) is not None:
            images[found] = image
            label, file = f'images[{i}] (id {found})', named_file(image)
            yield from _image_faults(label, image)
            if file is not None and files.setdefault(file, found) != found:
                yield Fault(
                    'file twice', file, f'{label} has the file of image {files[file]}, {file}'
                )
    categories = {record_id(category) for category in data['categories']} - {None}
    annotations = data.get('annotations') or ()
    ids: set[Any] = set()
    waiting: list[tuple[Any, str, Mapping]] = []
    for i, annotation in enumerate(annotations):
        label = f'annotations[{i}]'
        if not isinstance(annotation, Mapping):
            sentence = f'{label} must be an object with image_id and category_id'
            yield Fault('no object', label, sentence)
            continue
        where = record_id(annotation)
        if where is None or where in ids:
            sentence = f'{label} has the id {annotation.get("id")!r}, none or not the first'
            yield Fault('id', label if where is None else where, sentence)
        ids.add(where)
        where = label if where is None else where
        faults = list(_annotation_faults(annotation, images, categories))
        yield from (Fault(kind, where, f'{label} {sentence}') for kind, sentence in faults)
        if decode and not faults and isinstance(annotation['segmentation'], Mapping):
            waiting.append((where, label, annotation))
        if len(waiting) == CHUNK:
            yield from _rle_faults(waiting)
            waiting = []
    yield from _rle_faults(waiting)
    crowds = [i for i, a in enumerate(annotations) if isinstance(a, Mapping) and a.get('iscrowd')]
    if annotations and len(crowds) == len(annotations):
        where = record_id(annotations[0])
        yield Fault('crowds', where, f'{KINDS["crowds"].text} ({len(crowds)} annotations)')


def video_faults(videos: Sequence) -> Iterator[Fault]:
    """Yield the faults in id, width and height of videos, which are those of images."""
    yield from _id_faults('videos', videos, 'image id')
    for i, video in enumerate(videos):
        found = _image_faults(f'videos[{i}] (id {video["id"]})', video)
        yield from (fault for fault in found if fault.kind != 'file')


def record_id(record: Any) -> Any:
    """Id of a record; None if it has none, or one that is neither number nor text."""
    found = record.get('id') if isinstance(record, Mapping) else None
    return found if _is_id(found) else None


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or is_number(value)


def _id_faults(key: str, records: Sequence, kind: str) -> Iterator[Fault]:
    seen: set[Any] = set()
    for i, record in enumerate(records):
        found, label = record_id(record), f'{key}[{i}]'
        if found is None:
            given = record.get('id') if isinstance(record, Mapping) else None
            what = 'has no id' if given is None else f'has the id {given!r}: expected a number'
            yield Fault(kind, label, f'{label} {what}')
        elif found in seen:
            yield Fault(kind, found, f'{label} has the id {found}, which occurs twice')
        seen.add(found)


def _name_faults(categories: Sequence) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for i, category in enumerate(categories):
        name = category.get('name') if isinstance(category, Mapping) else None
        if not isinstance(name, str):
            yield Fault('no name', f'categories[{i}]', f'categories[{i}] has the name {name!r}')
        elif first.setdefault(name, i) != i:
            both = f'categories[{first[name]}] and [{i}] have one name, {name!r}'
            remedy = 'names decide, so rename one, or merge the two'
            yield Fault('category name', name, f'{both}: {remedy}')


def _image_faults(label: str, image: Mapping) -> Iterator[Fault]:
    sides: tuple[Any, Any] = image.get('width'), image.get('height')
    width, height = sides
    if not all(map(is_number, sides)):
        wrong = f'has no width and height that are numbers (it has {width!r}, {height!r})'
        yield Fault('no size', image['id'], f'{label} {wrong}')
    elif min(sides) < 1 or any(side % 1 for side in sides) or width * height >= MOST_PIXELS:
        wrong = f'has {width} x {height} pixels: expected whole numbers above 0, of which run '
        yield Fault('size', image['id'], f'{label} {wrong}lengths can count 2^32')
    elif named_file(image) is None:
        yield Fault('file', image['id'], f'{label} has no file_name')


def _annotation_faults(
    annotation: Mapping, images: Mapping, categories: set
) -> Iterator[tuple[str, str]]:
    """Yield kind and sentence of the faults of one annotation."""
    if 'image_id' not in annotation or 'category_id' not in annotation:
        yield 'no object', 'must be an object with image_id and category_id'
    image_id, category = annotation.get('image_id'), annotation.get('category_id')
    image = images.get(image_id) if _is_id(image_id) else None
    if image is None:
        yield 'image', f'belongs to image {image_id!r}, which is not listed'
    if not _is_id(category) or category not in categories:
        yield 'category', f'has the category {category!r}, which is not listed'
    for key in ('iscrowd', 'ignore'):
        flag = annotation.get(key)
        if flag is not None and not (is_number(flag) and flag in (0, 1)):
            yield 'flag', f'has the {key} {flag!r}: write the number 0 or 1'
    if image is None:
        return
    sides = image.get('height'), image.get('width')
    height, width = (int(side) if is_number(side) else 0 for side in sides)
    box, area = annotation.get('bbox'), annotation.get('area')
    yield from _box_faults(box, area, width, height)
    if area is None:
        yield 'no area', 'has no area'
    elif not is_number(area):
        yield 'area', f'has the area {area!r}: expected a finite number'
    yield from _mask_faults(annotation.get('segmentation'), box, (height, width))


def _box_faults(box: Any, area: Any, width: int, height: int) -> Iterator[tuple[str, str]]:
    if box is None:
        yield 'no box', 'has no bbox'
        return
    try:
        x, y, w, h = read_box(box)
    except BoxError as error:
        remedy = '; leave "bbox" out and it is made from the segmentation'
        yield ('inverted box' if error.kind == 'inverted' else 'box'), f'{error}{remedy}'
        return
    if w < 1 or h < 1 or (is_number(area) and area <= 0):
        yield 'empty box', f'has the bbox {box} and the area {area}'
    elif min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        yield 'outside', f'has the bbox {box}, which lies outside {width} x {height} pixels'


def _mask_faults(segmentation: Any, box: Any, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """Yield kind and sentence of the faults of a mask; polygons are not drawn."""
    if not segmentation:
        yield 'no mask', 'has no segmentation'
        return
    try:
        if isinstance(segmentation, Mapping):
            to_counts(segmentation, size, decodable=False)
            return
        check_polygons(segmentation, size)
    except MaskError as error:
        yield _MASK_KINDS[error.kind], f'has a mask that cannot be read: {error}'
        return
    bounds = [
        (min(p[::2]), min(p[1::2]), max(p[::2]), max(p[1::2])) for p in map(list, segmentation)
    ]
    for i, (x1, y1, x2, y2) in enumerate(bounds):
        if x2 <= 0 or y2 <= 0 or x1 >= size[1] or y1 >= size[0]:
            yield 'unseen', f'has the polygon {i} outside of {size[1]} x {size[0]} pixels'
    lows, highs = list(zip(*bounds))[:2], list(zip(*bounds))[2:]
    yield from _corner_faults(box, (*map(min, lows), *map(max, highs)))


def _rle_faults(waiting: Sequence[tuple[Any, str, Mapping]]) -> Iterator[Fault]:
    """Decode the RLEs of annotations without other faults."""
    sizes = [tuple(a['segmentation']['size']) for _, _, a in waiting]
    counts = [to_counts(a['segmentation'], s, False) for (_, _, a), s in zip(waiting, sizes)]
    wrong = set(undecodable(counts, sizes))
    for i, (where, label, annotation) in enumerate(waiting):
        if i in wrong:
            h, w = sizes[i]
            sentence = f'{label} has an RLE that cannot be decoded to {h} x {w} pixels'
            yield Fault('rle', where, sentence)
            continue
        rle = {'size': list(sizes[i]), 'counts': counts[i]}
        for kind, sentence in rle_corner_faults(annotation['bbox'], rle):
            yield Fault(kind, where, f'{label} {sentence}')


def rle_corner_faults(box: Any, rle: Mapping) -> Iterator[tuple[str, str]]:
    """Yield kind and sentence of a fault if the box of a mask, an RLE that can be decoded, holds
    corners."""
    x, y, w, h = coco_mask.toBbox(rle).tolist()
    yield from _corner_faults(box, (x, y, x + w, y + h))


def _corner_faults(box: Any, mask: Sequence[float]) -> Iterator[tuple[str, str]]:
    """Yield a fault if x1, y1, x2, y2 of a mask are what should be x, y, w, h of its box.

    Near the origin both are alike, and a loose box is no fault.
    """
    try:
        x, y, w, h = read_box(box)
    except BoxError:
        return
    off = max(abs(a - b) for a, b in zip((x, y, w, h), mask))
    over = max(abs(x + w - mask[2]), abs(y + h - mask[3]))
    if off <= SLACK and over > SLACK + 2 * off:
        which = f'has the bbox {box}, which are the corners x1, y1, x2, y2 of its mask'
        yield 'corners', f'{which}: write x, y, w, h'
