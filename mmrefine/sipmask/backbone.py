"""ResNet with deformable convolutions in every n-th block (SipMask++)."""

from typing import Any

from mmcv.ops import DeformConv2dPack
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import nn

from mmrefine.layers import loads_weights


@MODELS.register_module()
class IntervalDCNResNet(ResNet):
    """mmdet's ResNet, except that only blocks 0, n, 2n, ... of a stage get the ``dcn`` option.

    ``dcn_interval`` is n. The SipMask++ configs use 3; 1 equals the plain ResNet.
    """

    def __init__(self, dcn_interval: int = 3, **kwargs: Any) -> None:
        if dcn_interval < 1:
            raise ValueError(f'dcn_interval must be at least 1, got {dcn_interval}')
        self.dcn_interval = dcn_interval
        super().__init__(**kwargs)

    def make_res_layer(self, **kwargs: Any) -> nn.Sequential:
        """One stage; see the base class."""
        kwargs['block'] = _EveryNthDeformable(kwargs['block'], self.dcn_interval)
        return super().make_res_layer(**kwargs)

    def init_weights(self) -> None:
        """As the base class, but sampling starts on the regular grid when training from scratch."""
        super().init_weights()
        if loads_weights(self.init_cfg):
            return
        for module in self.modules():
            if isinstance(module, DeformConv2dPack):
                module.init_offset()


class _EveryNthDeformable:
    """Builds the blocks of one stage in order and takes ``dcn`` from most of them."""

    def __init__(self, block: type[nn.Module], interval: int) -> None:
        self.block = block
        self.expansion = block.expansion
        self.interval = interval
        self.built = 0

    def __call__(self, dcn: dict | None = None, **kwargs: Any) -> nn.Module:
        chosen = self.built % self.interval == 0
        self.built += 1
        return self.block(dcn=dict(dcn) if dcn is not None and chosen else None, **kwargs)
