"""The DeepMask head: one 512-vector per window, from it a coarse mask and an objectness score.

Paper:    DeepMask, https://arxiv.org/abs/1506.06204; head "C" of SharpMask,
          https://arxiv.org/abs/1603.08695
Origin:   facebookresearch/deepmask (DeepMask.lua), foolwood/deepmask-pytorch
Changes:  linear layers are stored as 1x1 and 10x10 convolutions, so that patches and whole images
          share them.

Shapes:   B images, N windows, C trunk channels, D code channels, G grid side in stride-16 cells, S
          mask side.
"""

from mmdet.registry import MODELS
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class DeepMaskHead(BaseModule):
    """Shared encoder, low-rank mask classifier and score classifier.

    Args:
        in_channels: C, width of the trunk's last map.
        reduce_channels: Width of the 1x1 reduction before the encoder.
        code_channels: D. No non-linearity follows the code.
        grid_size: G, window side in trunk cells (patch side / 16).
        mask_size: S, side of the coarse mask.
        score_channels: Hidden width of the score branch.
        dropout: Rate before and inside the score branch.
        score_floor: Value that the score branch's threshold puts in place of negative activations.
            Parity: 1e-6 in the Torch7 code's training form and in the port; 0 (a ReLU) in its
            full-image form.
        score_weight: Factor of the score loss against the sum of mask losses (lambda of the paper).
    """

    def __init__(
        self,
        in_channels: int = 1024,
        reduce_channels: int = 128,
        code_channels: int = 512,
        grid_size: int = 10,
        mask_size: int = 56,
        score_channels: int = 1024,
        dropout: float = 0.5,
        score_floor: float = 0.0,
        score_weight: float = 1 / 32,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        self.grid_size = grid_size
        self.mask_size = mask_size
        self.score_floor = score_floor
        self.score_weight = score_weight
        self.reduce_conv = nn.Conv2d(in_channels, reduce_channels, 1)
        self.encoder = nn.Conv2d(reduce_channels, code_channels, grid_size)
        self.mask_fc = nn.Conv2d(code_channels, mask_size**2, 1)
        self.score_fc1 = nn.Conv2d(code_channels, score_channels, 1)
        self.score_fc2 = nn.Conv2d(score_channels, 1, 1)
        self.dropout = nn.Dropout(dropout)

    def reduce(self, feature: Tensor) -> Tensor:
        """Tensor[B, C, h, w] -> encoder input Tensor[B, reduce_channels, h, w]."""
        return F.relu(self.reduce_conv(feature))

    def encode(self, feature: Tensor) -> Tensor:
        """Tensor[B, C, h, w] -> codes Tensor[B, D, h - G + 1, w - G + 1]."""
        return self.encoder(self.reduce(feature))

    def scores(self, codes: Tensor) -> Tensor:
        """Codes Tensor[B, D, h, w] -> score logits Tensor[B, h, w] in fp32."""
        hidden = self.score_fc1(self.dropout(codes))  # (B, score_channels, h, w)
        hidden = F.threshold(hidden, 0.0, self.score_floor)
        return self.score_fc2(self.dropout(hidden)).squeeze(1).float()

    def masks(self, codes: Tensor) -> Tensor:
        """Codes Tensor[N, D] -> coarse mask logits Tensor[N, S, S]."""
        # A 1x1 convolution on single vectors is a linear layer.
        logits = F.linear(codes, self.mask_fc.weight.flatten(1), self.mask_fc.bias)  # (N, S S)
        return logits.unflatten(1, (self.mask_size, self.mask_size))

    def loss_masks(self, logits: Tensor, labels: Tensor, has_mask: Tensor) -> Tensor:
        """Soft-margin mask loss: mean over the pixels, sum over the patches that have a mask.

        Logits Tensor[B, s, s], resized corner-aligned where the labels Tensor[B, g, g] (1 on the
        object and 0 off it) are larger; BoolTensor[B], since score-only samples carry no mask loss.
        """
        if logits.shape[-1] != labels.shape[-1]:
            logits = F.interpolate(
                logits[:, None], labels.shape[-2:], mode='bilinear', align_corners=True
            )[:, 0]
        # The mean over a patch's pixels first: loss_k = 1 / g^2 * sum log(1 + exp(-y f)).
        pixels = F.binary_cross_entropy_with_logits(
            logits.float().flatten(1), labels.float().flatten(1), reduction='none'
        )
        return (pixels.mean(1) * has_mask).sum()

    def loss_scores(self, logits: Tensor, labels: Tensor, has_score: Tensor) -> Tensor:
        """Soft-margin score loss, summed over the samples that have a score label, BoolTensor[B].

        Logits Tensor[B]; labels Tensor[B], 1 for patches with a centred object of canonical size,
        else 0.
        """
        losses = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction='none')
        return self.score_weight * (losses * has_score).sum()
