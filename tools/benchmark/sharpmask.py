"""Proposals of a whole image: DeepMask and SharpMask against the way the originals make them.

The PyTorch port runs its network, unfused, over every level as a whole, evaluates the mask head at
every window, resizes and activates all of those masks, sorts all scores on the host, and warps each
chosen mask into a full image. It has no SharpMask inference; refining every window is the same plan
applied to it. The Torch7 code, which has, refines the chosen windows at once and pastes them into
full images: that is the second peer of SharpMask. Weights, windows and pasting rule are shared, so
the proposals are the same; nothing else is.
"""

from collections.abc import Callable, Iterator
from functools import partial
from time import process_time

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from replay.sharpmask_weights import build_model
from torch import Tensor, nn
from torch.nn import functional as F

from mmrefine.masks import encode
from mmrefine.sharpmask.windows import Placement, level_image, scaled_size, window_crops

from .harness import Row, compare

LOG2_SCALES = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5)
PROPOSALS = 500
THRESHOLD = 0.2
_PORT_PROBABILITY_SIZE = 112
_SCORE_TOLERANCE = 1e-4


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
        found.append((2.0**exponent, model.level_maps(padded)))
    return found


def _every_mask(model: nn.Module, codes: Tensor) -> Tensor:
    """Probabilities of the coarse mask at every window of a level, as the port makes them."""
    logits = model.mask_head.masks(codes)[:, None]
    size = (_PORT_PROBABILITY_SIZE,) * 2
    return F.interpolate(logits, size, mode='bilinear', align_corners=True)[:, 0].sigmoid()


def _refined(model: nn.Module, maps: list[Tensor], codes: Tensor, cells: Tensor) -> Tensor:
    """Refined masks of windows of a level, all at once."""
    return model.refine_head.forward_windows(maps[1:], codes, cells)


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
    place = Placement(torch.tensor([cell]), (scale, scale), size, THRESHOLD, side)
    masks, offsets = window_crops(torch.from_numpy(soft)[None], place)
    full = np.zeros(size, bool)
    x, y = offsets[0].tolist()
    mask = masks[0].numpy()
    full[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return full


@torch.no_grad()
def peer_proposals(
    model: nn.Module, image: Tensor, refined: bool, every: bool = True
) -> InstanceData:
    """Masks at every window (or every chosen one), all scores sorted on the host, every chosen mask
    a full image."""
    levels, candidates = [], []
    for i, (scale, maps) in enumerate(_trunk(model, image)):
        codes = model.mask_head.encoder(maps[0])
        scores = model.mask_head.scores(codes)[0].sigmoid().cpu().numpy()
        rows, columns = scores.shape
        codes, device = codes[0].flatten(1).T, codes.device
        cells = torch.cartesian_prod(*(torch.arange(n, device=device) for n in (rows, columns)))
        masks = None
        if every:
            every_mask = (
                _refined(model, maps, codes, cells) if refined else _every_mask(model, codes)
            )
            masks = every_mask.cpu().numpy()
        levels.append((maps, codes, cells, masks))
        for flat, score in enumerate(scores.ravel().tolist()):
            candidates.append((score, i, flat, columns, scale))
    best = sorted(candidates, key=lambda c: -c[0])[:PROPOSALS]
    paste = _paste_official if refined else _paste_port
    size = tuple(image.shape[-2:])
    stack = torch.zeros((len(best), *size), dtype=torch.bool).numpy()
    for i, (maps, codes, cells, masks) in enumerate(levels):
        ranks = [n for n, c in enumerate(best) if c[1] == i]
        flats = [best[n][2] for n in ranks]
        if masks is None:
            chosen = _refined(model, maps, codes[flats], cells[flats]).cpu().numpy()
        else:
            chosen = masks[flats]
        for n, flat, soft in zip(ranks, flats, chosen):
            cell = divmod(flat, best[n][3])
            stack[n] = paste(soft, cell, best[n][4], size, model.window)
    return InstanceData(scores=torch.tensor([c[0] for c in best]), masks=encode(stack))


def _difference(mask: dict, other: dict) -> float:
    """1 - IoU of two masks, 0 if at most one pixel differs."""
    iou = float(coco_mask.iou([mask], [other], [0])[0, 0])
    pixels = (1 - iou) / (1 + iou) * float(coco_mask.area(mask) + coco_mask.area(other))
    return 1 - iou if round(pixels) > 1 else 0.0


def _mask_error(ours: InstanceData, peer: InstanceData) -> float:
    """Largest 1 - IoU between a mask and the peer's of the same score.

    Scores closer than the tolerance may change places, also with the first one left out. Tiles
    round in another order: a single pixel of a mask may cross the threshold.
    """
    close = (ours.scores.cpu()[:, None] - peer.scores[None]).abs() <= _SCORE_TOLERANCE
    clear = ours.scores.cpu() > peer.scores[-1] + _SCORE_TOLERANCE
    worst = 0.0
    for mask, rivals in zip([m for m, c in zip(ours.masks.tolist(), clear) if c], close[clear]):
        others = [peer.masks[i] for i in rivals.nonzero().flatten().tolist()]
        worst = max(worst, min((_difference(mask, other) for other in others), default=1.0))
    return worst


def _overlap(ours: InstanceData, peer: InstanceData) -> float:
    """Mean over the peer's masks of the IoU with the most similar of ours."""
    crowd = [0] * len(peer.masks)
    return float(coco_mask.iou(ours.masks.tolist(), peer.masks, crowd).max(0).mean())


def _row(
    case: str,
    model: nn.Module,
    image: Tensor,
    peer: Callable[[], InstanceData],
    device: str,
    reduced: bool,
) -> Row:
    last: dict[str, InstanceData] = {}
    seconds: list[float] = []

    def ours() -> Tensor:
        model.test_cfg['trunk_dtype'] = 'bfloat16' if reduced else None
        last['ours'] = model.propose(image)
        model.test_cfg['trunk_dtype'] = None
        return last['ours'].scores.cpu()

    def theirs() -> Tensor:
        begin = process_time()
        last['peer'] = peer()
        seconds.append(process_time() - begin)
        return last['peer'].scores

    run = partial(compare, 'B11', case, ours, theirs, device=device, repeats=1)
    if reduced:
        row = run(tolerance=1.0, claim='work')
        row.equal = len(last['ours'].masks) == len(last['peer'].masks)
        row.details['mean_iou'] = _overlap(last['ours'], last['peer'])
    else:
        row = run(tolerance=_SCORE_TOLERANCE)
        error = row.details['mask_error'] = _mask_error(last['ours'], last['peer'])
        row.equal = row.equal and error <= 1e-3
    if device == 'cpu':
        # the inverse bounds what a formulation with the peer's trunk can gain
        begin = process_time()
        _trunk(model, image)
        row.details['peer_trunk_share'] = (process_time() - begin) / min(seconds)
    return row


def _proposals(
    case: str,
    refined: bool,
    every: bool,
    device: str,
    quick: bool = False,
    *,
    reduced: bool = False,
) -> Iterator[Row]:
    """500 proposals of an image at seven scales, from the normalised image to the RLEs.

    ``reduced``: our trunk in bfloat16, the peer's as always; the proposals are alike, not equal.
    """
    size = (60, 80) if quick else (480, 640)
    image, model = _picture(size, device), _model(refined, device)
    peer = partial(peer_proposals, model, image, refined, every)
    yield _row(f'{size[0]}x{size[1]}, {case}', model, image, peer, device, reduced)


BENCHMARKS = {
    'B11': {
        'deepmask': partial(_proposals, 'DeepMask, mask head on every window', False, True),
        'sharpmask': partial(_proposals, 'SharpMask, every window refined', True, True),
        'sharpmask-chosen': partial(
            _proposals, 'SharpMask, the chosen windows refined', True, False
        ),
        'deepmask-bfloat16': partial(
            _proposals,
            'DeepMask in bfloat16, float32 mask head on every window',
            False,
            True,
            reduced=True,
        ),
        'sharpmask-bfloat16': partial(
            _proposals,
            'SharpMask in bfloat16, every window refined in float32',
            True,
            True,
            reduced=True,
        ),
    }
}
