"""RoI pooling in operators that ONNX has.

Shapes:   N RoIs, C channels, S side of the grid, L levels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.onnx import register_custom_op_symbolic, symbolic_helper

from mmrefine.layers import roi_align
from mmrefine.sharpmask.roi_extractor import PyramidRoIExtractor, RoIAlignLayer

OPSET = 17  # RoiAlign samples at half pixels since 16


@symbolic_helper.parse_args('v', 'v', 'i', 'f', 'i')
def _roi_align_node(
    graph: Any, features: Any, rois: Any, size: int, scale: float, samples: int
) -> Any:
    """``mmrefine::roi_align`` as ONNX RoiAlign, whose half-pixel mode is its aligned mode."""
    parts = [
        symbolic_helper._slice_helper(graph, rois, axes=[1], starts=[a], ends=[b])
        for a, b in ((0, 1), (1, 5))
    ]
    images = symbolic_helper._squeeze_helper(graph, parts[0], [1])
    images = graph.op('Cast', images, to_i=torch.onnx.TensorProtoDataType.INT64)
    return graph.op(
        'RoiAlign',
        features,
        parts[1],
        images,
        coordinate_transformation_mode_s='half_pixel',
        mode_s='avg',
        output_height_i=size,
        output_width_i=size,
        sampling_ratio_i=samples,
        spatial_scale_f=scale,
    )


register_custom_op_symbolic('mmrefine::roi_align', _roi_align_node, OPSET)


def check_extractor(extractor: nn.Module) -> None:
    """Refuse extractors and RoI layers that have no ONNX form here; a ValueError names them."""
    if not isinstance(extractor, (SingleRoIExtractor, PyramidRoIExtractor)):
        raise ValueError(
            f'{type(extractor).__name__} cannot be exported: SingleRoIExtractor and '
            'PyramidRoIExtractor can'
        )
    for layer in extractor.modules():
        if isinstance(layer, RoIAlignLayer):
            continue
        if isinstance(layer, RoIAlign) and layer.aligned and layer.pool_mode == 'avg':
            continue
        if type(layer).__name__.startswith(('RoI', 'DeformRoI', 'ModulatedDeformRoI')):
            raise ValueError(f'{layer} cannot be exported: RoIAlign with aligned=True can')


def pool(extractor: nn.Module, levels: Sequence[Tensor], rois: Tensor) -> Tensor | list[Tensor]:
    """What the extractor (see ``check_extractor``) gives, without indices that depend on the data.

    Every level pools all RoIs; those of other levels shrink to nothing, which costs nothing, and
    count zero. Maps Tensor[B, C, h_i, w_i], finest first, as many as the extractor takes or more,
    and RoIs Tensor[N, 5] (image, x1, y1, x2, y2) in pixels of the network input -> Tensor[N, C, S,
    S]; of a ``PyramidRoIExtractor`` its list of them.
    """
    levels = levels[: extractor.num_inputs]
    count = len(levels)
    assigned = fpn_levels(rois, extractor.finest_scale, count)  # (N)
    if isinstance(extractor, SingleRoIExtractor):
        return _pool_assigned(extractor.roi_layers, levels, rois, assigned)
    if extractor.level_choice == 'absolute':
        # Grid i reads level count - 1 - i for every RoI, coarsest level first.
        return [
            _pool(layers[last], levels[last], rois)
            for last, layers in zip(reversed(range(count)), extractor.roi_layers)
        ]
    return [
        _pool_assigned(layers, levels, rois, (assigned - i).clamp(min=0))
        for i, layers in enumerate(extractor.roi_layers)
    ]


def fpn_levels(rois: Tensor, finest_scale: int, count: int) -> Tensor:
    """Level LongTensor[N] that FPN assigns to RoIs Tensor[N, 5], 0 = finest, without logarithms."""
    sides = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0)
    scale = (sides[:, 0] * sides[:, 1]).sqrt() / finest_scale + 1e-6
    # logarithms of two libraries disagree where a side is a power of two
    steps = [(scale >= 2**level).long() for level in range(1, count)]
    return sum(steps, torch.zeros_like(scale, dtype=torch.long))


def _pool_assigned(
    layers: Sequence[nn.Module], levels: Sequence[Tensor], rois: Tensor, assigned: Tensor
) -> Tensor:
    """Pool every RoI from its level LongTensor[N]: Tensor[N, C, S, S]."""
    total: Tensor | int = 0
    for i, (layer, level) in enumerate(zip(layers, levels)):
        mine = (assigned == i)[:, None]  # (N, 1)
        corners = torch.where(mine, rois[:, 1:], torch.zeros_like(rois[:, 1:]))
        pooled = _pool(layer, level, torch.cat([rois[:, :1], corners], 1))
        # layers with a fixed number of samples read something from an empty RoI as well
        total = total + pooled * mine[:, :, None, None]
    return total


def _pool(layer: nn.Module, level: Tensor, rois: Tensor) -> Tensor:
    size = layer.output_size[0]
    return roi_align(level, rois, size, layer.spatial_scale, layer.sampling_ratio)
