"""Models whose masks are neither empty nor full, nor one half everywhere."""

from typing import Any

import tiny_refinemask
import tiny_sharpmask
import tiny_sipmask
from mmdet.registry import MODELS
from tiny_stock_models import tiny_stock_model
from torch import nn

from mmrefine.layers import ClassLogits


def refine_model(kind: str, **head: Any) -> nn.Module:
    """A detector whose masks are neither empty nor full."""
    model = tiny_refinemask.tiny_detector(kind)
    if head:
        model.roi_head.mask_head = tiny_refinemask.tiny_head(kind, **head)
    model.eval()
    for layer in model.modules():
        if isinstance(layer, ClassLogits):
            nn.init.normal_(layer.weight)
    return model


def sharp_model(level_choice: str = 'absolute', agnostic: bool = False) -> nn.Module:
    """A stock Mask R-CNN with the SharpMask head."""
    model = tiny_stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    head = model.roi_head
    head.mask_roi_extractor = MODELS.build(
        dict(type='PyramidRoIExtractor', out_channels=16, base_size=4, level_choice=level_choice)
    )
    head.mask_head = MODELS.build(
        dict(
            type='SharpMaskHead', in_channels=16, base_size=4, channels=64, hidden_channels=8,
            num_classes=3, class_agnostic=agnostic,
        )
    )  # fmt: skip
    nn.init.normal_(head.mask_head.conv_logits.weight)
    return model.eval()


def sip_model(**mask: Any) -> nn.Module:
    """A SipMask with a lively basis."""
    model = tiny_sipmask.tiny_detector(mask=dict(num_classes=3, **mask))
    for layer in (model.mask_head.conv_fuse, model.mask_head.conv_basis):
        nn.init.kaiming_normal_(layer.weight)
    return model.eval()


def window_model(**options: Any) -> nn.Module:
    """A DeepMask or SharpMask with marked masks."""
    model = tiny_sharpmask.build(**options)
    nn.init.normal_(model.mask_head.mask_fc.weight)
    return model
