"""Mask logits of one class per RoI, without computing those of the others."""

import torch
from torch import Tensor, nn


class ClassLogits(nn.Conv2d):
    """1x1 convolution to class-wise logits that evaluates only the class asked for.

    A RoI needs the logits of a single class. Gathering that class's weight row before the product
    gives the same numbers as computing all classes and picking one, at ``1 / num_classes`` of the
    time and memory. The parameters are those of ``Conv2d(in_channels, num_classes, 1)``, so
    checkpoints fit either way.

    Args:
        in_channels: Width of the features.
        num_classes: Number of classes; 1 makes the layer class-agnostic and labels are ignored.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, kernel_size=1)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.out_channels

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits of class ``labels[n]``, LongTensor[N], for RoI n; without labels of all classes.

        Tensor[N, C, H, W] -> Tensor[N, 1, H, W], or Tensor[N, num_classes, H, W].
        """
        if labels is None or self.num_classes == 1:
            return super().forward(x)
        n, _, h, w = x.shape
        weight = self.weight.flatten(1)[labels].unsqueeze(1)  # (N, 1, C)
        # (N, 1, C) @ (N, C, H * W): one product per RoI
        logits = torch.bmm(weight, x.flatten(2)).view(n, 1, h, w)
        return logits + self.bias[labels].view(n, 1, 1, 1).to(logits.dtype)
