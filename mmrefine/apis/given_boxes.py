"""Add masks to the boxes of any detector: backbone, neck and RoI mask head of a two-stage model.

Shapes:   N boxes, h x w pixels of the original image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmrefine.masks import check_format, encode, to_dense
from mmrefine.masks.rle import RLE

from .class_names import class_count
from .mask_branch import MaskBranch
from .picture_pipeline import PicturePipeline

# a detector's own boxes leave the image by rounding; what is less is no reason to move an edge
EDGE = 1 + 1e-6


def predict_masks(
    model: nn.Module,
    image: str | Path | np.ndarray,
    boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
    labels: Tensor | np.ndarray | Sequence[int],
    mask_format: str = 'rle',
    chunk: int | None = None,
) -> list[RLE] | Tensor:
    """Segment the objects in given boxes.

    Only backbone, neck and mask head run; the model keeps its settings. Boxes that a model found
    itself get the masks it gave them, but for the rounding of their coordinates to the network
    input and back: where the test pipeline does not resize, masks are equal.

    Args:
        model: From ``mmdet.apis.init_detector``: any two-stage detector with a RoI mask head.
        image: File, or uint8 array[h, w, 3] in BGR order.
        boxes: N boxes (x1, y1, x2, y2) in pixels of the original image, exclusive. Parts outside
            the image are cut off first; a box with no area in the image has an empty mask.
        labels: N classes of the model, counted from 0; class-agnostic heads do not use them.
        mask_format: ``'rle'`` or ``'dense'``.
        chunk: Boxes processed at once, which bounds the memory; by default 100 with stock heads.

    Returns:
        N RLEs, or BoolTensor[N, h, w] on the CPU.

    Raises:
        TypeError: The model is no two-stage detector with masks, or the image is neither.
        ValueError: Boxes that are not finite or inverted, labels the model does not have, an image
            that cannot be read, or an unknown format.
    """
    check_format(mask_format)
    segmenter = BoxSegmenter(model, chunk)
    masks, size = segmenter.segment(image, boxes, labels)
    return masks if mask_format == 'rle' else to_dense(masks, size)


class BoxSegmenter:
    """``predict_masks`` for many images; the pipeline is built once. Arguments and errors as
    there."""

    def __init__(self, model: nn.Module, chunk: int | None = None) -> None:
        branch = MaskBranch(model, chunk)
        if not hasattr(model, 'cfg'):
            raise ValueError(
                'the model has no cfg, whose test pipeline prepares images: build it '
                'with mmdet.apis.init_detector, or set model.cfg'
            )
        if model.training:
            raise ValueError('the model is in training mode: call model.eval() first')
        self.model = model
        self.branch = branch
        self.device = next(model.parameters()).device
        self.classes = class_count(model.roi_head) or 1
        self.prepare = PicturePipeline(model.cfg)

    @torch.no_grad()
    def segment(
        self,
        image: str | Path | np.ndarray,
        boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
        labels: Tensor | np.ndarray | Sequence[int],
    ) -> tuple[list[RLE], tuple[int, int]]:
        """Masks of one image, and its size ``(h, w)``; arguments and errors as ``predict_masks``"""
        coords = checked_boxes(boxes)
        classes = self._checked_labels(labels, len(coords))
        inputs, meta = self._load(image)
        size = int(meta['ori_shape'][0]), int(meta['ori_shape'][1])
        limit = coords.new_tensor([size[1], size[0]]).repeat(2) * EDGE
        inside = torch.minimum(coords.clamp(min=0), limit)
        visible = (inside[:, 2:] > inside[:, :2]).all(1)
        masks = [empty_mask(size)] * len(coords)
        chosen = visible.nonzero().flatten()
        if len(chosen):
            network = network_boxes(inside[chosen], meta['scale_factor']).to(self.device)
            x = self.model.extract_feat(inputs['inputs'])
            found = self.branch(x, meta, network, classes[chosen].to(self.device)).masks
            for index, mask in zip(chosen.tolist(), found):
                masks[index] = mask
        return masks, size

    def _load(self, image: str | Path | np.ndarray) -> tuple[dict, dict]:
        """Preprocessed input and meta information of an image."""
        packed = self.prepare(image)
        batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
        prepared = self.model.data_preprocessor(batch, False)
        meta = dict(prepared['data_samples'][0].metainfo)
        if meta.get('flip'):
            raise ValueError('the test pipeline flips images: remove RandomFlip from it')
        meta.setdefault('scale_factor', (1.0, 1.0))
        return prepared, meta

    def _checked_labels(self, labels: Any, count: int) -> Tensor:
        values = as_tensor(labels, 'labels').reshape(-1)
        if len(values) != count:
            raise ValueError(f'{count} boxes but {len(values)} labels')
        if count and values.is_floating_point():
            raise ValueError('labels are whole numbers, classes of the model counted from 0')
        values = values.long()
        for i in ((values < 0) | (values >= self.classes)).nonzero().flatten()[:1].tolist():
            raise ValueError(
                f'label {i} is {int(values[i])}, but the model has the classes 0 to '
                f'{self.classes - 1}'
            )
        return values


def empty_mask(size: tuple[int, int]) -> RLE:
    """The RLE of no pixel in an image of ``size`` (h, w)."""
    return encode(np.zeros((1, *size), bool))[0]


def checked_boxes(boxes: Any) -> Tensor:
    """Take boxes of any kind as float32 Tensor[N, 4] on the CPU."""
    coords = as_tensor(boxes, 'boxes').float()
    if coords.numel() == 0:
        coords = coords.reshape(0, 4)
    if coords.ndim != 2 or coords.shape[1] != 4:
        raise ValueError(f'boxes must have the shape (N, 4), got {tuple(coords.shape)}')
    bad = ~coords.isfinite().all(1) | (coords[:, 2:] < coords[:, :2]).any(1)
    for i in bad.nonzero().flatten()[:1].tolist():
        raise ValueError(
            f'box {i} is {coords[i].tolist()}: expected finite (x1, y1, x2, y2) with x2 >= x1 and '
            'y2 >= y1'
        )
    return coords


def as_tensor(values: Any, name: str) -> Tensor:
    """Take numbers of any kind as a tensor on the CPU."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if isinstance(values, Sequence) and any(isinstance(value, Tensor) for value in values):
        values = [torch.as_tensor(value).tolist() for value in values]
    try:
        array = np.array(values)  # a copy: tensors cannot look at arrays backwards
        return torch.from_numpy(array)
    except (TypeError, ValueError):
        raise ValueError(f'{name} must be numbers, as many in every row, got {values!r}') from None


def network_boxes(boxes: Tensor, scale_factor: Sequence[float]) -> Tensor:
    """Bring boxes, float32 Tensor[N, 4], to the network input; ``scale_factor`` is (w, h).

    Mask heads divide by the scale before they paste. No float is nearer to giving the box back than
    the product.
    """
    return boxes * boxes.new_tensor(tuple(scale_factor)[:2]).repeat(2)
