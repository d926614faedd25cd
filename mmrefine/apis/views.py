"""Views: the scales and mirror images in which a model sees a picture, or a tile of it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdet.datasets.transforms import PackDetInputs, Resize
from mmdet.registry import TRANSFORMS

FLIPS = {'flip': 'horizontal', 'vflip': 'vertical'}


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    Attributes:
        scale: Times the size that the test pipeline gives to pictures.
        flip: ``horizontal``, ``vertical``, ``diagonal`` (both) or None.
    """

    scale: float = 1.0
    flip: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 16:
            raise ValueError(f'the scale of a view lies between 0 and 16, got {self.scale}')
        if self.flip not in (None, 'horizontal', 'vertical', 'diagonal'):
            raise ValueError(
                f'a view is flipped horizontal, vertical, diagonal or not at all, got {self.flip!r}'
            )


def parse_views(words: Sequence[str]) -> list[View]:
    """Read views as the command line has them.

    Args:
        words: Scales as ``0.75``, and ``flip`` or ``vflip``, which add the mirror image of every
            scale. No scale is the scale 1.

    Raises:
        ValueError: Something else, or nothing.
    """
    scales: list[float] = []
    flips: list[str | None] = [None]
    for word in words:
        if word in FLIPS:
            flips.append(FLIPS[word])
            continue
        try:
            scales.append(float(word))
        except ValueError:
            raise ValueError(f'a view is a scale as 0.75, flip or vflip, got {word!r}') from None
    return checked_views([View(scale, flip) for scale in scales or [1.0] for flip in flips])


def checked_views(views: Sequence[View]) -> list[View]:
    """Refuse no views, and one view twice, which would count double in the averages.

    Raises:
        ValueError: Naming the view.
    """
    if not views:
        raise ValueError('the list of views is empty: leave it out, or give at least View()')
    for i, view in enumerate(views):
        if view in views[:i]:
            raise ValueError(f'{view} is given twice')
    return list(views)


def view_pipeline(steps: Sequence[Mapping[str, Any]], view: View) -> list[dict[str, Any]]:
    """Change a test pipeline so that it prepares a view.

    Args:
        steps: Configs of its transforms.
        view: Its scale multiplies the size of the step that resizes; it flips after that step.

    Raises:
        ValueError: The scale is not 1, and no step resizes.
    """
    changed = [copy.deepcopy(dict(step)) for step in steps]
    resizes = [i for i, step in enumerate(changed) if _is_a(step, Resize)]
    if view.scale != 1:
        if not resizes:
            raise ValueError(
                f'the test pipeline has no Resize whose size a view of scale {view.scale} could '
                f'change; it has {", ".join(str(step["type"]) for step in changed)}'
            )
        for i in resizes:
            _multiply(changed[i], view.scale)
    if view.flip is not None:
        # MMDetection 2's test pipelines have one of probability 0
        changed = [step for step in changed if 'RandomFlip' not in str(step['type'])]
        resizes = [i for i, step in enumerate(changed) if _is_a(step, Resize)]
        flip = dict(type='mmdet.RandomFlip', prob=1.0, direction=view.flip)
        changed.insert(resizes[-1] + 1 if resizes else 1, flip)
        for step in changed:
            if _is_a(step, PackDetInputs) and 'meta_keys' in step:
                keys = (*step['meta_keys'], 'flip', 'flip_direction')
                step['meta_keys'] = tuple(dict.fromkeys(keys))
    return changed


def _is_a(step: Mapping[str, Any], kind: type) -> bool:
    found = step['type'] if isinstance(step['type'], type) else TRANSFORMS.get(step['type'])
    return found is not None and issubclass(found, kind)


def _multiply(step: dict[str, Any], factor: float) -> None:
    """Multiply the size that a Resize aims at."""
    for key in ('scale', 'scale_factor'):
        value = step.get(key)
        if value is None:
            continue
        sides = [side * factor for side in (value if isinstance(value, (tuple, list)) else [value])]
        if key == 'scale':
            sides = [max(1, round(side)) for side in sides]
        step[key] = tuple(sides) if len(sides) > 1 else sides[0]
