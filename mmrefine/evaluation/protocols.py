"""Protocols: which detections count, against which annotations.

AP* scores COCO detections on LVIS's finer masks: the protocol of PointRend (arXiv 1912.08193), with
the synsets of the LVIS v0.5 category list, which has all but those of `hot dog` and `oven`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmrefine.results.ground_truth import GroundTruth

IOU_TYPES = ('bbox', 'segm', 'boundary')
COCO_AREAS = {'all': (0, 1e10), 's': (0, 32**2), 'm': (32**2, 96**2), 'l': (96**2, 1e10)}
VIDEO_AREAS = {'all': (0, 1e10), 's': (0, 128**2), 'm': (128**2, 256**2), 'l': (256**2, 1e10)}
UNLIMITED = 1 << 30
PROTOCOLS = ('coco', 'lvis', 'lvis-fixed', 'coco-on-lvis')


@dataclass(frozen=True)
class Rules:
    """One protocol."""

    # best detections of an image and category that count, ascending; AP uses the last
    max_dets: tuple[int, ...] = (1, 10, 100)
    # name -> ``(least, most)`` in square pixels, both included; ``'all'`` is the first
    areas: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(COCO_AREAS))
    iou_thresholds: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
    dilation_ratio: float = 0.02  # width of the boundary band over the image diagonal
    # best detections an image that count, over all categories (LVIS: 300)
    per_image: int | None = None
    # best detections of a category over all images (fixed AP: 10,000)
    per_category: int | None = None
    # score only categories that were looked for in an image, and report r / c / f
    federated: bool = False
    # compare with a crowd by the share of the detection it covers (COCO), not by IoU
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


def require_choice(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError if a named option has none of the allowed values."""
    if value not in allowed:
        raise ValueError(f'{name} must be one of {", ".join(allowed)}; got {value!r}')


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
    """
    require_choice('protocol', protocol, PROTOCOLS)
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


def video_rules(
    max_dets: int | Sequence[int] | None = None, areas: Mapping[str, Sequence[float]] | None = None
) -> Rules:
    """Rules of YouTube-VIS, whose crowds are compared by IoU as any object.

    ``max_dets`` caps the tracks of a video and category; areas default to below 128^2, up to 256^2
    and larger.
    """
    rules = make_rules('coco', max_dets, VIDEO_AREAS if areas is None else areas)
    return replace(rules, crowd_overlap=False)


def read_truth(data: Any, protocol: str, name: str) -> GroundTruth:
    """Check a parsed annotation file and take what a protocol needs; ``name`` is used in messages.

    Raises:
        ValueError: Something is missing, doubled or does not refer to anything; no object counts.
    """
    if protocol == 'coco-on-lvis':
        data = cocofy(data, name)
    gt = GroundTruth.from_dict(data, federated=protocol != 'coco', name=name)
    require_objects(gt)
    return gt


def require_objects(gt: GroundTruth) -> None:
    """Raise ValueError if there are annotations and none of them is an object to be found."""
    flag = 'iscrowd' if gt.federation is None else 'ignore'
    if gt.annotations and all(a[flag] for a in gt.annotations):
        raise ValueError(
            f'{gt.name}: all {len(gt.annotations)} annotations have {flag}=1: no object is left to '
            f'be found, and every number would be -1. If they are objects, set {flag} to 0; some '
            'exporters, CVAT for one, mark every mask as a crowd'
        )


# COCO category id -> its name and the WordNet synset of the LVIS category that means the same.
# fmt: off
COCO_CATEGORIES = {
    1: ('person', 'person.n.01'), 2: ('bicycle', 'bicycle.n.01'), 3: ('car', 'car.n.01'),
    4: ('motorcycle', 'motorcycle.n.01'), 5: ('airplane', 'airplane.n.01'), 6: ('bus', 'bus.n.01'),
    7: ('train', 'train.n.01'), 8: ('truck', 'truck.n.01'), 9: ('boat', 'boat.n.01'),
    10: ('traffic light', 'traffic_light.n.01'), 11: ('fire hydrant', 'fireplug.n.01'),
    13: ('stop sign', 'stop_sign.n.01'), 14: ('parking meter', 'parking_meter.n.01'),
    15: ('bench', 'bench.n.01'), 16: ('bird', 'bird.n.01'), 17: ('cat', 'cat.n.01'),
    18: ('dog', 'dog.n.01'), 19: ('horse', 'horse.n.01'), 20: ('sheep', 'sheep.n.01'),
    21: ('cow', 'beef.n.01'), 22: ('elephant', 'elephant.n.01'), 23: ('bear', 'bear.n.01'),
    24: ('zebra', 'zebra.n.01'), 25: ('giraffe', 'giraffe.n.01'), 27: ('backpack', 'backpack.n.01'),
    28: ('umbrella', 'umbrella.n.01'), 31: ('handbag', 'bag.n.04'), 32: ('tie', 'necktie.n.01'),
    33: ('suitcase', 'bag.n.06'), 34: ('frisbee', 'frisbee.n.01'), 35: ('skis', 'ski.n.01'),
    36: ('snowboard', 'snowboard.n.01'), 37: ('sports ball', 'ball.n.06'),
    38: ('kite', 'kite.n.03'), 39: ('baseball bat', 'baseball_bat.n.01'),
    40: ('baseball glove', 'baseball_glove.n.01'), 41: ('skateboard', 'skateboard.n.01'),
    42: ('surfboard', 'surfboard.n.01'), 43: ('tennis racket', 'tennis_racket.n.01'),
    44: ('bottle', 'bottle.n.01'), 46: ('wine glass', 'wineglass.n.01'), 47: ('cup', 'cup.n.01'),
    48: ('fork', 'fork.n.01'), 49: ('knife', 'knife.n.01'), 50: ('spoon', 'spoon.n.01'),
    51: ('bowl', 'bowl.n.03'), 52: ('banana', 'banana.n.02'), 53: ('apple', 'apple.n.01'),
    54: ('sandwich', 'sandwich.n.01'), 55: ('orange', 'orange.n.01'),
    56: ('broccoli', 'broccoli.n.01'), 57: ('carrot', 'carrot.n.01'), 58: ('hot dog', 'frank.n.02'),
    59: ('pizza', 'pizza.n.01'), 60: ('donut', 'doughnut.n.02'), 61: ('cake', 'cake.n.03'),
    62: ('chair', 'chair.n.01'), 63: ('couch', 'sofa.n.01'), 64: ('potted plant', 'pot.n.04'),
    65: ('bed', 'bed.n.01'), 67: ('dining table', 'dining_table.n.01'),
    70: ('toilet', 'toilet.n.02'), 72: ('tv', 'television_receiver.n.01'),
    73: ('laptop', 'laptop.n.01'), 74: ('mouse', 'mouse.n.04'),
    75: ('remote', 'remote_control.n.01'), 76: ('keyboard', 'computer_keyboard.n.01'),
    77: ('cell phone', 'cellular_telephone.n.01'), 78: ('microwave', 'microwave.n.02'),
    79: ('oven', 'oven.n.01'), 80: ('toaster', 'toaster.n.02'), 81: ('sink', 'sink.n.01'),
    82: ('refrigerator', 'electric_refrigerator.n.01'), 84: ('book', 'book.n.01'),
    85: ('clock', 'clock.n.01'), 86: ('vase', 'vase.n.01'), 87: ('scissors', 'scissors.n.01'),
    88: ('teddy bear', 'teddy.n.01'), 89: ('hair drier', 'hand_blower.n.01'),
    90: ('toothbrush', 'toothbrush.n.01'),
}
# fmt: on


def cocofy(lvis: Mapping[str, Any], name: str = 'the ground truth') -> dict[str, Any]:
    """Keep the LVIS annotations of COCO's 80 classes, under COCO's category ids, in a new file.

    The categories verified as absent and those not annotated to the end are translated likewise, so
    the result is an LVIS file (v0.5 or v1, as the given one) again and is scored by LVIS's
    federated rules. All images stay.
    """
    GroundTruth.from_dict(lvis, federated=True, name=name)  # checks it
    categories = lvis['categories']
    if any('synset' not in c for c in categories):
        raise ValueError(
            f'{name} has categories without "synset": AP* needs an LVIS annotation file'
        )
    by_synset = {synset: i for i, (_, synset) in COCO_CATEGORIES.items()}
    target = {c['id']: by_synset[c['synset']] for c in categories if c['synset'] in by_synset}
    frequency = {target[c['id']]: c['frequency'] for c in categories if c['id'] in target}

    def translate(image: Mapping) -> dict:
        lists = ('neg_category_ids', 'not_exhaustive_category_ids')
        return {
            **image,
            **{k: sorted({target[c] for c in image[k] if c in target}) for k in lists},
        }

    return {
        **lvis,
        'images': [translate(image) for image in lvis['images']],
        'annotations': [
            {**a, 'category_id': target[a['category_id']]}
            for a in lvis.get('annotations') or ()
            if a['category_id'] in target
        ],
        'categories': [
            {'id': i, 'name': name, 'synset': synset, 'frequency': frequency.get(i, 'f')}
            for i, (name, synset) in COCO_CATEGORIES.items()
        ],
    }
