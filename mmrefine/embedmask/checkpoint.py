"""Load the weights of all four original generations.

Origin: yinghdb/EmbedMask (maskrcnn-benchmark names; v1, v2, v3), yinghdb/AdelaiDet (detectron2
        names; adet).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mmrefine.checkpoint import (
    BENCHMARK_EPS,
    BENCHMARK_RULES,
    FCOS_RULES,
    Converter,
    Rule,
    convert_layers,
    pyramid_layer,
    tower_layer,
)


def _conv_module(target: str) -> Callable[[re.Match], str]:
    """``0.1.``: the norm of the first block of convolution and norm."""
    return lambda match: f'{target}.{match[1]}.{"bn" if match[2] == "1" else "conv"}.'


def _residual(match: re.Match) -> str:
    """AdelaiDet backbone: stages res2-res5, the norm inside its convolution."""
    stage, block, layer, norm = int(match[1]) - 1, match[2], match[3], match[4] is not None
    if layer == 'shortcut':
        name = f'downsample.{int(norm)}'
    else:
        name = f'bn{layer[-1]}' if norm else layer
    return f'backbone.layer{stage}.{block}.{name}.'


BENCHMARK: list[Rule] = [
    *BENCHMARK_RULES,
    (r'bbox_head\.mask_tower\.(\d+)\.', tower_layer('mask_head.convs')),
    (r'bbox_head\.proposal_embed_pred\.', 'bbox_head.conv_embed.'),
    (r'bbox_head\.proposal_spatial_embed_pred\.', 'bbox_head.conv_embed_spatial.'),
    (r'bbox_head\.proposal_other_embed_pred\.', 'bbox_head.conv_embed_free.'),
    (r'bbox_head\.proposal_margin_pred\.', 'bbox_head.conv_margin.'),
    (r'bbox_head\.pixel_embed_pred\.', 'mask_head.conv_embed.'),
    (r'bbox_head\.pixel_spatial_embed_pred\.', 'mask_head.conv_embed_spatial.'),
    (r'bbox_head\.pixel_other_embed_pred\.', 'mask_head.conv_embed_free.'),
]

ADELAIDET: list[Rule] = [
    (r'backbone\.bottom_up\.stem\.conv1\.norm\.', 'backbone.bn1.'),
    (r'backbone\.bottom_up\.stem\.', 'backbone.'),
    (r'backbone\.bottom_up\.res(\d)\.(\d+)\.(conv\d|shortcut)\.(norm\.)?', _residual),
    (r'backbone\.fpn_lateral(\d)\.', pyramid_layer('lateral_convs', 3)),
    (r'backbone\.(?:fpn_output|top_block\.p)(\d)\.', pyramid_layer('fpn_convs', 3)),
    (r'proposal_generator\.fcos_head\.', 'bbox_head.'),
    *FCOS_RULES,
    (r'proposal_head\.margin_conv\.', 'bbox_head.conv_margin_reduce.'),
    (r'proposal_head\.(spatial|free)_margin_head\.', r'bbox_head.conv_margin_\1.'),
    (r'proposal_head\.margin_scales\.', 'bbox_head.margin_scales.'),
    (r'proposal_head\.embed_conv\.', 'bbox_head.conv_embed_reduce.'),
    (r'proposal_head\.embed_head\.(spatial|free)_embed_head\.', r'bbox_head.conv_embed_\1.'),
    (r'pixel_head\.(spatial|free)_embed_head\.', r'mask_head.conv_embed_\1.'),
    (r'mask_branch\.refine\.(\d)\.(\d)\.', _conv_module('mask_head.refine')),
    (r'mask_branch\.tower\.(\d)\.(\d)\.', _conv_module('mask_head.tower')),
    (r'mask_branch\.tower\.\d\.', 'mask_head.conv_feat.'),
    (r'mask_branch\.seg_head\.(\d)\.(\d)\.', _conv_module('mask_head.seg_convs')),
    (r'mask_branch\.logits\.', 'mask_head.conv_seg.'),
    (r'mask_pred\.(?:sizes_of_interest|_iter)$', ''),
    (r'pixel_(?:mean|std)$', ''),
]


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
    rules, shift = (ADELAIDET, 0.0) if name == 'adet' else (BENCHMARK, BENCHMARK_EPS)
    return Converter(
        f'embedmask-{name}',
        lambda keys: generation(keys) == name,
        lambda weights: convert_layers(weights, rules, shift),
        (r'bbox_head\.conv_cls\..+', r'mask_head\.conv_seg\..+'),
    )


CONVERTERS = [_converter(name) for name in ('v1', 'v2', 'v3', 'adet')]
