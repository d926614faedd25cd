"""Load the weights of all four original generations.

Origin: yinghdb/EmbedMask (maskrcnn-benchmark names; v1, v2, v3), yinghdb/AdelaiDet (detectron2
        names; adet).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mmrefine.checkpoint import Converter, convert_layers

Rule = tuple[str, str | Callable[[re.Match], str] | None]

# The reference normalisation has no epsilon, mmdet's adds this one.
NORM_EPS = 1e-5
# In the published towers a convolution, its norm and the activation take three positions.
STEPS = 3


def _tower(target: str, norm: str = 'gn') -> Callable[[re.Match], str]:
    def name(match: re.Match) -> str:
        block, part = divmod(int(match[1]), STEPS)
        return f'{target}.{block}.{norm if part else "conv"}.{match[2]}'

    return name


def _block(match: re.Match) -> str:
    """``0.1.weight``: norm of the first block."""
    return f'{match[1]}.{"bn" if match[2] == "1" else "conv"}.{match[3]}'


def _prefixed(prefix: str) -> Callable[[re.Match], str]:
    return lambda match: f'{prefix}.{_block(match)}'


def _residual(match: re.Match) -> str:
    """AdelaiDet backbone: stages res2-res5, the norm inside its convolution."""
    stage, block, layer, rest = int(match[1]) - 1, match[2], match[3], match[4]
    norm = rest.startswith('norm.')
    if layer == 'shortcut':
        name = f'downsample.{int(norm)}'
    else:
        name = f'bn{layer[-1]}' if norm else layer
    return f'backbone.layer{stage}.{block}.{name}.{rest.removeprefix("norm.")}'


FCOS: list[Rule] = [
    (r'cls_tower\.(\d+)\.(.+)', _tower('bbox_head.cls_convs')),
    (r'bbox_tower\.(\d+)\.(.+)', _tower('bbox_head.reg_convs')),
    (r'cls_logits\.(.+)', r'bbox_head.conv_cls.\1'),
    (r'bbox_pred\.(.+)', r'bbox_head.conv_reg.\1'),
    (r'(?:centerness|ctrness)\.(.+)', r'bbox_head.conv_centerness.\1'),
    (r'scales\.(\d+)\.scale', r'bbox_head.scales.\1.scale'),
]

BENCHMARK: list[Rule] = [
    (r'backbone\.body\.stem\.(.+)', r'backbone.\1'),
    (r'backbone\.body\.(layer\d\..+)', r'backbone.\1'),
    (
        r'backbone\.fpn\.fpn_inner(\d)\.(.+)',
        lambda m: f'neck.lateral_convs.{int(m[1]) - 2}.conv.{m[2]}',
    ),
    (
        r'backbone\.fpn\.fpn_layer(\d)\.(.+)',
        lambda m: f'neck.fpn_convs.{int(m[1]) - 2}.conv.{m[2]}',
    ),
    (
        r'backbone\.fpn\.top_blocks\.p(\d)\.(.+)',
        lambda m: f'neck.fpn_convs.{int(m[1]) - 3}.conv.{m[2]}',
    ),
    *((rf'rpn\.head\.{pattern}', target) for pattern, target in FCOS),
    (r'rpn\.head\.mask_tower\.(\d+)\.(.+)', _tower('mask_head.convs')),
    (r'rpn\.head\.proposal_embed_pred\.(.+)', r'bbox_head.conv_embed.\1'),
    (r'rpn\.head\.proposal_spatial_embed_pred\.(.+)', r'bbox_head.conv_embed_spatial.\1'),
    (r'rpn\.head\.proposal_other_embed_pred\.(.+)', r'bbox_head.conv_embed_free.\1'),
    (r'rpn\.head\.proposal_margin_pred\.(.+)', r'bbox_head.conv_margin.\1'),
    (r'rpn\.head\.margin_scales\.(\d+)\.scale', r'bbox_head.margin_scales.\1.scale'),
    (r'rpn\.head\.position_scale\.scale', r'bbox_head.position_scale.scale'),
    (r'rpn\.head\.pixel_embed_pred\.(.+)', r'mask_head.conv_embed.\1'),
    (r'rpn\.head\.pixel_spatial_embed_pred\.(.+)', r'mask_head.conv_embed_spatial.\1'),
    (r'rpn\.head\.pixel_other_embed_pred\.(.+)', r'mask_head.conv_embed_free.\1'),
]

ADELAIDET: list[Rule] = [
    (r'backbone\.bottom_up\.stem\.conv1\.norm\.(.+)', r'backbone.bn1.\1'),
    (r'backbone\.bottom_up\.stem\.conv1\.(.+)', r'backbone.conv1.\1'),
    (r'backbone\.bottom_up\.res(\d)\.(\d+)\.(conv\d|shortcut)\.(.+)', _residual),
    (
        r'backbone\.fpn_lateral(\d)\.(.+)',
        lambda m: f'neck.lateral_convs.{int(m[1]) - 3}.conv.{m[2]}',
    ),
    (r'backbone\.fpn_output(\d)\.(.+)', lambda m: f'neck.fpn_convs.{int(m[1]) - 3}.conv.{m[2]}'),
    (r'backbone\.top_block\.p(\d)\.(.+)', lambda m: f'neck.fpn_convs.{int(m[1]) - 3}.conv.{m[2]}'),
    *((rf'proposal_generator\.fcos_head\.{pattern}', target) for pattern, target in FCOS),
    (r'proposal_head\.margin_conv\.(.+)', r'bbox_head.conv_margin_reduce.\1'),
    (r'proposal_head\.(spatial|free)_margin_head\.(.+)', r'bbox_head.conv_margin_\1.\2'),
    (r'proposal_head\.margin_scales\.(\d+)\.scale', r'bbox_head.margin_scales.\1.scale'),
    (r'proposal_head\.embed_conv\.(.+)', r'bbox_head.conv_embed_reduce.\1'),
    (r'proposal_head\.embed_head\.(spatial|free)_embed_head\.(.+)', r'bbox_head.conv_embed_\1.\2'),
    (r'pixel_head\.(spatial|free)_embed_head\.(.+)', r'mask_head.conv_embed_\1.\2'),
    (r'mask_branch\.refine\.(\d)\.(\d)\.(.+)', _prefixed('mask_head.refine')),
    (r'mask_branch\.tower\.(\d)\.(\d)\.(.+)', _prefixed('mask_head.tower')),
    (r'mask_branch\.tower\.\d\.(weight|bias)', r'mask_head.conv_feat.\1'),
    (r'mask_branch\.seg_head\.(\d)\.(\d)\.(.+)', _prefixed('mask_head.seg_convs')),
    (r'mask_branch\.logits\.(.+)', r'mask_head.conv_seg.\1'),
    (r'mask_pred\.(?:sizes_of_interest|_iter)', None),
    (r'pixel_mean|pixel_std', None),
]


def rename(key: str, rules: list[Rule]) -> str | None:
    """New name; None for bookkeeping. Unknown keys stay, so that a strict load names them."""
    for pattern, target in rules:
        match = re.fullmatch(pattern, key)
        if match:
            if target is None:
                return None
            return target(match) if callable(target) else match.expand(target)
    return key


def generation(keys: Mapping[str, Any]) -> str | None:
    """Which of the originals the keys are of; None for any other file."""
    if 'proposal_head.embed_head.spatial_embed_head.weight' in keys:
        return 'adet'
    if 'rpn.head.proposal_embed_pred.weight' in keys:
        return 'v1'
    if 'rpn.head.proposal_spatial_embed_pred.weight' in keys:
        return 'v3' if 'rpn.head.margin_scales.0.scale' in keys else 'v2'
    return None


def _converter(name: str) -> Converter:
    rules, shift = (ADELAIDET, 0.0) if name == 'adet' else (BENCHMARK, NORM_EPS)
    return Converter(
        f'embedmask-{name}',
        lambda keys: generation(keys) == name,
        lambda weights: convert_layers(weights, lambda key: rename(key, rules), shift),
        (r'bbox_head\.conv_cls\..+', r'mask_head\.conv_seg\..+'),
    )


CONVERTERS = [_converter(name) for name in ('v1', 'v2', 'v3', 'adet')]
