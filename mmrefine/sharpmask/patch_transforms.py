"""Cut, label and pack training patches.

Origin:   foolwood/deepmask-pytorch (``corners``: corner-aligned sampling of image and mask);
          facebookresearch/deepmask (``official``: DataSampler.lua, ``image.scale`` of torch/image)

Units:    crops are (x, y, side, side) in image pixels, x and y the left and top edge.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmrefine.masks.run_lengths import check_polygons, to_counts

from .patch_geometry import inner_box

# Colour outside the image, one half of the range.
OUTSIDE = 127.5
# Windows that a polygon may extend beyond its label's.
REACH = 32


@contextmanager
def naming(info: Mapping[str, Any], number: int | None) -> Iterator[None]:
    """Say which object, ``number`` in the image ``info``, has a mask that cannot be read."""
    try:
        yield
    except ValueError as error:
        image = info.get('img_path', info.get('img_id'))
        raise ValueError(f'{image}, object {number}: {error}') from None


def warp_square(image: np.ndarray, crop: np.ndarray, size: int, outside: float) -> np.ndarray:
    """Resample a square crop corner-aligned and bilinearly to array[size, size(, 3)].

    The crop (x, y, side, side) in pixels may reach beyond the image, where the value is
    ``outside``.
    """
    step = crop[2] / (size - 1)
    matrix = np.array([[step, 0, crop[0]], [0, step, crop[1]]])
    return cv2.warpAffine(
        image,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(outside,) * 3,
    )


def scale_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize float32 array[n, n(, 3)] to array[size, size(, 3)] as ``image.scale`` does: box
    averages to shrink, aligned corners to enlarge."""
    side = len(image)
    if side >= size:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    # cv2 keeps only 5 bits of a sampling position, so it is no help here.
    position = np.arange(size, dtype=np.float32) * (side - 1) / (size - 1)
    weights = np.maximum(1 - np.abs(position[:, None] - np.arange(side, dtype=np.float32)), 0)
    columns = np.tensordot(weights, image, (1, 1))  # (size, side, ...)
    return np.tensordot(weights, columns, (1, 1))  # (size, size, ...)


def cut_square(image: np.ndarray, corner: np.ndarray, side: int, outside: float) -> np.ndarray:
    """Whole pixels ``corner`` (x, y) to ``corner + side``; ``outside`` beyond the image."""
    cut = np.full((side, side, *image.shape[2:]), outside, np.float32)
    x, y = corner
    left, top = max(x, 0), max(y, 0)
    part = image[top : max(y + side, 0), left : max(x + side, 0)]
    cut[top - y : top - y + len(part), left - x : left - x + part.shape[1]] = part
    return cut


def whole_crop(crop: np.ndarray, shape: tuple[int, ...], framed: bool) -> tuple[np.ndarray, int]:
    """Whole-pixel corner (x, y) and side of a crop of an image of ``shape`` (height, width, ...).

    That of a mask sample (``framed``) is rounded. Crops of score samples are cut down around a
    centre that is counted from 1, which moves them by up to a pixel.
    """
    side = crop[2]
    if framed:
        return np.floor(crop[:2] + 0.5).astype(int), int(np.floor(side + 0.5))
    middle = np.clip(crop[:2] + side / 2, 1, (shape[1], shape[0]))
    return np.floor(middle).astype(int) - 1 - int(side / 2), int(side)


def label_of_polygons(
    polygons: list, corner: np.ndarray, side: int, share: float, size: int
) -> np.ndarray:
    """Label uint8 array[size, size] of the central window of a crop: polygons scaled, then
    rasterised.

    Parity: the corner (x, y) counts from 1 by the time the window is derived from it, so labels lie
    one image pixel to the upper left of the object in the patch. ``share`` is the side of the
    window over that of the crop.
    """
    window = side * share
    scale = size / window
    first = np.floor((corner + 1 + (side - window) / 2) * scale + 0.5).astype(int)
    scaled = [np.asarray(polygon, float).reshape(-1, 2) * scale for polygon in polygons]
    # An object fills half its window; points far outside would need a canvas of gigabytes.
    scaled = [one.clip(first - REACH * size, first + REACH * size) for one in scaled]
    # COCO's rasteriser rounds negative coordinates otherwise: draw on a canvas that has none.
    origin = np.minimum(first, np.floor(np.min([one.min(0) for one in scaled], axis=0))).astype(int)
    width, height = first + size - origin
    moved = [(one - origin).ravel().tolist() for one in scaled]
    mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(moved, int(height), int(width))))
    return mask[height - size :, width - size :]


@TRANSFORMS.register_module()
class CropObjectPatch(BaseTransform):
    """Cut the patch that ``ObjectPatchDataset`` chose, and rasterise its label.

    Required: ``img``, ``patch_crop`` (x, y, side, side), ``patch_segmentation`` (COCO form or
        None), ``patch_draw`` in [0, 1). ``patch_object``, its number in the image, is for errors.
    Modified: ``img`` becomes array[size + context, size + context, 3]. Added: ``patch_mask`` uint8
        array[label, label].

    Args:
        size: Window side in network pixels.
        context: Pixels of image context around the window, both sides together.
        label_size: Side of the label.
        flip_prob: Share of horizontally flipped patches.
        resample: ``corners`` samples bilinearly at aligned corners, without averaging (the PyTorch
            port). ``official`` follows the Torch7 code: whole-pixel crops, box averages where they
            shrink, labels from scaled polygons.
    """

    def __init__(
        self,
        size: int = 160,
        context: int = 32,
        label_size: int = 112,
        flip_prob: float = 0.5,
        resample: str = 'corners',
    ) -> None:
        if resample not in ('corners', 'official'):
            raise ValueError(f"resample must be 'corners' or 'official', got {resample!r}")
        if min(size, label_size) < 1 or context < 0:
            raise ValueError(f'size and label_size must be positive, got {size} and {label_size}')
        self.size, self.context = size, context
        self.label_size, self.flip_prob = label_size, flip_prob
        self.resample = resample

    def transform(self, results: dict) -> dict:
        """Cut image and label."""
        image = results['img']
        if image.ndim == 2 or image.shape[2] == 1:  # grey files read unchanged
            image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        crop = np.asarray(results['patch_crop'])
        full = self.size + self.context
        official, segmentation = self.resample == 'official', results['patch_segmentation']
        if official:
            corner, side = whole_crop(crop, image.shape, framed=results['patch_head'] == 'mask')
            patch = scale_square(cut_square(image, corner, side, OUTSIDE), full)
            crop = np.array([*corner, side, side])
        else:
            patch = warp_square(image, crop, full, OUTSIDE)
        size = image.shape[:2]
        with naming(results, results.get('patch_object')):
            if segmentation is None:
                label = np.zeros((self.label_size, self.label_size), np.uint8)
            elif official and isinstance(segmentation, list):
                check_polygons(segmentation, size)
                share = self.size / full
                label = label_of_polygons(segmentation, corner, side, share, self.label_size)
            else:
                mask = coco_mask.decode(dict(size=size, counts=to_counts(segmentation, size)))
                label = self.label(mask, crop)
        if results['patch_draw'] < self.flip_prob:
            patch, label = patch[:, ::-1], label[:, ::-1]
        results.update(img=patch, patch_mask=label, img_shape=(full, full), ori_shape=(full, full))
        return results

    def label(self, mask: np.ndarray, crop: np.ndarray) -> np.ndarray:
        """Label array[label, label] of a mask array[h, w] for a crop with its context."""
        window = inner_box(crop, self.size / (self.size + self.context))
        soft = warp_square(mask.astype(np.float32), window, self.label_size, 0.0)
        return (soft > 0.5).astype(np.uint8)


@TRANSFORMS.register_module()
class PackPatchInputs(BaseTransform):
    """Pack a patch as the model reads it: ``inputs`` Tensor[3, P, P], 0 to 255, and a sample.

    ``gt_instances`` has one entry with ``patch_masks`` uint8 Tensor[1, g, g], ``patch_scores``
    Tensor[1], ``has_mask`` and ``has_score`` BoolTensor[1].
    """

    def transform(self, results: dict) -> dict[str, Any]:
        """Pack."""
        keys = ('img_id', 'img_path', 'img_shape', 'ori_shape')
        sample = DetDataSample(metainfo={k: results[k] for k in keys if k in results})
        sample.gt_instances = InstanceData(
            patch_masks=torch.from_numpy(np.ascontiguousarray(results['patch_mask']))[None],
            patch_scores=torch.tensor([float(results['patch_score'])]),
            has_mask=torch.tensor([results['patch_head'] == 'mask']),
            has_score=torch.tensor([results['patch_head'] == 'score']),
        )
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
