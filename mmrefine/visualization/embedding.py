"""Pictures of an embedding space: pixel embeddings as colours.

Shapes: D embedding dimensions, h x w cells of the map.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Share of the cells that may saturate at each end of a colour channel.
SATURATED = 0.01


def principal_components(pixels: Tensor, count: int = 3) -> Tensor:
    """Project embeddings Tensor[D, h, w] on the directions in which they vary most: Tensor[count,
    h, w].

    Directions beyond D, or without variance, are zero. The sign of each is chosen so that its
    largest weight is positive.
    """
    dims, height, width = pixels.shape
    if height * width == 0:
        raise ValueError(f'the embedding map is empty: shape {tuple(pixels.shape)}')
    if not pixels.isfinite().all():
        raise ValueError('the embedding map has NaN or infinite values')
    flat = pixels.double().flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    _, vectors = torch.linalg.eigh(flat @ flat.t() / flat.shape[1])
    vectors = vectors.flip(1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    components = (vectors * largest.sign()).t() @ flat
    components = F.pad(components, (0, 0, 0, count - len(components)))
    return components.view(count, height, width).float()


def embedding_colours(pixels: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Show the three main directions of an embedding map Tensor[D, h, w] as red, green and blue.

    Returns:
        uint8 array[height, width, 3] of ``size``, enlarged without smoothing; grey where a
        direction does not vary.
    """
    components = principal_components(pixels).flatten(1)
    low = components.quantile(SATURATED, dim=1, keepdim=True)
    span = components.quantile(1 - SATURATED, dim=1, keepdim=True) - low
    # rounding of a constant map must not be blown up to noise
    varies = span > 1e-5 * components.abs().amax().clamp(min=1e-5)
    scaled = torch.where(varies, (components - low) / span.where(varies, 1.0), 0.5).clamp(0, 1)
    picture = F.interpolate(scaled.view(1, 3, *pixels.shape[1:]), size=size, mode='nearest')[0]
    return (picture * 255).round().byte().permute(1, 2, 0).numpy()
