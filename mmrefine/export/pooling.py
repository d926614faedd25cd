"""RoI pooling and suppression as nodes that ONNX has.

Shapes:   B images, N RoIs, C channels, S side of the grid.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.onnx import register_custom_op_symbolic, symbolic_helper

from mmrefine.sharpmask.roi_extractor import PyramidRoIExtractor, fpn_levels, pool_assigned

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


@symbolic_helper.parse_args('v', 'v', 'f', 'f')
def _class_nms_node(graph: Any, boxes: Any, scores: Any, iou: float, score: float) -> Any:
    """``mmrefine::class_nms`` as NonMaxSuppression, without limit of boxes of a class."""
    settings = (
        graph.op('Constant', value_t=torch.tensor([value])) for value in (2**31 - 1, iou, score)
    )
    return graph.op('NonMaxSuppression', boxes, scores, *settings)


register_custom_op_symbolic('mmrefine::roi_align', _roi_align_node, OPSET)
register_custom_op_symbolic('mmrefine::class_nms', _class_nms_node, OPSET)


def check_extractor(extractor: nn.Module) -> None:
    """Refuse extractors and RoI layers that have no ONNX form here; a ValueError names them."""
    if not isinstance(extractor, (SingleRoIExtractor, PyramidRoIExtractor)):
        raise ValueError(
            f'{type(extractor).__name__} cannot be exported: SingleRoIExtractor and '
            'PyramidRoIExtractor can'
        )
    for layer in getattr(extractor, 'roi_layers', ()):
        if not (isinstance(layer, RoIAlign) and layer.aligned and layer.pool_mode == 'avg'):
            raise ValueError(f'{layer} cannot be exported: RoIAlign with aligned=True can')


def pool(extractor: nn.Module, levels: Sequence[Tensor], rois: Tensor) -> Tensor | list[Tensor]:
    """What the extractor (see ``check_extractor``) gives.

    Maps Tensor[B, C, h_i, w_i], finest first, as many as the extractor takes or more, and RoIs
    Tensor[N, 5] (image, x1, y1, x2, y2) in pixels of the network input -> Tensor[N, C, S, S]; of a
    ``PyramidRoIExtractor`` its list of them.
    """
    levels = levels[: extractor.num_inputs]
    if isinstance(extractor, PyramidRoIExtractor):
        return extractor(levels, rois)
    assigned = fpn_levels(rois, extractor.finest_scale, len(levels))
    layer, strides = extractor.roi_layers[0], extractor.featmap_strides
    size, ratio = layer.output_size[0], layer.sampling_ratio
    return pool_assigned(levels, rois, assigned, size, strides, ratio)
