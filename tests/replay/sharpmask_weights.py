"""The documented rule that regenerates the weights of the DeepMask and SharpMask recordings.

Every tensor comes from its own stream, seeded by its name, so nothing has to be stored.
"""

import math
import zlib

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmrefine.sharpmask.checkpoint import convert_port, port_names

# the two arithmetics: the Torch7 code ('lua') and its PyTorch port
PADDING = {
    'lua': dict(type='MirrorPadConv2d', pad_mode='symmetric', pad_grad=False),
    'port': dict(type='MirrorPadConv2d', pad_mode='reflect', wide_pad_mode='symmetric'),
}
HIDDEN = {'lua': (64, 64, 64, 32), 'port': (64, 64, 64, 64)}
_HEAD_INPUT = ('trunk.0.', 'trunk.1.0.', 'neths.', 'netvs.')


def generate(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Values of the port's tensor ``key``."""
    name = key.replace('maskBranchDM.', 'maskBranch.')
    if name.endswith('num_batches_tracked'):
        return torch.zeros(shape, dtype=torch.long)
    stream = np.random.RandomState(zlib.crc32(f'{seed}/{name}'.encode()) & 0xFFFFFFFF)
    z = stream.standard_normal(shape)
    if name.endswith('running_var'):
        z = 1 + 0.2 * np.tanh(z)
    elif name.endswith(('running_mean', '.bias')):
        z = 0.1 * z
    elif len(shape) == 1:
        z = (0.35 if '.bn3.' in name else 1.0) * (1 + 0.1 * np.tanh(z))
    else:
        fan_in = shape[0] if name == 'netvs.0.weight' else math.prod(shape[1:])
        z = z * math.sqrt(_gain(name) / fan_in)
    return torch.from_numpy(z.astype(np.float32))


def _gain(name: str) -> float:
    if name.startswith('maskBranch.'):
        return 9.0
    if name in ('scoreBranch.4.weight', 'refs.5.1.weight'):
        return 4.0
    return 2.0 if name.startswith(_HEAD_INPUT) else 1.0


def port_shapes(model: nn.Module, sharpmask: bool) -> dict[str, tuple[int, ...]]:
    """Port key -> shape in the port, for a model of ours."""
    own = model.state_dict()
    shapes = {key: tuple(own[name].shape) for key, name in port_names(sharpmask).items()}
    if sharpmask:  # the port's transposed convolution
        head = model.refine_head
        codes = own['refine_head.mask_encoding.weight'].shape[1]
        shapes['netvs.0.weight'] = (codes, head.channels, head.grid_size, head.grid_size)
        shapes['netvs.0.bias'] = (head.channels,)
    return shapes


def build_model(
    flavour: str,
    seed: int,
    sharpmask: bool,
    patch: int = 160,
    mask_size: int = 56,
    channels: int = 32,
    score_floor: float = 0.0,
    test_cfg: dict | None = None,
) -> nn.Module:
    """Model of one arithmetic with regenerated weights, in evaluation mode.

    Args:
        flavour: ``lua`` or ``port``.
        seed: Seed of the recording.
        sharpmask: Whether to add the refinement.
        patch: Window side in pixels.
        mask_size: Side of the coarse mask.
        channels: Width of the first mask encoding.
        score_floor: See ``DeepMaskHead``.
        test_cfg: See ``DeepMask``.
    """
    init_default_scope(
        'mmdet'
    )  # padded convolutions and the preprocessor are looked up by bare name
    conv_cfg = PADDING[flavour]
    config = dict(
        type='SharpMask' if sharpmask else 'DeepMask',
        backbone=dict(type='StemResNet', depth=50, conv_cfg=conv_cfg),
        mask_head=dict(
            type='DeepMaskHead', grid_size=patch // 16, mask_size=mask_size, score_floor=score_floor
        ),
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        test_cfg=test_cfg,
    )
    if sharpmask:
        config['refine_head'] = dict(
            type='TopDownRefineHead',
            grid_size=patch // 16,
            channels=channels,
            hidden_channels=HIDDEN[flavour],
            conv_cfg=conv_cfg,
        )
        config['freeze_coarse'] = False
    model = MODELS.build(config)
    shapes = port_shapes(model, sharpmask)
    state = convert_port({key: generate(key, shape, seed) for key, shape in shapes.items()})
    model.load_state_dict(state, strict=True)
    return model.eval()


def network_input(images: np.ndarray, device: torch.device | str = 'cpu') -> Tensor:
    """uint8 array[N, H, W, 3] (RGB) -> normalised Tensor[N, 3, H, W]."""
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        x.new_tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (x - mean) / std
