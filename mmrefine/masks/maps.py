"""One-stage masks, given on a stride-s map of the whole image, to COCO RLE.

Shapes:   N instances, Hm x Wm cells of the map, h x w output image.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .formats import in_format
from .resize import Resize
from .rle import RLE, toggles_to_rle
from .rle_masks import RLEMasks
from .tiles import Tile, TileBatch
from .trace import CHUNK, POINTS, Toggles, rounding_error


def map_masks(
    maps: Tensor | Sequence[Tensor],
    resized_size: tuple[float, float],
    image_size: tuple[int, int],
    threshold: float,
    mask_format: str = 'dense',
    device: torch.device | None = None,
    **crops: Any,
) -> Tensor | RLEMasks:
    """Resize soft masks of a whole image bilinearly and threshold them.

    Args:
        maps: Tensor[N, Hm, Wm], or crops of such maps.
        resized_size: ``(h, w)`` of the whole map in pixels of the output image.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its value is above this.
        mask_format: ``'dense'`` or ``'rle'``.
        device: Where dense masks go; default: the CPU.
        crops: ``offsets``, ``map_size``, ``outside`` and the rest, see ``map_masks_to_rle``.

    Returns:
        BoolTensor[N, h, w] or N RLEs.

    Raises:
        ValueError: As ``map_masks_to_rle``, or an unknown format.
    """
    rles = map_masks_to_rle(maps, resized_size, image_size, threshold, **crops)
    return in_format(rles, image_size, mask_format, device)


def map_masks_to_rle(
    maps: Tensor | Sequence[Tensor],
    resized_size: tuple[float, float],
    image_size: tuple[int, int],
    threshold: float,
    *,
    strict: bool = True,
    align_corners: bool = False,
    offsets: Tensor | Sequence[tuple[int, int]] | None = None,
    map_size: tuple[int, int] | None = None,
    outside: float = 0.0,
    boxes: Tensor | None = None,
) -> list[RLE]:
    """Resize soft masks bilinearly, threshold them, cut them to the image and encode them.

    The map covers the padded network input. It is resized as a whole to ``resized_size``, then the
    top left ``image_size`` part is kept; where the resized map is smaller the mask is empty.

    Args:
        maps: Tensor[N, Hm, Wm] of soft masks; or, to save memory, N crops Tensor[hc, wc] of it.
        resized_size: ``(h, w)`` that the whole map is resized to, in pixels of the output image;
            fractional for an exact scale, see ``Resize``.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its value is above this.
        strict: Compare with ``>``; otherwise with ``>=``.
        align_corners: Rule of the resizing, as in ``torch.nn.functional.interpolate``.
        offsets: N pairs ``(x, y)``, map cell of each crop's top left corner. Only with crops.
        map_size: ``(Hm, Wm)``. Only with crops.
        outside: Value of the cells that a crop leaves out; below the threshold.
        boxes: Tensor[N, 4] in pixels of the output image; a pixel stays where its integer index
            satisfies ``x1 <= x < x2`` and ``y1 <= y < y2``. Default: no cutting by box.

    Returns:
        N RLEs, identical to those of resizing with ``interpolate`` in float32 and encoding dense
        masks on the same device.

    Raises:
        ValueError: Crops without ``offsets`` or ``map_size``, a crop that leaves the map, shapes
            that disagree, ``outside`` not below the threshold, or NaN.
    """
    n = len(maps)
    if boxes is not None and (boxes.shape != (n, 4) or bool(boxes.isnan().any())):
        raise ValueError(f'boxes must have the shape ({n}, 4) and no NaN, got {boxes}')
    if n == 0:
        return []
    if isinstance(maps, Tensor):
        cells, outside = (maps.shape[1], maps.shape[2]), threshold - 1
        tiles = _cut_maps(maps.detach().float(), threshold)
    else:
        if offsets is None or map_size is None:
            raise ValueError('crops need offsets=[(x, y), ...] and map_size=(Hm, Wm)')
        cells = map_size
        _check_crops(maps, offsets, cells, outside, threshold)
        tiles = [
            _frame(crop.detach().float(), int(x), int(y), cells, outside)
            for crop, (x, y) in zip(maps, offsets)
        ]
    device = maps[0].device
    resize = Resize(cells, resized_size, align_corners, device)
    windows = _windows(tiles, resize, image_size, boxes, device)
    budget, points = (size.get(device.type, size['cuda']) for size in (CHUNK, POINTS))
    parts = []
    for chunk in _chunks(tiles, windows.tolist(), budget):
        batch = TileBatch(
            [tiles[i] for i in chunk], windows[chunk], resize, threshold, strict, outside
        )
        for part in batch.toggles(points):
            parts.append(Toggles(windows.new_tensor(chunk)[part.owner], part.x, part.y))
    none = windows.new_zeros(0)
    found = Toggles.cat([Toggles(none, none, none), *parts])
    keys = torch.stack([found.x * image_size[0] + found.y, found.owner]).cpu().numpy()
    return toggles_to_rle(keys[0], keys[1], n, image_size)


def _check_crops(
    crops: Sequence[Tensor],
    offsets: Tensor | Sequence[tuple[int, int]],
    map_size: tuple[int, int],
    outside: float,
    threshold: float,
) -> None:
    if len(offsets) != len(crops):
        raise ValueError(f'{len(crops)} crops but {len(offsets)} offsets')
    if not outside < threshold:
        raise ValueError(f'outside={outside} must be below threshold={threshold}')
    for i, (crop, (x, y)) in enumerate(zip(crops, offsets)):
        if crop.ndim != 2:
            raise ValueError(f'crop {i} must have two dimensions, got shape {tuple(crop.shape)}')
        bottom, right = int(y) + crop.shape[0], int(x) + crop.shape[1]
        if x < 0 or y < 0 or bottom > map_size[0] or right > map_size[1]:
            raise ValueError(
                f'crop {i} of shape {tuple(crop.shape)} at x={int(x)}, y={int(y)} leaves the map '
                f'of size {map_size}'
            )


def _frame(crop: Tensor, x: int, y: int, map_size: tuple[int, int], outside: float) -> Tile:
    """Put one ring of outside cells around a crop where the map goes on."""
    h, w = crop.shape
    left, top = min(x, 1), min(y, 1)
    right, bottom = min(map_size[1] - x - w, 1), min(map_size[0] - y - h, 1)
    return Tile(F.pad(crop, (left, right, top, bottom), value=outside), x - left, y - top)


def _cut_maps(maps: Tensor, threshold: float) -> list[Tile]:
    """Cut each map to the cells that can reach the threshold and one ring around them."""
    peaks = maps.amax(1), maps.amax(2)
    # Rounding cannot lift a pixel over the threshold if all its cells are further below than this.
    reach = rounding_error(max(maps.shape[1:]), peaks[0].amax(1).clamp(min=abs(threshold)))
    limits = []
    for peak in peaks:
        hot = peak >= (threshold - reach)[:, None]
        size = hot.shape[1]
        first = hot.byte().argmax(1)
        last = size - hot.flip(1).byte().argmax(1)
        limits += [(first - 1).clamp(min=0), (last + 1).clamp(max=size) * hot.any(1)]
    if bool(peaks[0].isnan().any()):
        raise ValueError('a mask has NaN values')
    bounds = torch.stack(limits, dim=1).tolist()
    return [Tile(m[y0:y1, x0:x1], x0, y0) for m, (x0, x1, y0, y1) in zip(maps, bounds)]


def _windows(
    tiles: list[Tile],
    resize: Resize,
    image_size: tuple[int, int],
    boxes: Tensor | None,
    device: torch.device,
) -> Tensor:
    """Pixels that mix cells of the tiles only: LongTensor[N, 4], (x1, y1, x2, y2), exclusive."""
    first, last = [], []
    for axis in (1, 0):
        places = resize.places[axis][: image_size[axis]]
        starts = torch.tensor([(t.x, t.y)[1 - axis] for t in tiles], device=device)
        sizes = torch.tensor([t.values.shape[axis] for t in tiles], device=device)
        first.append(torch.searchsorted(places, starts.float()))
        last.append(torch.searchsorted(places, (starts + sizes - 1).float(), right=True))
    first, last = torch.stack(first, dim=1), torch.stack(last, dim=1)
    if boxes is not None:
        limit = first.new_tensor([image_size[1], image_size[0]])
        edges = boxes.to(device).ceil().clamp(min=0)
        first = torch.maximum(first, torch.minimum(edges[:, :2], limit).long())
        last = torch.minimum(last, torch.minimum(edges[:, 2:], limit).long())
    return torch.cat([first, torch.maximum(first, last)], dim=1)


def _chunks(tiles: list[Tile], windows: list[list[int]], budget: int) -> Iterator[list[int]]:
    """Group masks with something to draw, alike in height, into chunks of bounded work."""
    sizes = {
        i: (*tile.values.shape, x2 - x1)
        for i, (tile, (x1, y1, x2, y2)) in enumerate(zip(tiles, windows))
        if x2 > x1 and y2 > y1
    }
    chunk, columns, widest = [], 0, 0
    for i in sorted(sizes, key=lambda i: sizes[i][0], reverse=True):
        height, width, pixels = sizes[i]
        widest = max(widest, width)
        tallest = sizes[chunk[0]][0] if chunk else height
        if chunk and tallest * max(columns + pixels, (len(chunk) + 1) * widest) > budget:
            yield chunk
            chunk, columns, widest = [], 0, width
        chunk.append(i)
        columns += pixels
    if chunk:
        yield chunk
