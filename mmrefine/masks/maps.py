"""One-stage masks, given on a stride-s map of the whole image, to COCO RLE.

Shapes:   N instances, Hm x Wm cells of the map, h x w output image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .rle import RLE, encode


def map_masks_to_rle(
    maps: Tensor | Sequence[Tensor],
    resized_size: tuple[int, int],
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
    SipMask: ``resized_size`` is the floored size of its section on scales, threshold 0.4.
    EmbedMask: ceiled size, threshold 0.5 on probabilities or ln 0.53 on logarithms with
    ``outside=-10``.

    Args:
        maps: Tensor[N, Hm, Wm] of soft masks; or, to save memory, N crops Tensor[hc, wc] of it.
        resized_size: ``(h, w)`` that the whole map is resized to, in pixels of the output image.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its value is above this.
        strict: Compare with ``>``; otherwise with ``>=``.
        align_corners: Rule of the resizing, as in ``torch.nn.functional.interpolate``.
        offsets: N pairs ``(x, y)``, map cell of each crop's top left corner. Only with crops.
        map_size: ``(Hm, Wm)``. Only with crops.
        outside: Value of the cells that a crop leaves out.
        boxes: Tensor[N, 4] in pixels of the output image; a pixel stays where its integer index
            satisfies ``x1 <= x < x2`` and ``y1 <= y < y2``. Default: no cutting by box.

    Returns:
        N RLEs, identical to those of resizing with ``interpolate`` and encoding dense masks.

    Raises:
        ValueError: Crops without ``offsets`` or ``map_size``, shapes that disagree, or NaN.
    """
    if not isinstance(maps, Tensor):
        if offsets is None or map_size is None:
            raise ValueError('crops need offsets=[(x, y), ...] and map_size=(Hm, Wm)')
    results = []
    for i, soft in enumerate(maps):
        if offsets is not None:
            x, y = (int(v) for v in offsets[i])
            full = soft.new_full(map_size, outside)
            full[y : y + soft.shape[0], x : x + soft.shape[1]] = soft
            soft = full
        large = F.interpolate(
            soft[None, None].float(), size=resized_size, mode='bilinear', align_corners=align_corners
        )[0, 0]
        h, w = image_size
        dense = torch.zeros((h, w), dtype=torch.bool, device=large.device)
        cut = large[:h, :w]
        dense[: cut.shape[0], : cut.shape[1]] = cut > threshold if strict else cut >= threshold
        if boxes is not None:
            x1, y1, x2, y2 = boxes[i].unbind()
            xs = torch.arange(w, device=large.device)
            ys = torch.arange(h, device=large.device)[:, None]
            dense &= (xs >= x1) & (xs < x2) & (ys >= y1) & (ys < y2)
        results += encode(dense[None])
    return results
