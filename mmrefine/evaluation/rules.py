"""How detections are scored: thresholds, areas, caps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

IOU_TYPES = ('bbox', 'segm', 'boundary')
COCO_AREAS = {'all': (0, 1e10), 's': (0, 32**2), 'm': (32**2, 96**2), 'l': (96**2, 1e10)}
VIDEO_AREAS = {'all': (0, 1e10), 's': (0, 128**2), 'm': (128**2, 256**2), 'l': (256**2, 1e10)}
UNLIMITED = 1 << 30


@dataclass(frozen=True)
class Rules:
    """One protocol.

    Attributes:
        max_dets: Best detections of an image and category that count, ascending; AP uses the last.
        areas: Name -> ``(least, most)`` in square pixels, both included; ``'all'`` is the first.
        iou_thresholds: Ascending.
        dilation_ratio: Width of the boundary band over the image diagonal.
        per_image: Best detections an image that count, over all categories (LVIS: 300).
        per_category: Best detections of a category over all images (fixed AP: 10,000).
        crowd_overlap: Compare with a crowd by the share of the detection it covers (COCO), not by
            IoU.
        federated: Score only categories that were looked for in an image, and report r / c / f.
    """

    max_dets: tuple[int, ...] = (1, 10, 100)
    areas: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(COCO_AREAS))
    iou_thresholds: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
    dilation_ratio: float = 0.02
    per_image: int | None = None
    per_category: int | None = None
    federated: bool = False
    crowd_overlap: bool = True

    def __post_init__(self) -> None:
        if not self.max_dets or any(not isinstance(n, int) or n < 1 for n in self.max_dets):
            raise ValueError(f'max_dets must be positive integers, got {self.max_dets}')
        for name, cap in (('per_image', self.per_image), ('per_category', self.per_category)):
            if cap is not None and (not isinstance(cap, int) or cap < 1):
                raise ValueError(f'max_dets ({name}) must be a positive integer, got {cap!r}')
        if 'all' not in self.areas:
            raise ValueError(f"areas must have an entry 'all', got {sorted(self.areas)}")
        for name, (least, most) in self.areas.items():
            if not 0 <= least <= most:
                raise ValueError(f'areas[{name!r}] must be (least, most) with 0 <= least <= most')
        if not self.iou_thresholds or not all(0 < t <= 1 for t in self.iou_thresholds):
            raise ValueError(f'iou_thresholds must lie in (0, 1], got {self.iou_thresholds}')
        if not 0 < self.dilation_ratio < math.inf:
            raise ValueError(f'dilation_ratio must be positive, got {self.dilation_ratio}')


PROTOCOLS = ('coco', 'lvis', 'lvis-fixed', 'coco-on-lvis')


def make_rules(
    protocol: str = 'coco',
    max_dets: int | Sequence[int] | None = None,
    areas: Mapping[str, Sequence[float]] | None = None,
    iou_thresholds: float | Sequence[float] | None = None,
    dilation_ratio: float = 0.02,
) -> Rules:
    """Rules of a protocol, with what the user changes.

    Args:
        protocol: ``'coco'``; ``'lvis'`` (federated, 300 an image); ``'lvis-fixed'`` (federated,
            10,000 a category, any number an image; Dave et al., arXiv 2102.01066);
            ``'coco-on-lvis'`` (AP*: LVIS rules on LVIS annotations renamed to COCO categories).
        max_dets: COCO: best detections per image and category, default ``(1, 10, 100)``; one
            number N stands for ``(1, 10, N)``. LVIS: detections per image. Fixed AP: per category.
        areas: Name -> ``(least, most)`` in square pixels; an entry ``'all'`` is added if missing.
        iou_thresholds: Default .5, .55, ..., .95.
        dilation_ratio: Width of the boundary band over the image diagonal.

    Raises:
        ValueError: An unknown protocol or a value out of range.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f'protocol must be one of {", ".join(PROTOCOLS)}; got {protocol!r}')
    if isinstance(max_dets, Sequence):
        if not max_dets:
            raise ValueError('max_dets must be positive integers, got none')
        caps = tuple(sorted(set(max_dets)))
    elif max_dets is not None:
        caps = tuple(n for n in (1, 10) if n < max_dets) + (max_dets,)
    else:
        caps = (1, 10, 100)
    options: dict = {'dilation_ratio': dilation_ratio}
    if areas is not None:
        named = {'all': (0, 1e10), **{name: tuple(limits) for name, limits in areas.items()}}
        options['areas'] = named
    if iou_thresholds is not None:
        options['iou_thresholds'] = tuple(sorted(np.atleast_1d(iou_thresholds).tolist()))
    if protocol == 'coco':
        return Rules(caps, **options)
    if protocol == 'lvis-fixed':
        per_category = caps[-1] if max_dets is not None else 10_000
        return Rules((UNLIMITED,), per_category=per_category, federated=True, **options)
    per_image = caps[-1] if max_dets is not None else 300
    return Rules((UNLIMITED,), per_image=per_image, federated=True, **options)
