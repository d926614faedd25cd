"""One-stage masks, given on a stride-s map of the whole image, to COCO RLE or dense masks.

Maps are cut to tiles outside of which nothing reaches the threshold; tiles are resized as parts of
their map and thresholded without ever being pasted.

Shapes:   N instances, Hm x Wm cells of the map, h x w output image, n tiles of one chunk,
          ht x wt cells of the largest of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .formats import RLEMasks, check_format
from .map_pixels import MapPixels, Resize, Tile
from .trace import (
    CHUNK,
    Axis,
    chunk_sizes,
    evaluate,
    rounding_error,
    toggled_masks,
    trace_columns,
)


def map_masks(
    maps: Tensor | Sequence[Tensor],
    resized_size: tuple[float, float],
    image_size: tuple[int, int],
    threshold: float,
    mask_format: str = 'dense',
    device: torch.device | None = None,
    offsets: Tensor | Sequence[tuple[int, int]] = (),
    map_size: tuple[int, int] | None = None,
) -> Tensor | RLEMasks:
    """Resize soft masks bilinearly, threshold them and cut them to the image.

    The map covers the padded network input. It is resized as a whole to ``resized_size``, then the
    top left ``image_size`` part is kept; where the resized map is smaller the mask is empty.

    Args:
        maps: Tensor[N, Hm, Wm] of soft masks; or, to save memory, N crops Tensor[hc, wc] of it,
            which is 0 elsewhere.
        resized_size: ``(h, w)`` that the whole map is resized to, in pixels of the output image;
            fractional for an exact scale, see ``Resize``.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its value is above this; above 0 with crops.
        mask_format: ``'dense'`` or ``'rle'``.
        device: Where dense masks go; default: where the maps are.
        offsets: N pairs ``(x, y)``, map cell of each crop's top left corner. Only with crops.
        map_size: ``(Hm, Wm)``. Only with crops.

    Returns:
        BoolTensor[N, h, w] or N RLEs, identical to those of resizing with ``interpolate`` in
        float32 on the same device.
    """
    check_format(mask_format)
    if len(maps) == 0:
        none = torch.zeros((3, 0), dtype=torch.long, device=device)
        return toggled_masks(none, 0, image_size, mask_format)
    if isinstance(maps, Tensor):
        cells, outside = (maps.shape[1], maps.shape[2]), threshold - 1
        tiles = _cut_maps(maps.detach().float(), threshold)
    else:
        if map_size is None or not threshold > 0:
            raise ValueError(f'crops need map_size and a threshold above 0, got {threshold}')
        cells, outside = map_size, 0.0
        tiles = [
            _frame(crop.detach().float(), int(x), int(y), cells)
            for crop, (x, y) in zip(maps, offsets, strict=True)
        ]
    resize = Resize(cells, resized_size, maps[0].device)
    windows = _windows(tiles, resize, image_size)
    margin = windows.new_zeros(len(tiles), dtype=torch.float32)
    # The sizes are wanted on the host: fetched once.
    sides = (windows[:, 2:] - windows[:, :2]).cpu()
    certain, spans = [windows.new_zeros((3, 0))], [windows.new_zeros((6, 0))]
    for chunk in _chunks(tiles, sides, windows.device):
        members, totals = [tiles[i] for i in chunk.tolist()], sides[chunk].sum(0).tolist()
        chunk = chunk.to(windows.device)
        batch = TileBatch(members, windows[chunk], totals, resize, threshold, outside)
        margin[chunk] = batch.margin
        for parts, part in zip((certain, spans), batch.trace()):
            part[0] = chunk[part[0]]
            parts.append(part)
    pixels = MapPixels(tiles, margin, resize, threshold, outside)
    toggles = torch.cat([*certain, *evaluate(torch.cat(spans, dim=1), pixels.inside)], dim=1)
    return toggled_masks(toggles.to(device), len(maps), image_size, mask_format)


def _frame(crop: Tensor, x: int, y: int, map_size: tuple[int, int]) -> Tile:
    """Put one ring of zeros around a crop where the map goes on."""
    h, w = crop.shape
    left, top = min(x, 1), min(y, 1)
    right, bottom = min(map_size[1] - x - w, 1), min(map_size[0] - y - h, 1)
    return Tile(F.pad(crop, (left, right, top, bottom)), x - left, y - top)


def _cut_maps(maps: Tensor, threshold: float) -> list[Tile]:
    """Cut each map to the cells that can reach the threshold and one ring around them."""
    peaks = maps.amax(1), maps.amax(2)  # (N, Wm), (N, Hm)
    if bool(peaks[0].isnan().any()):
        raise ValueError('a mask has NaN values')
    # Rounding cannot lift a pixel over the threshold if all its cells are further below than this.
    reach = rounding_error(max(maps.shape[1:]), peaks[0].amax(1).clamp(min=abs(threshold)))
    limits = []
    for peak in peaks:
        hot = peak >= (threshold - reach)[:, None]
        size = hot.shape[1]
        first = hot.byte().argmax(1)
        last = size - hot.flip(1).byte().argmax(1)
        limits += [(first - 1).clamp(min=0), (last + 1).clamp(max=size) * hot.any(1)]
    bounds = torch.stack(limits, dim=1).tolist()
    return [Tile(m[y0:y1, x0:x1], x0, y0) for m, (x0, x1, y0, y1) in zip(maps, bounds)]


def _windows(tiles: list[Tile], resize: 'Resize', image_size: tuple[int, int]) -> Tensor:
    """Pixels that mix cells of the tiles only: LongTensor[N, 4], (x1, y1, x2, y2), exclusive."""
    first, last = [], []
    for axis in (1, 0):
        places = resize.places[axis][: image_size[axis]]
        starts = places.new_tensor([(t.y, t.x)[axis] for t in tiles])
        sizes = places.new_tensor([t.values.shape[axis] for t in tiles])
        first.append(torch.searchsorted(places, starts))
        last.append(torch.searchsorted(places, starts + sizes - 1, right=True))
    low, high = torch.stack(first, dim=1), torch.stack(last, dim=1)
    return torch.cat([low, torch.maximum(low, high)], dim=1)


def _chunks(tiles: list[Tile], sides: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Group masks with something to draw, alike in height, into chunks of bounded work.

    All on the host: ``sides`` LongTensor[N, 2] of the windows, chunks of LongTensor[n].
    """
    shapes = torch.tensor([tile.values.shape for tile in tiles])
    columns, rows = sides.unbind(1)
    order = shapes[:, 0].argsort(descending=True)
    order = order[(columns * rows)[order] > 0]
    work = shapes[:, 0] * torch.maximum(columns, shapes[:, 1].max())
    return order.split(chunk_sizes(work[order], CHUNK, device))


class TileBatch:
    """A chunk of tiles, padded to one size.

    Args:
        windows: LongTensor[n, 4], the pixels to decide, (x1, y1, x2, y2), exclusive.
        totals: Sum of the widths and of the heights of the windows.
        threshold: As in ``map_masks``.
        outside: Value of the cells beyond the tiles, below the threshold.
    """

    def __init__(
        self,
        tiles: list[Tile],
        windows: Tensor,
        totals: Sequence[int],
        resize: Resize,
        threshold: float,
        outside: float,
    ) -> None:
        self.tiles, self.windows, self.totals, self.resize = tiles, windows, totals, resize
        self.threshold, self.outside = threshold, outside
        height = max(t.values.shape[0] for t in tiles)
        width = max(2, *(t.values.shape[1] for t in tiles))
        self.cells = torch.stack(  # (n, ht, wt)
            [
                F.pad(v, (0, width - v.shape[1], 0, height - v.shape[0]), value=outside)
                for v, _, _ in tiles
            ]
        )
        self.origin = windows.new_tensor([[t.x, t.y] for t in tiles])
        low, high = self.cells.flatten(1).aminmax(dim=1)
        largest = torch.maximum(high, -low).clamp(min=abs(threshold))
        if not bool(largest.isfinite().all()):
            raise ValueError('a mask has NaN or infinite values')
        self.margin = rounding_error(max(resize.map_size), largest)

    def trace(self) -> tuple[Tensor, Tensor]:
        """``trace_columns`` of the chunk; owners are positions in it."""
        # A row outside the mask at either end: (n, wt, ht + 2).
        knots = F.pad(self.cells.mT - self.threshold, (1, 1), value=-1.0)
        return trace_columns(knots, self.margin, self._axis(1, 0), self._axis(0, 1))

    def _axis(self, axis: int, pad: int) -> Axis:
        start = self.origin[:, 1 - axis] - pad
        step, centre = self.resize.steps(axis)
        scale = torch.full_like(start, 1, dtype=torch.float32) * step
        return Axis.between(
            self.windows[:, 1 - axis],
            self.windows[:, 3 - axis],
            lambda owner, pixel: self.resize.places[axis][pixel] - start[owner],
            scale,
            start * step + centre,
            self.totals[1 - axis],
        )
