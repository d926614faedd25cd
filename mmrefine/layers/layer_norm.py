"""Layer normalisation of feature maps."""

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class LayerNorm2d(nn.LayerNorm):
    """Normalise every position of a map over its channels, as in ViTDet and the Co-DETR models.

    For ``norm_cfg=dict(type='LayerNorm2d')``; mmcv has the layer for channels-last maps only.
    Arguments are the number of channels and ``eps``, 1e-5 as every ``norm_cfg`` of mmcv has it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[N, C, H, W] -> Tensor[N, C, H, W]."""
        # not movedim, whose negative axes the ONNX exporter hands on
        last = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return last.permute(0, 3, 1, 2)
