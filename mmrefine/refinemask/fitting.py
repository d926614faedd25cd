"""Fit a mask head to the detector it is mixed into, or say what does not fit.

Shapes: B images, N RoIs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from torch import Tensor


def require_single(owner: str, **configs: ConfigType) -> None:
    """Refuse lists of configs, which stock cascades use for one module per stage.

    Raises:
        ValueError: One of ``configs`` is a list.
    """
    for name, config in configs.items():
        if isinstance(config, (list, tuple)):
            raise ValueError(
                f'{name} is a list of {len(config)}, but {owner} has one mask head, for the final '
                f'boxes: write {name}=dict(_delete_=True, type=...)'
            )


def require_kind(owner: str, mask_head: ConfigType, base: type) -> None:
    """Refuse mask heads that do not take what ``owner`` feeds.

    Raises:
        ValueError: The class named by ``mask_head`` is no subclass of ``base``.
    """
    kind = mask_head['type']
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    # an unknown name is left to the registry, which says so
    if found is not None and not issubclass(found, base):
        raise ValueError(
            f'{owner} feeds RefineMaskHead or SimpleRefineMaskHead, not {kind}: name one of them '
            'with _delete_=True, or keep the stock RoI head'
        )


def fit_to_pyramid(
    mask_head: ConfigType, extractor: BaseRoIExtractor, fine_level: int
) -> dict[str, Any]:
    """Complete a mask head's config by width and stride of the maps that it will get.

    Args:
        mask_head: Config; what it names must agree.
        extractor: Pools the mask head's RoI features.
        fine_level: Pyramid level of the fine feature map.

    Raises:
        ValueError: The config contradicts the extractor.
    """
    strides = list(extractor.featmap_strides)
    known = dict(conv_in_channels_instance=extractor.out_channels)
    if fine_level < len(strides):
        known.update(
            conv_in_channels_semantic=extractor.out_channels,
            semantic_out_stride=strides[fine_level],
        )
    for key, value in known.items():
        if mask_head.get(key, value) != value:
            raise ValueError(
                f'mask_head.{key}={mask_head[key]}, but mask_roi_extractor (out_channels='
                f'{extractor.out_channels}, featmap_strides={strides}) with fine_level='
                f'{fine_level} gives {value}: omit the former'
            )
    return {**known, **mask_head}


def pool_single(extractor: BaseRoIExtractor, x: Sequence[Tensor], rois: Tensor) -> Tensor:
    """Pool RoIs from the levels of a pyramid that the extractor names, in fp32.

    Half precision cannot place RoIs to the pixel, and the CPU kernel has no bf16.

    Args:
        extractor: Stock RoI extractor.
        x: One Tensor[B, C, H, W] per level, finest first.
        rois: Tensor[N, 5], pixels of the network input.

    Returns:
        Tensor[N, C, S, S].

    Raises:
        ValueError: The pyramid has fewer levels or another width than the extractor expects, or the
            extractor pools several maps per RoI.
    """
    if len(x) < extractor.num_inputs:
        raise ValueError(
            f'the neck gives {len(x)} levels, but mask_roi_extractor.featmap_strides names '
            f'{extractor.num_inputs}: raise num_outs of the neck, or name fewer'
        )
    if x[0].shape[1] != extractor.out_channels:
        raise ValueError(
            f'the neck gives {x[0].shape[1]} channels, but mask_roi_extractor.out_channels is '
            f'{extractor.out_channels}: set it to the former'
        )
    pooled = extractor([level.float() for level in x[: extractor.num_inputs]], rois)
    if not torch.is_tensor(pooled):
        raise ValueError(
            f'{type(extractor).__name__} pools several maps per RoI, RefineMask heads take one: '
            'use SingleRoIExtractor or GenericRoIExtractor'
        )
    return pooled


def fine_map(x: Sequence[Tensor], fine_level: int) -> Tensor:
    """The pyramid level that the mask head sees whole: Tensor[B, C, H, W].

    Raises:
        ValueError: The pyramid has no such level.
    """
    if fine_level >= len(x):
        raise ValueError(
            f'fine_level={fine_level}, but the neck gives {len(x)} levels: name one of them, '
            'counting from 0, the finest'
        )
    return x[fine_level]


def require_width(name: str, features: Tensor, channels: int, path: str) -> None:
    """Compare the width of features with what the convolutions of a path expect.

    Raises:
        ValueError: They differ.
    """
    if features.shape[1] != channels:
        raise ValueError(
            f'the {name} has {features.shape[1]} channels, the mask head expects {channels}: set '
            f'mask_head.conv_in_channels_{path}={features.shape[1]}, the width of the neck'
        )


def unscaled(results: dict, weight: float) -> dict:
    """Losses that keep their own weight when a cascade scales them by that of the box stage."""
    return dict(results, loss_mask={k: v / weight for k, v in results['loss_mask'].items()})
