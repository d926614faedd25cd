"""SipMask's mask branch: basis maps, masks from coefficients, mask loss and mask scores.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, sections 3.2 and 3.3.
Origin:   JialeCao001/SipMask, ``SipMask-mmdetection`` and ``SipMask-benchmark``; written anew.
Changes:  masks exist inside their boxes only (see ``assembly``), in training and at test time.

Shapes:   B images, C tower channels, S basis maps at half the input resolution (Hb x Wb cells), n
          samples or detections of one image, k x k cells per box, G objects of one image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.layers import as_weights, require_finite
from mmrefine.masks import output_size

from .assembly import BoxPixels, pixel_logits, pixel_values, split_boxes
from .losses import half_masks, mask_iou_loss, mask_iou_target, select_samples, weighted_mask_loss
from .postprocess import output_boxes, output_masks

SCORING_WIDTHS = (1, 16, 16, 16, 32, 64, 128)
SCORING_SIDE = 127


@MODELS.register_module()
class SipMaskHead(BaseModule):
    """Basis branch, spatial assembly and their loss; optionally mask re-scoring (SipMask++).

    Args:
        in_channels: Channels of the box tower.
        num_levels: Pyramid levels that feed the basis.
        mid_channels: Width between the two convolutions.
        num_bases: Basis maps S.
        rescoring: Predict the mask IoU of every detection (SipMask++).
        num_classes: Classes of the mask scores; needed with ``rescoring`` only.
        center_pixels: A half-resolution pixel is inside a box if its centre is. Parity: the
            originals compare its index, which shifts masks by half an image pixel against their
            box.
        image_masks: Parity: the benchmark generation halves masks of the unpadded image, whose last
            odd row and column then stretch the rest; by default they are padded first.
        sampling: Options of ``losses.select_samples``.
        halve_above: Parity: the benchmark generation halves a mask loss above 1; None does not.
        loss_weight, score_loss_weight: Factors of the mask loss and of the mask-IoU loss.
        test_cfg: ``mask_thr`` (strictly above, 0.4), ``mask_format='dense' | 'rle'``, and
            ``scale``, ``scale_limits``, ``box_export_offset``, see ``postprocess``.
        init_cfg: Defaults to N(0, 0.01) for the basis branch.
    """

    def __init__(
        self,
        in_channels: int = 256,
        num_levels: int = 3,
        mid_channels: int = 512,
        num_bases: int = 32,
        rescoring: bool = False,
        num_classes: int | None = None,
        center_pixels: bool = True,
        image_masks: bool = False,
        sampling: ConfigType | None = None,
        halve_above: float | None = None,
        loss_weight: float = 1.0,
        score_loss_weight: float = 10.0,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: MultiConfig | None = None,
    ) -> None:
        if rescoring and num_classes is None:
            raise ValueError('rescoring predicts one mask score per class: pass num_classes')
        super().__init__(init_cfg=init_cfg or {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01})
        self.num_bases = num_bases
        self.num_classes = num_classes
        self.rescoring = rescoring
        self.center_pixels = center_pixels
        self.image_masks = image_masks
        self.sampling = dict(sampling or {})
        self.halve_above = halve_above
        self.loss_weight = loss_weight
        self.score_loss_weight = score_loss_weight
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.conv_fuse = nn.Conv2d(in_channels * num_levels, mid_channels, 1)
        self.conv_basis = nn.Conv2d(mid_channels, num_bases, 3, padding=1)
        if rescoring:
            self.scoring_convs = nn.Sequential(
                *(ConvModule(a, b, 3, stride=2) for a, b in zip(SCORING_WIDTHS, SCORING_WIDTHS[1:]))
            )
            self.conv_scoring = nn.Conv2d(SCORING_WIDTHS[-1], num_classes, 1)

    def init_weights(self) -> None:
        """Normal weights, but Kaiming for the scoring convolutions and N(0, 0.001) for scores."""
        super().init_weights()
        if self.rescoring:
            for layer in self.scoring_convs:
                nn.init.kaiming_normal_(layer.conv.weight, mode='fan_out', nonlinearity='relu')
                nn.init.zeros_(layer.conv.bias)
            nn.init.normal_(self.conv_scoring.weight, std=0.001)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Tower features Tensor[B, C, H, W], finest first -> basis Tensor[B, S, Hb, Wb], >= 0.

        The finest level has stride 8 and Hb = 4 H, so a basis cell covers 2 x 2 input pixels.
        """
        finest = features[0]
        size = finest.shape[-2:]
        joined = [finest] + [
            F.interpolate(level, size=size, mode='bilinear', align_corners=False)
            for level in features[1:]
        ]
        fused = F.relu(self.conv_fuse(torch.cat(joined, dim=1)))  # (B, mid, H, W)
        basis = F.relu(self.conv_basis(fused))  # (B, S, H, W)
        return F.interpolate(basis, scale_factor=4, mode='bilinear', align_corners=False)

    def pixels(self, boxes: Tensor, coeffs: Tensor, size: tuple[int, int]) -> BoxPixels:
        """Pixels of boxes Tensor[n, 4], input pixels, on a basis map of ``size`` = (Hb, Wb)."""
        cells = round(coeffs.shape[1] ** 0.5)
        return split_boxes(self.map_boxes(boxes.detach()), size, cells)

    def map_boxes(self, boxes: Tensor) -> Tensor:
        """Boxes Tensor[n, 4], input pixels -> cells of the basis maps."""
        return boxes.float() / 2 - (0.5 if self.center_pixels else 0.0)

    # ------------------------------------------------------------------------------------ training

    def select(self, positives: InstanceList, gt_instances: InstanceList) -> InstanceList:
        """Positives of every image -> the samples of its mask loss, with ``weights``."""
        return [
            select_samples(found, get_box_tensor(gt.bboxes), **self.sampling)
            for found, gt in zip(positives, gt_instances)
        ]

    def loss_by_feat(
        self, basis: Tensor, samples: InstanceList, gt_instances: InstanceList, metas: list[dict]
    ) -> dict[str, Tensor]:
        """``loss_mask`` and, with re-scoring, ``loss_iou``.

        Basis maps from ``forward``; samples from ``select``, maybe none; objects with ``masks``;
        ``img_shape``.
        """
        size = tuple(basis.shape[-2:])
        mask_loss = basis.new_zeros((), dtype=torch.float32)
        score_parts = []
        for one_basis, sample, gt, meta in zip(basis, samples, gt_instances, metas):
            shape = output_size(meta, rescale=False) if self.image_masks else None
            targets = half_masks(gt.masks, size, basis.device, shape)  # (G, Hb, Wb)
            pixels = self.pixels(sample.bboxes, sample.coeffs, size)
            logits = pixel_logits(one_basis, sample.coeffs, pixels)  # (M)
            inside = pixel_values(targets, sample.gt_inds, pixels)  # (M)
            mask_loss = mask_loss + weighted_mask_loss(logits, inside, pixels, sample)
            if self.rescoring:
                # The scores learn from the masks as they are; the masks do not learn from them.
                probs = logits.detach().sigmoid()
                cells = targets.sum(dim=(1, 2))[sample.gt_inds]  # (n)
                truth = mask_iou_target(probs, inside, pixels, cells)
                score_parts.append((self.mask_scores(probs, pixels, size, sample.labels), *truth))
        # Images without samples count, as in the original.
        mask_loss = mask_loss / len(samples) * self.loss_weight
        if self.halve_above is not None:
            mask_loss = torch.where(mask_loss > self.halve_above, mask_loss / 2, mask_loss)
        losses = {'loss_mask': mask_loss}
        if self.rescoring:
            losses['loss_iou'] = self.score_loss_weight * mask_iou_loss(
                *map(torch.cat, zip(*score_parts))
            )
        return losses

    # ---------------------------------------------------------------------------------- prediction

    def mask_scores(
        self, probs: Tensor, pixels: BoxPixels, size: tuple[int, int], labels: Tensor
    ) -> Tensor:
        """Predicted mask IoU of every instance for its class: probabilities Tensor[M] -> Tensor[n].

        Maps narrower than 127 cells are padded with zeros; six unpadded convolutions of stride 2
        need that many.
        """
        height, width = size
        pad = (0, max(SCORING_SIDE - width, 0), 0, max(SCORING_SIDE - height, 0))
        return self.map_scores(F.pad(pixels.maps(probs, size), pad), labels)

    def map_scores(self, maps: Tensor, labels: Tensor) -> Tensor:
        """``mask_scores`` of probabilities on maps Tensor[n, H, W] of at least 127 cells a side."""
        maps = as_weights(maps[:, None], self.conv_scoring)  # (n, 1, H, W)
        features = self.scoring_convs(maps)  # (n, 128, h, w)
        # Only the class's own row of the 1x1 convolution is needed.
        weight, bias = self.conv_scoring.weight.flatten(1)[labels], self.conv_scoring.bias[labels]
        scores = torch.einsum('nc,nchw->nhw', weight, features) + bias[:, None, None]
        return F.relu(scores).flatten(1).amax(dim=1).float()

    def predict_by_feat(
        self,
        basis: Tensor,
        results: InstanceList,
        metas: list[dict],
        rescale: bool = True,
        cfg: ConfigType | None = None,
    ) -> InstanceList:
        """Masks of the detections of every image.

        Args:
            basis: Result of ``forward``.
            results: Detections with ``bboxes`` in input pixels, ``scores``, ``labels``, ``coeffs``.
            metas: Per image ``img_shape``, ``ori_shape``, ``scale_factor``.
            rescale: Results in pixels of the original image instead of the network input.
            cfg: Defaults to ``test_cfg``.

        Returns:
            Per image ``bboxes``, ``scores``, ``labels``, ``masks`` (BoolTensor[n, h, w] or n RLEs)
            and, with re-scoring, ``mask_scores`` Tensor[n]; coefficients are dropped.
        """
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        size = tuple(basis.shape[-2:])
        output = []
        for one_basis, result, meta in zip(basis, results, metas):
            pixels = self.pixels(result.bboxes, result.coeffs, size)
            probs = pixel_logits(one_basis, result.coeffs, pixels).sigmoid()  # (M)
            require_finite('mask values', probs)
            instances = InstanceData(
                bboxes=output_boxes(result.bboxes, meta, rescale, cfg),
                scores=result.scores,
                labels=result.labels,
                masks=output_masks(probs, pixels, size, meta, rescale, cfg),
            )
            if self.rescoring:
                scores = self.mask_scores(probs, pixels, size, result.labels)
                require_finite('mask scores', scores)
                instances.mask_scores = scores * result.scores
            output.append(instances)
        return output
