"""RoI masks of one list of instances on square grids of several sizes.

A mask head may give small objects coarser grids than large ones. What it hands on is a few groups,
each of one size, and where in the list their members stand.

Shapes:   N instances, n members of a group, S side of the group's grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class GridGroup(NamedTuple):
    """Instances whose masks share one grid size.

    Attributes:
        places: LongTensor[n], positions in the list, ascending.
        masks: Tensor[n, S, S].
    """

    places: Tensor
    masks: Tensor


class MaskGrids:
    """Masks of N instances in groups; ``len`` is N.

    Args:
        groups: Every position from 0 to N - 1 stands in exactly one group; groups may be empty,
            and there may be none if N is 0.

    Raises:
        ValueError: Shapes of a group disagree.
    """

    def __init__(self, groups: Sequence[GridGroup]) -> None:
        for places, masks in groups:
            if masks.ndim != 3 or places.shape != masks.shape[:1]:
                raise ValueError(
                    'a group has places (n,) and masks (n, S, S), got '
                    f'{tuple(places.shape)} and {tuple(masks.shape)}'
                )
        self.groups = tuple(groups)

    @classmethod
    def of_one_size(cls, masks: Tensor) -> 'MaskGrids':
        """Tensor[N, S, S] as a single group."""
        return cls([GridGroup(torch.arange(len(masks), device=masks.device), masks)])

    def __len__(self) -> int:
        return sum(len(group.places) for group in self.groups)

    def split(self, counts: Sequence[int]) -> list['MaskGrids']:
        """Cut the list into consecutive parts, one per image.

        Args:
            counts: Length of each part; they sum to N.
        """
        if sum(counts) != len(self):
            raise ValueError(f'parts of {sum(counts)} instances, but there are {len(self)}')
        if len(self.groups) == 1:
            return [MaskGrids.of_one_size(m) for m in self.groups[0].masks.split(list(counts))]
        parts: list[list[GridGroup]] = [[] for _ in counts]
        for places, masks in self.groups:
            ends = torch.tensor(list(counts), device=places.device).cumsum(0)
            part = torch.bucketize(places, ends, right=True)
            sizes = torch.bincount(part, minlength=len(counts)).tolist()
            pairs = zip(places.split(sizes), masks.split(sizes))
            for groups, (place, mask), end, count in zip(parts, pairs, ends, counts):
                groups.append(GridGroup(place - (end - count), mask))
        return [MaskGrids(groups) for groups in parts]

    def as_list(self) -> list[Tensor]:
        """One Tensor[S, S] an instance, in the order of the list."""
        found = [
            (place, mask)
            for places, masks in self.groups
            for place, mask in zip(places.tolist(), masks)
        ]
        return [mask for _, mask in sorted(found, key=lambda pair: pair[0])]
