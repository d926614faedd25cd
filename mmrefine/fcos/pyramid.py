"""Does the pyramid of a neck fit the head that it feeds?"""

from collections.abc import Sequence

from torch import Tensor


def require_pyramid(
    maps: Sequence[Tensor], strides: Sequence[int], channels: int, image_size: tuple[int, int]
) -> None:
    """Compare a pyramid with what a point head expects; a wrong stride would shift every box.

    Args:
        maps: One Tensor[B, C, h, w] per level, finest first.
        strides: Pixels per cell of every level.
        channels: C of the head.
        image_size: (height, width) of the network input in pixels.

    Raises:
        ValueError: Another number of levels, another width, or a level whose stride is at most half
            or at least twice the one named.
    """
    if len(maps) != len(strides):
        raise ValueError(
            f'the neck gives {len(maps)} levels, but the head has {len(strides)} strides '
            f'{list(strides)}: set num_outs={len(strides)} of the neck, or name one stride (and '
            'regress_range) per level'
        )
    for level, (feature, stride) in enumerate(zip(maps, strides)):
        if feature.shape[1] != channels:
            raise ValueError(
                f'level {level} of the neck has {feature.shape[1]} channels, but the heads expect '
                f'{channels}: set in_channels of both heads to out_channels of the neck'
            )
        for cells, pixels in zip(feature.shape[-2:], image_size):
            if 2 * cells * stride <= pixels or (cells > 1 and cells * stride >= 2 * pixels):
                raise ValueError(
                    f'level {level} of the neck has {cells} cells on {pixels} pixels, but the head '
                    f'names a stride of {stride}: begin at the level of that stride (start_level '
                    'of the neck), or set strides of the head'
                )
