"""Masks out of the model: RoI grids and stride maps to COCO RLE, against MMDetection's own path.

The RoI peer is ``FCNMaskHead`` of the installed mmdet plus ``encode_mask_results``, as its metric
calls them. The map peer resizes all masks of an image at once, thresholds them and encodes.
"""

import multiprocessing
import resource

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures.mask import encode_mask_results
from mmengine.config import ConfigDict
from torch import Tensor

from mmrefine.masks import map_masks as masks_of_maps
from mmrefine.masks import roi_masks_to_rle

from .harness import Row, compare, peak_memory

SIZES = {'480x640': (480, 640), '1080p': (1080, 1920), '4K': (2160, 3840)}
HUGE = (6000, 8000)
MIB = 2**20


def detections(
    count: int, side: int, size: tuple[int, int], device: str = 'cpu'
) -> tuple[Tensor, Tensor]:
    """Make blob-like logits and boxes that cover 6 % of the image on average, as COCO's objects do.

    Returns:
        Tensor[N, S, S] logits and Tensor[N, 4] boxes in pixels.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 1, 7, 7, generator=generator)
    logits = 4 * F.interpolate(coarse, size=(side, side), mode='bicubic')[:, 0]
    place = torch.linspace(-1, 1, side)
    logits += 6 * (1 - 1.6 * (place[:, None] ** 2 + place**2))
    height, width = size
    area = torch.rand(count, generator=generator) * 0.12 * height * width
    stretch = torch.exp(0.3 * torch.randn(count, generator=generator))
    sides = torch.stack([(area * stretch).sqrt(), (area / stretch).sqrt()], dim=1)
    limit = torch.tensor([width, height])
    sides = torch.minimum(sides.clamp(min=4), limit)
    corner = torch.rand(count, 2, generator=generator) * (limit - sides)
    boxes = torch.cat([corner, corner + sides], dim=1)
    return logits.to(device), boxes.to(device)


def mmdet_rles(logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict]:
    """Paste with mmdet's mask head and encode; arguments as ``roi_masks_to_rle`` with logits."""
    head = FCNMaskHead(num_convs=0, num_classes=1, class_agnostic=True)
    masks = head._predict_by_feat_single(
        logits[:, None],
        boxes.clone(),
        boxes.new_zeros(len(boxes), dtype=torch.long),
        {'scale_factor': (1.0, 1.0), 'ori_shape': size},
        ConfigDict(mask_thr_binary=0.5),
        rescale=True,
    )
    return encode_mask_results(masks.detach().cpu().numpy())


def _roi_row(side: int, name: str, device: str, count: int = 100) -> Row:
    size = SIZES[name]
    logits, boxes = detections(count, side, size, device)
    return compare(
        'B2',
        f'RoI masks to RLE, N={count}, grid {side}, {name}',
        lambda: roi_masks_to_rle(logits, boxes, size, logits=True),
        lambda: mmdet_rles(logits, boxes, size),
        device=device,
        repeats=5,
    )


def roi_masks(device: str) -> list[Row]:
    """100 masks at three image sizes, for the grids of Mask R-CNN (28) and RefineMask (112)."""
    return [_roi_row(side, name, device) for side in (28, 112) for name in SIZES]


def interpolated_rles(maps: Tensor, resized: tuple[int, int], size: tuple[int, int]) -> list[dict]:
    """Resize soft maps all at once, threshold, cut and encode."""
    large = F.interpolate(maps[None], size=resized, mode='bilinear', align_corners=False)[0]
    masks = large[:, : size[0], : size[1]] > 0.5
    return encode_mask_results(masks.cpu().numpy())


def _map_row(stride: int, name: str, device: str, count: int = 100) -> Row:
    cells = (800 // stride, 1344 // stride)
    logits, boxes = detections(count, 28, cells)
    maps, crops, offsets = torch.zeros(count, *cells), [], []
    for one, soft, (x1, y1, x2, y2) in zip(maps, logits.sigmoid(), boxes.int().tolist()):
        crop = F.interpolate(soft[None, None], size=(y2 - y1, x2 - x1), mode='bilinear')[0, 0]
        one[y1:y2, x1:x2] = crop
        crops.append(crop.to(device))
        offsets.append((x1, y1))
    maps = maps.to(device)
    height, width = SIZES[name]
    resized = (height, round(height / 800 * 1344))
    size = (height, min(width, resized[1]))
    return compare(
        'B2',
        f'map masks to RLE, N={count}, stride {stride}, crops, {name}',
        lambda: masks_of_maps(crops, resized, size, 0.5, 'rle', offsets=offsets, map_size=cells),
        lambda: interpolated_rles(maps, resized, size),
        device=device,
    )


def map_masks(device: str) -> list[Row]:
    """100 one-stage masks on a stride-2 and a stride-4 map of an 800 x 1344 input."""
    return [_map_row(stride, name, device) for stride in (2, 4) for name in SIZES]


def _huge(count: int, device: str) -> list[dict]:
    logits, boxes = detections(count, 28, HUGE, device)
    return roi_masks_to_rle(logits, boxes, HUGE, logits=True)


def _resident_growth(count: int) -> float:
    """MiB by which the process grows while it encodes; run in a fresh process."""
    _huge(2, 'cpu')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _huge(count, 'cpu')
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def huge_image(device: str) -> list[Row]:
    """Peak memory with 300 detections on an 8000 x 6000 image; equality on the first four.

    The memory ratio compares with the N x h x w booleans alone, which the peer has to hold.
    """
    logits, boxes = (v[:4] for v in detections(300, 28, HUGE, device))
    row = compare(
        'B2',
        'RoI masks to RLE, N=300, grid 28, 8000x6000 (time: N=4)',
        lambda: roi_masks_to_rle(logits, boxes, HUGE, logits=True),
        lambda: mmdet_rles(logits, boxes, HUGE),
        device=device,
        memory=False,
        repeats=2,
    )
    ours = peak_memory(lambda: _huge(300, device), device) / MIB
    if device == 'cpu':
        # Tensors alone do not count what NumPy holds.
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            ours = max(ours, pool.apply(_resident_growth, (300,)))
    dense = 300 * HUGE[0] * HUGE[1] / MIB
    row.memory_ratio = dense / ours
    row.details.update(memory_ours_mib=ours, memory_dense_result_mib=dense)
    return [row]


def masks_out(device: str, quick: bool = False) -> list[Row]:
    """All rows of B2; the smoke version has three masks of each kind."""
    if quick:
        return [_roi_row(28, '480x640', device, 3), _map_row(4, '480x640', device, 3)]
    return [*roi_masks(device), *map_masks(device), *huge_image(device)]


BENCHMARKS = {'B2': masks_out}
