"""Layers and detection losses of an FCOS-style head, for papers that add masks to it.

Paper:    FCOS, https://arxiv.org/abs/1904.01355, with centre sampling, centerness on the box
          tower and box targets in units of the stride.
Changes:  losses are masked sums over all points, so shapes do not depend on the number of
          positives and images without objects take the same path.

Shapes:   B images, P points of all levels (finest first), K classes, C channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmcv.cnn import Scale
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType, reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from mmrefine.layers import ConvStack, require_labels

from .grid import PointGrid, flatten_levels, make_grid
from .targets import PointTargets, assign_points, centerness_targets

GROUP_NORM = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
FOCAL_LOSS = {'type': 'FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25}
BOX_LOSS = {'type': 'LtrbIoULoss', 'kind': 'giou'}
CENTERNESS_LOSS = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))


class PointOutputs(NamedTuple):
    """Detection outputs of all points, in grid order."""

    class_logits: Tensor  # float32 (B, P, K)
    ltrb_stride: Tensor  # float32 (B, P, 4), distances in units of the point's stride
    center_logits: Tensor  # float32 (B, P)

    def ltrb(self, grid: PointGrid) -> Tensor:
        """Tensor[B, P, 4], distances in pixels."""
        return self.ltrb_stride * grid.strides[:, None]


def require_ltrb_loss(loss: nn.Module) -> None:
    """Raise ValueError if a loss cannot compare distances, as MMDetection's losses of boxes."""
    ltrb, weight = torch.ones(1, 2, 4), torch.ones(1, 2)
    try:
        loss(ltrb, ltrb, weight=weight, avg_factor=weight.sum())
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f'loss_bbox={type(loss).__name__} does not take distances Tensor[B, P, 4] with '
            "weight Tensor[B, P]: use dict(type='LtrbIoULoss', kind='giou')"
        ) from error


class FCOSHeadBase(BaseDenseHead):
    """Two towers, three predictors and their losses; subclasses add ``forward`` and prediction.

    Args:
        num_classes: Number of classes K without background.
        in_channels, feat_channels: Channels of the pyramid and of the towers.
        num_cls_convs, num_reg_convs: Convolutions of the two towers.
        strides: Pixels per cell of every level.
        regress_ranges: Smallest and largest distance of every level in pixels, both inclusive.
        center_radius: Half side of the central square in strides; None takes the whole box.
        relu_boxes: Clamp predicted distances at 0; without it boxes may come out inverted.
        conv_bias: Bias of the tower convolutions; ``'auto'`` has one where there is no norm.
        area_offset: Parity: 1 breaks ties by the legacy area (w + 1)(h + 1).
        count_images: Parity: the SipMask (mmdet) original divides the class loss by positives plus
            images instead of positives.
        sync_normalizers: Average the loss normalisers over GPUs. Parity: the SipMask (mmdet)
            original does not, so its losses depend on the number of GPUs.
        box_loss_in_pixels: Parity: SipMask-VIS feeds pixels instead of stride units to the box
            loss; matters only if that loss has an offset.
        loss_cls, loss_bbox, loss_centerness: On K sigmoid channels; on ltrb distances with
            ``weight`` and ``avg_factor``; on logits.
        train_cfg, test_cfg: For subclasses.
        init_cfg: Defaults to N(0, 0.01) and a prior class probability of 0.01.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        feat_channels: int = 256,
        num_cls_convs: int = 4,
        num_reg_convs: int = 4,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        regress_ranges: Sequence[tuple[float, float]] = RANGES,
        center_radius: float | None = 1.5,
        relu_boxes: bool = True,
        conv_bias: bool | str = 'auto',
        norm_cfg: OptConfigType = GROUP_NORM,
        area_offset: float = 0.0,
        count_images: bool = False,
        sync_normalizers: bool = True,
        box_loss_in_pixels: bool = False,
        loss_cls: ConfigType = FOCAL_LOSS,
        loss_bbox: ConfigType = BOX_LOSS,
        loss_centerness: ConfigType = CENTERNESS_LOSS,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: MultiConfig | None = None,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f'num_classes must be at least 1, got {num_classes}')
        if len(strides) != len(regress_ranges):
            raise ValueError(
                f'{len(strides)} strides but {len(regress_ranges)} regress_ranges: give one range '
                'per level'
            )
        super().__init__(init_cfg=init_cfg or self.default_init())
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.feat_channels = feat_channels
        self.strides = tuple(strides)
        self.regress_ranges = tuple(regress_ranges)
        self.center_radius = center_radius
        self.relu_boxes = relu_boxes
        self.area_offset = area_offset
        self.count_images = count_images
        self.sync_normalizers = sync_normalizers
        self.box_loss_in_pixels = box_loss_in_pixels
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_centerness = MODELS.build(loss_centerness)
        require_ltrb_loss(self.loss_bbox)
        self.cls_convs = ConvStack(
            in_channels, feat_channels, num_cls_convs, norm_cfg=norm_cfg, bias=conv_bias
        )
        self.reg_convs = ConvStack(
            in_channels, feat_channels, num_reg_convs, norm_cfg=norm_cfg, bias=conv_bias
        )
        self.conv_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(feat_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList([Scale(1.0) for _ in strides])

    @staticmethod
    def default_init(*overrides: dict) -> dict:
        """N(0, 0.01) for every convolution, class prior 0.01; ``overrides`` name other layers."""
        prior = {'type': 'Normal', 'name': 'conv_cls', 'std': 0.01, 'bias_prob': 0.01}
        return {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01, 'override': [prior, *overrides]}

    def predict_ltrb(self, reg_feat: Tensor, level: int) -> Tensor:
        """Tensor[B, C, H, W] -> float32 distances Tensor[B, 4, H, W] in units of the stride."""
        ltrb = self.scales[level](self.conv_reg(reg_feat)).float()
        return ltrb.clamp(min=0) if self.relu_boxes else ltrb

    def grid(self, maps: Sequence[Tensor]) -> PointGrid:
        """Points of a pyramid: list of Tensor[B, C, H, W], finest level first."""
        sizes = [tuple(level.shape[-2:]) for level in maps]
        return make_grid(sizes, self.strides, device=maps[0].device)

    @staticmethod
    def flatten_outputs(
        class_maps: Sequence[Tensor], ltrb_maps: Sequence[Tensor], center_maps: Sequence[Tensor]
    ) -> PointOutputs:
        """Join the levels, in float32: each list holds Tensor[B, *, H, W], finest level first."""
        return PointOutputs(
            flatten_levels(class_maps).float(),
            flatten_levels(ltrb_maps),
            flatten_levels(center_maps).squeeze(-1).float(),
        )

    def assign(self, grid: PointGrid, gt_instances: InstanceList) -> PointTargets:
        """Targets of a batch, stacked: LongTensor[B, P] and Tensor[B, P, 4] in pixels."""
        require_labels(gt_instances, self.num_classes)
        ranges = grid.points.new_tensor(self.regress_ranges)
        each = [self.assign_single(grid, gt, ranges) for gt in gt_instances]
        return PointTargets(*(torch.stack(field) for field in zip(*each)))

    def assign_single(self, grid: PointGrid, gt: InstanceData, ranges: Tensor) -> PointTargets:
        """Targets of one image; the place to add conditions such as points on masks."""
        boxes = gt.bboxes if torch.is_tensor(gt.bboxes) else gt.bboxes.tensor
        return assign_points(
            grid, boxes.to(grid.points), ranges, self.center_radius, self.area_offset
        )

    def detection_loss(
        self,
        outputs: PointOutputs,
        grid: PointGrid,
        targets: PointTargets,
        gt_instances: InstanceList,
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` and ``loss_centerness`` of a batch; ``targets`` from
        ``assign``."""
        num_images = len(gt_instances)
        # -1, of the background, takes what is appended to the objects' labels.
        known = [F.pad(gt.labels, (0, 1), value=self.num_classes) for gt in gt_instances]
        labels = torch.stack([each[index] for each, index in zip(known, targets.gt_index)])
        positive = targets.gt_index >= 0
        centers = torch.where(positive, centerness_targets(targets.ltrb), 0.0)
        sums = torch.stack((positive.sum().float(), centers.sum().float()))
        num_positive, center_sum = reduce_mean(sums) if self.sync_normalizers else sums
        cls_norm = num_positive + num_images if self.count_images else num_positive.clamp(min=1)
        unit = grid.strides[:, None]
        pred, target = outputs.ltrb_stride, targets.ltrb / unit
        if self.box_loss_in_pixels:
            pred, target = pred * unit, targets.ltrb
        return {
            'loss_cls': self.loss_cls(
                outputs.class_logits.flatten(0, 1), labels.flatten(), avg_factor=cls_norm
            ),
            'loss_bbox': self.loss_bbox(
                pred, target, weight=centers, avg_factor=center_sum.clamp(min=1e-6)
            ),
            'loss_centerness': self.loss_centerness(
                outputs.center_logits.flatten(),
                centers.flatten(),
                weight=positive.flatten().float(),
                avg_factor=num_positive.clamp(min=1),
            ),
        }
