#!/usr/bin/env python
"""Score a model with its own boxes, then with the true boxes of the objects it found.

  python tools/true_boxes.py CONFIG CHECKPOINT [--cfg-options KEY=VALUE ...]

A box that overlaps an object of its class by at least --iou (0.5) becomes the box of the object it
overlaps most, before the masks are made; scores and order stay. What changes from one model to the
next in the second line is due to masks and ranking, no longer to boxes. The config is any with a
mask head after boxes, one or two stages, and a val_evaluator; its val pictures are read.
"""

import argparse
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.apis.load_model import read_config, require_weights
from mmrefine.apis.mask_branch import mask_roi_head
from mmrefine.checkpoint import read_checkpoint
from mmrefine.results.log import EXPECTED_ERRORS

# names of AP in any metric, and of mask AP by size: mAP, segm_mAP, segm_mAP_s, LVIS's segm_APs
SHOWN = re.compile(r'(bbox_|segm_|boundary_)?m?AP|segm_m?AP_?[sml]')


def use_true_boxes(model: nn.Module, iou: float = 0.5) -> None:
    """Change a detector, for good, so that its masks are made in true boxes.

    Raises:
        TypeError: The masks of its RoI head do not come from boxes.
        ValueError: It has neither a RoI head nor a box head and a mask head; later, when it
            predicts: a picture comes without true boxes.
    """
    if hasattr(model, 'roi_head'):
        owner, name = mask_roi_head(model), 'predict_bbox'
    elif getattr(model, 'bbox_head', None) is not None and hasattr(model, 'mask_head'):
        owner, name = model.bbox_head, 'predict_by_feat'
    else:
        raise ValueError(f'{type(model).__name__} has no boxes from which masks are made')
    # Some heads end their boxes at the last pixel.
    last = (0, 0, *[getattr(owner, 'pixel_offset', 0)] * 2)
    current = SimpleNamespace(samples=[])
    predict, find = model.predict, getattr(owner, name)

    def predict_and_remember(
        inputs: Tensor, samples: SampleList, *args: Any, **kwargs: Any
    ) -> SampleList:
        current.samples = samples
        return predict(inputs, samples, *args, **kwargs)

    def find_and_correct(*args: Any, **kwargs: Any) -> list[InstanceData]:
        results = find(*args, **kwargs)
        for result, sample in zip(results, current.samples, strict=True):
            truth = sample.gt_instances
            if 'bboxes' not in truth:
                raise ValueError(
                    f'{sample.img_path} has no true boxes: the val pipeline needs '
                    "dict(type='LoadAnnotations', with_bbox=True)"
                )
            # Test pipelines load annotations after resizing: they are in pixels of the file.
            scale = result.bboxes.new_tensor(sample.scale_factor).repeat(2)
            boxes = (get_box_tensor(truth.bboxes).to(scale) - scale.new_tensor(last)) * scale
            result.bboxes = true_boxes(result.bboxes, result.labels, boxes, truth.labels, iou)
        return results

    model.predict = predict_and_remember
    setattr(owner, name, find_and_correct)


def true_boxes(
    boxes: Tensor, labels: Tensor, truth: Tensor, truth_labels: Tensor, iou: float
) -> Tensor:
    """Replace boxes Tensor[N, 4] by those of Tensor[G, 4], of their label, that they overlap most;
    those that overlap none by ``iou`` stay."""
    if len(truth) == 0 or len(boxes) == 0:
        return boxes
    overlap = bbox_overlaps(boxes, truth)
    overlap = overlap.masked_fill(labels[:, None] != truth_labels.to(labels)[None], -1)
    best, index = overlap.max(dim=1)
    return torch.where((best >= iou)[:, None], truth[index], boxes)


def score(
    config: Config, checkpoint: str, prepare: Callable[[nn.Module], None]
) -> dict[str, float]:
    """The numbers of the config's evaluator on its val pictures, of a model that was prepared."""
    config.load_from, config.resume = None, False  # whose weights `val` would take
    runner = Runner.from_cfg(config)
    require_weights(runner.model, read_checkpoint(checkpoint), checkpoint)
    prepare(runner.model)
    return runner.val()


def main(argv: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--iou', type=float, default=0.5, help='least overlap with an object')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args(argv)
    try:
        config = read_config(args.config, 'val_evaluator')
        config.merge_from_dict(args.cfg_options or {})
        config.setdefault('work_dir', 'work_dirs/true_boxes')
        rows = [
            ('its own', score(config, args.checkpoint, lambda model: None)),
            ('true', score(config, args.checkpoint, lambda m: use_true_boxes(m, args.iou))),
        ]
        names = [name for name in rows[0][1] if SHOWN.fullmatch(name.rpartition('/')[2])]
        if not names:
            raise ValueError(f'{args.config} measures no AP but {", ".join(rows[0][1])}')
    except (*EXPECTED_ERRORS, TypeError) as error:
        sys.exit(f'true_boxes: {error}')
    names.sort(key=lambda name: not name.endswith('AP'))  # sizes last
    print(f'| boxes | {" | ".join(name.split("/")[-1] for name in names)} |')
    print('|---' * (len(names) + 1) + '|')
    for boxes, numbers in rows:
        cells = ['-' if numbers[name] < 0 else f'{100 * numbers[name]:.1f}' for name in names]
        print(f'| {boxes} | {" | ".join(cells)} |')


if __name__ == '__main__':
    main()
