#!/usr/bin/env python
"""What a grid of masks can show of a set: python tools/mask_grids.py --gt GT.json --scale 640

The true masks are brought to the grids on which the designs learn, at the size of the pictures that
the model sees, back again, and scored as results: the most that a model can reach which learns its
targets perfectly. Small objects want a finer grid, larger pictures, or masks inside boxes. Objects
whose boxes meet want what keeps them apart, as SipMask's sub-regions.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.image import rescale_size
from mmdet.structures.bbox import bbox_overlaps
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from pycocotools import mask as coco_mask
from torch import Tensor

from mmrefine.embedmask.targets import dilated_targets
from mmrefine.evaluation.evaluate import evaluate
from mmrefine.evaluation.protocols import make_rules, read_truth
from mmrefine.masks import GridGroup, MaskGrids, RLEMasks, map_masks, roi_masks
from mmrefine.refinemask.targets import multi_size_targets
from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.json_files import load_json

NUMBERS = {
    'mask AP': 'segm_AP',
    'boundary AP': 'boundary_AP',
    'small': 'segm_AP_s',
    'medium': 'segm_AP_m',
    'large': 'segm_AP_l',
}
SIDES = (112, 28)  # of grids in boxes
LARGEST_STRIDE = 8
MET = 0.1  # least share of a box


def shares(masks: Tensor, stride: int) -> Tensor:
    """Share of every cell that an object covers: Tensor[G, H, W] -> Tensor[G, H / s, W / s]."""
    return F.avg_pool2d(masks.float()[:, None], stride)[:, 0]


# Foreground of a map as heads learn it, from masks that fill whole cells, and where they cut the
# enlarged map.
MAPS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    'stride 2, more than half of the cell': (lambda masks: shares(masks, 2) > 0.5, 0.4),
    'stride 2, any pixel of the cell': (lambda masks: dilated_targets(masks, 2), 0.5),
    'stride 4, any of the four central pixels of the cell': (dilated_targets, 0.5),
    'stride 4, more than half of the cell': (lambda masks: shares(masks, 4) > 0.5, 0.5),
    'stride 4, its share of the cell': (lambda masks: shares(masks, 4), 0.5),
    'stride 8, its share of the cell': (lambda masks: shares(masks, 8), 0.5),
}


def shown_masks(
    masks: BitmapMasks | PolygonMasks, boxes: Tensor, scale: int
) -> dict[str, RLEMasks]:
    """Masks of one image through every grid.

    Args:
        masks: Of G objects, at least one, at the size of the image.
        boxes: Tensor[G, 4], theirs, in its pixels.
        scale: Longer side of the picture that the model sees.
    """
    size = masks.height, masks.width
    width, height = rescale_size(size[::-1], scale / max(size))
    seen = masks.resize((height, width))
    factors = boxes.new_tensor([width / size[1], height / size[0]] * 2)
    rows, columns = (-(-side // LARGEST_STRIDE) * LARGEST_STRIDE for side in (height, width))
    planes = F.pad(  # (G, H, W), whole cells of every stride
        seen.to_tensor(torch.bool, 'cpu'), (0, columns - width, 0, rows - height)
    )
    grids = multi_size_targets(boxes * factors, torch.arange(len(boxes)), seen, SIDES)
    shown = {}
    for side, grid in zip(SIDES, grids):
        group = GridGroup(torch.arange(len(boxes)), grid[:, 0].float())
        name = f'{side} x {side} of the box'
        shown[name] = roi_masks(MaskGrids([group]), boxes, size, 0.5, mask_format='rle')
    whole = rows * size[0] / height, columns * size[1] / width
    for name, (bring, threshold) in MAPS.items():
        shown[name] = map_masks(bring(planes).float(), whole, size, threshold, 'rle')
    return shown


def to_masks(segmentations: Sequence, size: tuple[int, int]) -> BitmapMasks | PolygonMasks:
    """Masks of one image, (h, w), from COCO's: polygons stay polygons if all are."""
    if all(isinstance(each, list) for each in segmentations):
        return PolygonMasks([[np.array(p) for p in each] for each in segmentations], *size)
    whole = [each for each in segmentations if isinstance(each, dict)]
    return BitmapMasks(coco_mask.decode(whole).transpose(2, 0, 1), *size)


def read_objects(path: Path, classes: Sequence[str]) -> GroundTruth:
    """Objects without crowds, those of ``classes`` if there are any, with boxes, run lengths, and
    the file's own masks as ``drawn``.

    Raises:
        ValueError: The file cannot be used, or has no object to show.
    """
    gt = read_truth(load_json(path), 'coco', str(path)).of_classes(classes)
    gt.annotations = [a for a in gt.annotations if not a['iscrowd'] and not a['ignore']]
    if not gt.annotations:
        raise ValueError(f'{path} has no objects but crowds: there is nothing to show')
    for a in gt.annotations:
        a['drawn'] = a.get('segmentation')
    gt.require(boxes=True, masks=True)
    return gt


def by_image(gt: GroundTruth) -> dict[Id, tuple[list[dict], Tensor]]:
    """Objects of every image, and their boxes Tensor[G, 4] as corners."""
    images: dict[Id, list[dict]] = {}
    for a in gt.annotations:
        images.setdefault(a['image_id'], []).append(a)
    boxes = {image: torch.tensor([a['bbox'] for a in each]) for image, each in images.items()}
    for each in boxes.values():
        each[:, 2:] += each[:, :2]
    return {image: (images[image], boxes[image]) for image in images}


def met_share(gt: GroundTruth) -> float:
    """Share of the objects that have a tenth of their box inside the box of another one."""
    met = 0
    for _, boxes in by_image(gt).values():
        covered = bbox_overlaps(boxes, boxes, mode='iof').fill_diagonal_(0)  # (G, G)
        met += int((covered.amax(1) >= MET).sum())
    return met / len(gt.annotations)


def measure(gt: GroundTruth, scale: int) -> dict:
    """Numbers of every grid: name -> ``NUMBERS`` -> value between 0 and 1; ``scale`` is the longer
    side of the pictures that the model sees.

    Raises:
        ValueError: ``scale`` is not positive.
    """
    if scale < 1:
        raise ValueError(f'--scale must be positive, got {scale}')
    images = by_image(gt)
    counts: dict[str, list[bytes]] = {}
    for image, (objects, boxes) in images.items():
        polygons = all(isinstance(a['drawn'], list) for a in objects)
        kinds = [a['drawn' if polygons else 'segmentation'] for a in objects]
        for name, rles in shown_masks(to_masks(kinds, gt.sizes[image]), boxes, scale).items():
            counts.setdefault(name, []).extend(rle['counts'] for rle in rles.tolist())
    found = [a for objects, _ in images.values() for a in objects]
    ids = [[a[key] for a in found] for key in ('image_id', 'category_id')]
    boxes = np.array([a['bbox'] for a in found])
    most = max(len(objects) for objects, _ in images.values())
    rules = make_rules('coco', max(100, most))  # every object counts
    table = {}
    for name, strings in counts.items():
        dt = Detections(*ids, np.ones(len(found)), boxes, strings)
        result = evaluate(gt, dt, ('segm', 'boundary'), rules)
        table[name] = {title: result.numbers[key] for title, key in NUMBERS.items()}
    return table


def markdown(table: dict) -> str:
    """One line a grid, in per cent."""
    lines = ['| ' + ' | '.join(['grid of the masks', *NUMBERS]) + ' |', '|---' * 6 + '|']
    for name, row in table.items():
        cells = [f'{100 * value:.1f}' if value >= 0 else '' for value in row.values()]
        lines.append('| ' + ' | '.join([name, *cells]) + ' |')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit status 1 with one sentence if the file cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--gt', required=True, type=Path, help='annotation json in COCO format')
    add('--scale', required=True, type=int, help='longer side of the pictures the model sees')
    add('--classes', nargs='+', default=(), metavar='NAME', help='default: all')
    args = parser.parse_args(argv)
    try:
        gt = read_objects(args.gt, args.classes)
        print(markdown(measure(gt, args.scale)))
        print(
            f'\n{len(gt.annotations)} objects; {met_share(gt):.1%} of them have {MET:.0%} of their '
            'box or more inside the box of another one.'
        )
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
