"""Any detector config of MMDetection at a width that trains a step in a fraction of a second."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

CHANNELS = 16
CLASSES = {80: 4, 183: 5, 1203: 7}
FEW = dict(nms_pre=40, max_per_img=8, num_proposals=8, num_convs=1, stacked_convs=1, stack_times=1)
GROUPS = dict(type='GN', num_groups=4)
WIDTH = dict(in_channels=CHANNELS, feat_channels=CHANNELS)
# Sides of the objects of `samples` fall into one range each, so that every level has positives.
LEVELS = dict(regress_ranges=((-1, 8), (8, 16), (16, 24), (24, 40), (40, 1e8)))
REFINE = dict(
    num_convs_instance=1,
    num_convs_semantic=1,
    conv_out_channels_instance=32,
    conv_out_channels_semantic=CHANNELS,
)
POINTS = dict(WIDTH, **LEVELS, norm_cfg=GROUPS)
# Components of this package whose default widths no config states.
OWN = dict(
    RefineMaskHead=REFINE,
    SimpleRefineMaskHead=REFINE,
    SharpMaskHead=dict(in_channels=CHANNELS, channels=32, hidden_channels=8),
    PyramidRoIExtractor=dict(out_channels=CHANNELS),
    TopDownRefineNeck=dict(hidden_channels=8),
    SipMaskBBoxHead=dict(POINTS, stacked_convs=1, num_bases=4),
    SipMaskHead=dict(in_channels=CHANNELS, mid_channels=CHANNELS, num_bases=4),
    SipMaskTrackHead=dict(WIDTH, norm_cfg=GROUPS, embed_channels=16),
    EmbedMaskBBoxHead=dict(POINTS, num_cls_convs=1, num_reg_convs=1),
    EmbedMaskHead=dict(WIDTH, num_convs=1, norm_cfg=GROUPS),
    EmbeddedHead=LEVELS,
    FCOSHead=dict(WIDTH, **LEVELS, stacked_convs=1, norm_cfg=GROUPS),
    ATSSHead=dict(stacked_convs=1, norm_cfg=GROUPS, **WIDTH),
)
SWIN = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4)
# A residual branch that begins at zero hides its weights from the first gradient.
OPEN = dict(zero_init_residual=False)
BACKBONES = dict(
    ResNet=dict(OPEN, depth=18, base_channels=8),
    IntervalDCNResNet=dict(OPEN, depth=50, base_channels=4),
    ResNeXt=dict(OPEN, depth=50, base_channels=8, groups=2),
    RegNet=dict(OPEN, arch=dict(w0=8, wa=8.0, wm=2.0, group_w=4, depth=6, bot_mul=1.0)),
    SwinTransformer=dict(SWIN, drop_path_rate=0.0),
)


def shrink(model: ConfigDict) -> ConfigDict:
    """Make a detector small in place: backbone, every head, proposals; classes become a few."""
    _shrink_backbone(model.backbone)
    _shrink_heads({key: value for key, value in model.items() if key != 'backbone'})
    model.neck.in_channels = backbone_widths(model.backbone)
    model.neck.out_channels = CHANNELS
    settings = model.test_cfg.get('rcnn', model.test_cfg)
    settings.score_thr = 0.0
    return model


def backbone_widths(backbone: ConfigDict) -> list[int]:
    """Channels of the maps that a backbone gives."""
    network = MODELS.build(backbone)
    network.eval()  # some backbones do not return themselves
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 128, 128))
    return [feature.shape[1] for feature in maps]


def _shrink_backbone(backbone: ConfigDict) -> None:
    backbone.update(BACKBONES.get(backbone.type, {}), init_cfg=None)
    if 'frozen_stages' in backbone:
        backbone.frozen_stages = -1  # gradients shall reach these too
    backbone.pop('convert_weights', None)
    for stage in backbone.get('extra', {}).values():
        count = stage['num_branches']
        stage.update(
            num_modules=1,
            num_blocks=(1,) * count,
            num_channels=tuple(4 << branch for branch in range(count)),
        )


def _shrink_heads(node: Any) -> None:
    """Walk over everything but the backbone."""
    if isinstance(node, (list, tuple)):
        for item in node:
            _shrink_heads(item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if isinstance(value, (dict, list, tuple)):
            _shrink_heads(value)
        elif key == 'num_classes':
            node[key] = CLASSES.get(value, value)
        elif key.endswith(('channels', 'channel')) and isinstance(value, int) and value >= 64:
            node[key] = value // 16
        elif key in FEW:
            node[key] = FEW[key]
    kind = node.get('type')
    if kind == 'GN':
        node['num_groups'] = GROUPS['num_groups']
    elif kind == 'AnchorGenerator' and 'scales' in node:
        node['scales'] = [2]  # so that anchors of every level lie inside the image
    elif kind == 'AnchorGenerator':
        node.update(octave_base_scale=1, center_offset=0.5)  # one anchor per cell, as large as it
    elif kind == 'RandomSampler':
        # few RoIs, but all anchors: a random few may leave a level of the pyramid out
        node['num'] = 24 if node.get('add_gt_as_proposals') else 10_000
    elif kind in OWN:
        node.update(OWN[kind])
