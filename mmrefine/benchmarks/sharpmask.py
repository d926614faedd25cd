"""Proposals of a whole image: DeepMask and SharpMask against the way the PyTorch port makes them.

The port evaluates the mask head at every window of every scale, resizes and activates all of
them, sorts all scores, and warps each chosen mask into a full image. Weights, windows and pasting
rule are shared, so the proposals are the same.
"""

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torch.nn import functional as F

from mmrefine.masks import encode
from mmrefine.parity.sharpmask_weights import build_model
from mmrefine.sharpmask.paste import paste_windows
from mmrefine.sharpmask.pyramid import Level, level_image, scaled_size, select_windows

from .harness import Row, compare

LOG2_SCALES = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5)
PROPOSALS = 500
THRESHOLD = 0.2
_PORT_PROBABILITY_SIZE = 112


def _picture(size: tuple[int, int], device: str) -> Tensor:
    """A smooth normalised image with structure at several scales."""
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, *size)
    for cells in (4, 16, 64):
        noise = torch.randn(1, 3, cells, cells, generator=generator)
        image += F.interpolate(noise, size, mode='bilinear')
    return image.to(device)


def _model(sharpmask: bool, device: str) -> nn.Module:
    config = dict(log2_scales=LOG2_SCALES, max_per_img=PROPOSALS, mask_format='rle')
    config['paste'] = 'official' if sharpmask else 'port'
    flavour = 'lua' if sharpmask else 'port'
    return build_model(flavour, 7, sharpmask, test_cfg=config).to(device)


Maps = list[tuple[float, list[Tensor]]]


@torch.no_grad()
def _trunk(model: nn.Module, image: Tensor) -> Maps:
    """Scale and maps (reduced stride-16 map first) of every level."""
    found = []
    for exponent in LOG2_SCALES:
        size = scaled_size(tuple(image.shape[-2:]), 2.0**exponent)
        padded = level_image(image, size, model.window // 2, model.fill_colour(image))
        found.append((2.0**exponent, model._level_maps(padded)))
    return found


@torch.no_grad()
def our_proposals(model: nn.Module, image: Tensor, maps: Maps) -> InstanceData:
    """The package's way from trunk maps to RLEs."""
    levels = [Level(s, m[0], model._window_scores(m[0]), m[1:]) for s, m in maps]
    windows = select_windows(levels, PROPOSALS)
    return model._paste(levels, windows, tuple(image.shape[-2:]), None)


def _every_mask(model: nn.Module, maps: list[Tensor], codes: Tensor, refined: bool) -> np.ndarray:
    """Mask of every window of a level on the host."""
    flat = codes[0].flatten(1).T
    if refined:
        rows, cols = (torch.arange(n, device=codes.device) for n in codes.shape[-2:])
        cells = torch.cartesian_prod(rows, cols)
        head, ids = model.refine_head, torch.zeros_like(cells[:, 0])
        chunks = torch.arange(len(cells), device=codes.device).split(64)
        parts = [head.forward_windows(maps[1:], flat[i], cells[i], ids[i]).cpu() for i in chunks]
        return torch.cat(parts).numpy()
    logits = model.mask_head.masks(flat)[:, None]
    size = (_PORT_PROBABILITY_SIZE,) * 2
    wide = F.interpolate(logits, size, mode='bilinear', align_corners=True)
    return wide[:, 0].sigmoid().cpu().numpy()


def _paste_port(
    soft: np.ndarray, cell: tuple[int, int], scale: float, size: tuple[int, int], side: int
) -> np.ndarray:
    """The port's two resamplings, the second straight into a full image."""
    soft = cv2.resize(soft, (side, side), interpolation=cv2.INTER_LINEAR)
    (height, width), (row, col) = size, cell
    a, b = (width - 1) / (width * scale), (height - 1) / (height * scale)
    matrix = np.array(
        [[a, 0, a * (16 * col - side / 2)], [0, b, b * (16 * row - side / 2)]], np.float64
    )
    return cv2.warpAffine(soft, matrix, (width, height)) > THRESHOLD


def _paste_official(
    soft: np.ndarray, cell: tuple[int, int], scale: float, size: tuple[int, int], side: int
) -> np.ndarray:
    """The released rule with a full image per mask."""
    crops = paste_windows(
        torch.from_numpy(soft)[None], torch.tensor([cell]), (scale, scale), size, THRESHOLD, side
    )
    full = np.zeros(size, bool)
    x, y = crops.offsets[0].tolist()
    mask = crops.masks[0].numpy()
    full[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return full


@torch.no_grad()
def peer_proposals(model: nn.Module, image: Tensor, maps: Maps, refined: bool) -> InstanceData:
    """Masks at every window, all scores sorted on the host, every chosen mask a full image."""
    kept, candidates = [], []
    for i, (scale, own) in enumerate(maps):
        codes = model.mask_head.encoder(own[0])
        scores = model.mask_head.scores(codes)[0].sigmoid().cpu().numpy()
        kept.append(_every_mask(model, own, codes, refined))
        columns = scores.shape[1]
        for flat, score in enumerate(scores.ravel().tolist()):
            candidates.append((score, i, flat, columns, scale))
    best = sorted(candidates, key=lambda c: -c[0])[:PROPOSALS]
    paste = _paste_official if refined else _paste_port
    size = tuple(image.shape[-2:])
    stack = np.zeros((len(best), *size), bool)
    for n, (_, i, flat, columns, scale) in enumerate(best):
        stack[n] = paste(kept[i][flat], divmod(flat, columns), scale, size, model.window)
    return InstanceData(scores=torch.tensor([c[0] for c in best]), masks=encode(stack))


def _mask_error(ours: InstanceData, peer: InstanceData) -> float:
    """Largest 1 - IoU of the masks, rank by rank."""
    worst = 0.0
    for a, b in zip(ours.masks, peer.masks, strict=True):
        empty = not coco_mask.area(a) and not coco_mask.area(b)
        worst = max(worst, 0.0 if empty else 1 - float(coco_mask.iou([a], [b], [0])[0, 0]))
    return worst


def _row(case: str, ours: Callable, peer: Callable, device: str) -> Row:
    error = _mask_error(ours(), peer())
    row = compare(
        'B11', case, lambda: ours().scores.cpu(), lambda: peer().scores, device=device,
        tolerance=1e-4, repeats=2, details=dict(mask_error=error),
    )  # fmt: skip
    row.equal = row.equal and error <= 1e-3
    return row


def proposals(device: str) -> Iterator[Row]:
    """500 proposals of a 480 x 640 image at seven scales."""
    for refined, size in ((False, (480, 640)), (True, (240, 320))):
        model, image = _model(refined, device), _picture(size, device)
        name = (
            f'{"SharpMask" if refined else "DeepMask"} {size[0]}x{size[1]}, 7 scales, 500 proposals'
        )
        maps = _trunk(model, image)

        def ours(m: Maps | None, model: nn.Module = model, image: Tensor = image) -> InstanceData:
            return our_proposals(model, image, m or _trunk(model, image))

        def peer(
            m: Maps | None, model: nn.Module = model, image: Tensor = image, refined: bool = refined
        ) -> InstanceData:
            return peer_proposals(model, image, m or _trunk(model, image), refined)

        yield _row(f'{name}, after the trunk', partial(ours, maps), partial(peer, maps), device)
        yield _row(f'{name}, with the trunk', partial(ours, None), partial(peer, None), device)


BENCHMARKS = {'B11': proposals}
