"""Cut, label and pack training patches.

Origin:   foolwood/deepmask-pytorch (corner-aligned sampling of image and mask), after
          facebookresearch/deepmask
"""

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

from .patch_dataset import inner_box
from .torch7_patch import cut_square, label_of_polygons, scale_square, whole_crop

# Colour outside the image, one half of the range.
OUTSIDE = 127.5


def warp_square(image: np.ndarray, crop: np.ndarray, size: int, outside: float) -> np.ndarray:
    """Resample a square crop corner-aligned and bilinearly.

    Args:
        image: array[h, w] or array[h, w, 3].
        crop: (x, y, side, side) in image pixels; may reach beyond the image.
        size: Side of the result.
        outside: Value beyond the image.

    Returns:
        array[size, size] or array[size, size, 3] of the image's type.
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


def decode_segmentation(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """COCO polygons or RLE (compressed or not) -> uint8 array[h, w]."""
    counts = to_counts(segmentation, (height, width))
    return coco_mask.decode({'size': [height, width], 'counts': counts})


@TRANSFORMS.register_module()
class CropObjectPatch(BaseTransform):
    """Cut the patch that ``ObjectPatchDataset`` chose, and rasterise its label.

    Required: ``img``, ``patch_crop`` (x, y, side, side), ``patch_segmentation`` (COCO form or
        None), ``patch_draw`` in [0, 1).
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

    Raises:
        ValueError: Bad option.
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
        segmentation = results['patch_segmentation']
        if self.resample == 'official':
            framed = results['patch_head'] == 'mask'
            corner, side = whole_crop(crop, image.shape, framed)
            patch = scale_square(cut_square(image, corner, side, OUTSIDE), full)
            crop = np.array([*corner, side, side])
        else:
            patch = warp_square(image, crop, full, OUTSIDE)
        label = np.zeros((self.label_size, self.label_size), np.uint8)
        if self.resample == 'official' and isinstance(segmentation, list):
            check_polygons(segmentation, image.shape[:2])
            label = label_of_polygons(segmentation, corner, side, self.size / full, self.label_size)
        elif segmentation is not None:
            mask = decode_segmentation(segmentation, *image.shape[:2])
            label = self.label(mask, crop)
        if results['patch_draw'] < self.flip_prob:
            patch, label = patch[:, ::-1], label[:, ::-1]
        results.update(img=patch, patch_mask=label, img_shape=(full, full), ori_shape=(full, full))
        return results

    def label(self, mask: np.ndarray, crop: np.ndarray) -> np.ndarray:
        """Label uint8 array[label, label] of a full-image mask array[h, w] for a crop with
        context."""
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
        sample = DetDataSample(
            metainfo={
                k: results[k]
                for k in ('img_id', 'img_path', 'img_shape', 'ori_shape')
                if k in results
            }
        )
        sample.gt_instances = InstanceData(
            patch_masks=torch.from_numpy(np.ascontiguousarray(results['patch_mask']))[None],
            patch_scores=torch.tensor([float(results['patch_score'])]),
            has_mask=torch.tensor([results['patch_head'] == 'mask']),
            has_score=torch.tensor([results['patch_head'] == 'score']),
        )
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
