"""Initial weights that configs of published recipes name, and those of a checkpoint."""

from typing import Any

from mmengine.model.weight_init import BaseInit, PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn


@WEIGHT_INITIALIZERS.register_module(name='TorchDefault')
class TorchDefaultInit(BaseInit):
    """Give layers the initial weights and biases that PyTorch gives them.

    For layers that an original leaves alone, inside a module whose other layers it initialises;
    none of mmengine's initialisers draws biases. The weights are Torch7's, too.

    Args:
        bias_prob: Set the bias to the logit of this probability.
        layer: Class names of the layers, as for mmengine's initialisers.
    """

    def __init__(self, bias_prob: float | None = None, **kwargs: Any) -> None:
        super().__init__(bias_prob=bias_prob, **kwargs)
        self.has_prior = bias_prob is not None

    def __call__(self, module: nn.Module) -> None:
        """Initialise the chosen layers of a module, or with ``wholemodule`` all of them."""
        module.apply(self._reset)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _reset(self, layer: nn.Module) -> None:
        names = {base.__name__ for base in type(layer).__mro__}
        reset = getattr(layer, 'reset_parameters', None)
        if reset is None or not (self.wholemodule or names & set(self.layer)):
            return
        reset()
        if self.has_prior:
            nn.init.constant_(layer.bias, self.bias)


def loads_weights(init_cfg: dict | list[dict] | None) -> bool:
    """Whether a module's ``init_cfg`` names a checkpoint, whose weights are then the initial
    ones."""
    configs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
    return any(config['type'] in ('Pretrained', PretrainedInit) for config in configs)
