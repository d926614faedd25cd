"""Small DeepMask and SharpMask models, images and patch data sets for the tests."""

from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

GRID = 3
WINDOW = 16 * GRID
PATCH = WINDOW + 32
CONV = dict(type='MirrorPadConv2d', pad_grad=False)


def build(
    refined: bool = False, coarse: bool = False, freeze: bool = True, **test_cfg: Any
) -> nn.Module:
    """A narrow ResNet-18 model with random weights, in evaluation mode."""
    config = dict(
        type='DeepMask',
        backbone=dict(type='StemResNet', depth=18, base_channels=8, conv_cfg=CONV),
        mask_head=dict(
            type='DeepMaskHead', in_channels=32, reduce_channels=8, code_channels=16,
            grid_size=GRID, mask_size=20, score_channels=16,
        ),
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True
        ),
        test_cfg=dict(log2_scales=(-0.5, 0.0), max_per_img=7) | test_cfg,
    )  # fmt: skip
    if refined:
        head = dict(
            type='TopDownRefineHead', feature_channels=(32, 16, 8, 8), code_channels=16,
            grid_size=GRID, channels=16, hidden_channels=(8, 8, 8, 8), conv_cfg=CONV,
        )  # fmt: skip
        config.update(type='SharpMask', refine_head=head, coarse=coarse, freeze_coarse=freeze)
    return MODELS.build(config).eval()


def image(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth normalised image Tensor[1, 3, height, width]."""
    coarse = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, (height, width), mode='bilinear')


def sample(height: int, width: int, **meta: Any) -> DetDataSample:
    """Meta information of an image of its own size."""
    size = (height, width)
    return DetDataSample(metainfo=dict(img_id=1, img_shape=size, ori_shape=size) | meta)


def patch_sample(
    label: int, mask: bool = True, score: bool = True, value: float = 1.0
) -> DetDataSample:
    """Labels of one patch: the left half is the object."""
    masks = torch.zeros(1, label, label, dtype=torch.uint8)
    masks[:, :, : label // 2] = 1
    truth = InstanceData(
        patch_masks=masks,
        patch_scores=torch.tensor([value]),
        has_mask=torch.tensor([mask]),
        has_score=torch.tensor([score]),
    )
    return DetDataSample(gt_instances=truth)


class ListDataset:
    """Stands for an mmdet data set: a list of images with instances."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self, instances: list[list[dict]], size: tuple[int, int] = (120, 160)) -> None:
        self.items = instances
        self.size = size

    def full_init(self) -> None:
        """Nothing to read."""

    def __len__(self) -> int:
        return len(self.items)

    def get_data_info(self, index: int) -> dict:
        """As of mmengine's data sets: a fresh dict."""
        height, width = self.size
        return dict(
            img_id=index, height=height, width=width,
            img=np.full((height, width, 3), 90, np.uint8), instances=list(self.items[index]),
        )  # fmt: skip


def box_instance(
    x: float, y: float, w: float, h: float, label: int = 0, crowd: bool = False
) -> dict:
    """A rectangular object."""
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return dict(bbox=[x, y, x + w, y + h], bbox_label=label, mask=[polygon], ignore_flag=int(crowd))
