"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

Paper:    EfficientNet, https://arxiv.org/abs/1905.11946; the Lite variants are the TPU repository's
          (``efficientnet/lite``), which fixes stem and head and replaces Swish by ReLU6.
"""

import copy
from collections.abc import Sequence
from typing import Any

from mmdet.models.backbones import EfficientNet
from mmdet.registry import MODELS

_SE_RATIO = 2  # place of the squeeze ratio in a block of ``EfficientNet.layer_settings``


def _without_squeeze(settings: list[list[list[int]]]) -> list[list[list[int]]]:
    settings = copy.deepcopy(settings)
    for stage in settings:
        for block in stage:
            block[_SE_RATIO] = 0
    return settings


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0; maps of strides 4, 8, 16 and 32 with 24, 40, 112 and 320 channels.

    Inputs are RGB with mean 127 and standard deviation 128.

    Args:
        out_indices: Stages that leave; the default are the last ones of each stride from 4 on.
        act_cfg: Activation.
        **kwargs: See ``mmdet.models.backbones.EfficientNet``; ``arch`` is fixed.
    """

    layer_settings = {'b': _without_squeeze(EfficientNet.layer_settings['b'])}

    def __init__(
        self,
        out_indices: Sequence[int] = (2, 3, 4, 5),
        act_cfg: dict = dict(type='ReLU6'),
        **kwargs: Any,
    ) -> None:
        super().__init__(arch='b0', out_indices=tuple(out_indices), act_cfg=act_cfg, **kwargs)
