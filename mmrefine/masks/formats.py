"""The two formats in which masks leave a model: dense booleans and COCO RLE.

Stock dumps, visualizers, metrics and the inferencer expect Tensor[N, h, w] and convert it by
``.cpu()``, ``.numpy()`` or ``.astype()``, or index every mask by ``[:, :, None]``
(``encode_mask_results``). ``RLEMasks`` decodes pixels in these calls only. ``CocoMetric`` reads
RLEs as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .rle import RLE, encode
from .run_lengths import to_dense

FORMATS = ('dense', 'rle')


def check_format(mask_format: str) -> str:
    """Refuse an unknown ``test_cfg.mask_format``, naming the choices."""
    if mask_format not in FORMATS:
        raise ValueError(f'mask_format must be one of {FORMATS}, got {mask_format!r}')
    return mask_format


def in_format(
    rles: Sequence[RLE],
    image_size: tuple[int, int],
    mask_format: str,
    device: torch.device | str | None = None,
) -> 'Tensor | RLEMasks':
    """Bring the masks of an image of ``image_size`` (h, w) to the format in which they leave the
    model.

    N COCO RLEs -> ``RLEMasks``, or BoolTensor[N, h, w] on ``device`` (default: the CPU).
    """
    if check_format(mask_format) == 'rle':
        return RLEMasks(rles, image_size)
    return to_dense(rles, image_size, device)


def to_rles(masks: 'Tensor | np.ndarray | RLEMasks') -> list[RLE]:
    """Masks in either format -> N plain COCO RLEs."""
    return masks.tolist() if isinstance(masks, RLEMasks) else encode(masks)


class RLEMask(dict):
    """One mask, ``dict(size=[h, w], counts=bytes)``; any index but a key reads its pixels."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return to_dense([self])[0].numpy().astype(dtype or bool, copy=False)


class RLEMasks(Sequence):
    """N masks of one image (h, w): a sequence of ``RLEMask`` that decodes itself where pixels are
    wanted.

    An integer index gives one mask; slices, and lists, arrays or tensors of integers or booleans
    give ``RLEMasks``. Equal to any sequence of equal RLEs.
    """

    def __init__(self, rles: Iterable[Mapping], image_size: tuple[int, int]) -> None:
        self._masks = [RLEMask(rle) for rle in rles]
        self.image_size = int(image_size[0]), int(image_size[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(N, h, w)``."""
        return len(self), *self.image_size

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return RLEMasks(self._masks[index], self.image_size)
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        if np.ndim(index) == 0:
            return self._masks[int(index)]
        chosen = np.arange(len(self))[np.asarray(index, dtype=None if len(index) else int)]
        return RLEMasks([self._masks[i] for i in chosen], self.image_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._masks == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f'RLEMasks({self.tolist()!r}, {self.image_size})'

    @staticmethod
    def cat(parts: Sequence['RLEMasks']) -> 'RLEMasks':
        """Join the masks of several detections of one image; ``InstanceData`` calls this."""
        return RLEMasks([mask for part in parts for mask in part], parts[0].image_size)

    def tolist(self) -> list[RLE]:
        """Return plain dicts, which pycocotools and JSON take."""
        return [dict(mask) for mask in self._masks]

    def detach(self) -> 'RLEMasks':
        """Return the masks themselves, which no gradient reaches."""
        return self

    def cpu(self) -> Tensor:
        """Decode: BoolTensor[N, h, w]."""
        return to_dense(self._masks, self.image_size)

    def numpy(self) -> np.ndarray:
        """Decode: BoolArray[N, h, w]."""
        return self.cpu().numpy()

    def astype(self, dtype: Any) -> np.ndarray:
        """Decode to numbers of a type: Array[N, h, w]."""
        return self.numpy().astype(dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.astype(dtype or bool)
