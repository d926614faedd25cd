"""Integer random numbers that are the same on every machine and NumPy version.

NumPy guarantees the raw stream of ``PCG64`` for ever, but not what ``Generator.integers`` makes of
it, so everything drawn here comes from raw words by integer arithmetic.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar('Item')


class Rng:
    """A seeded source of integers.

    Args:
        key: Non-negative integers naming the stream, e.g. (seed, split, image). Different keys
            give independent streams, so image 7 does not depend on how many images are made.
    """

    def __init__(self, *key: int) -> None:
        if not key or any(part < 0 for part in key):
            raise ValueError(f'a random stream needs non-negative integers, got {key}')
        self._bits = np.random.PCG64(list(key))

    def below(self, limit: int) -> int:
        """Draw from 0 .. limit - 1."""
        if limit < 1:
            raise ValueError(f'nothing to draw from: limit {limit}')
        # The high half times the limit: no division, and a bias under 2^-32.
        return ((int(self._bits.random_raw()) >> 32) * limit) >> 32

    def between(self, low: int, high: int) -> int:
        """Draw from low .. high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """Come out true ``percent`` times in a hundred."""
        return self.below(100) < percent

    def pick(self, items: Sequence[Item]) -> Item:
        """Choose one item, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, weights: Sequence[int]) -> int:
        """Choose an index with probability proportional to its integer weight."""
        ticket = self.below(sum(weights))
        for index, weight in enumerate(weights):
            ticket -= weight
            if ticket < 0:
                return index
        raise ValueError(f'weights must be positive integers, got {tuple(weights)}')

    def bytes(self, *shape: int) -> np.ndarray:
        """Fill an int64 array with values 0 .. 255."""
        count = int(np.prod(shape))
        words = self._bits.random_raw((count + 7) // 8)
        # A fixed byte order keeps the picture the same on big-endian machines.
        return words.astype('<u8').view(np.uint8)[:count].astype(np.int64).reshape(shape)
