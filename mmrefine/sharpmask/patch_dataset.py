"""Training patches drawn from any mmdet detection data set with masks.

Paper:    DeepMask, https://arxiv.org/abs/1506.06204
Origin:   facebookresearch/deepmask (DataSampler.lua)
Changes:  every draw follows from (seed, index); categories without a usable object are left out
          instead of searched for ever; crowds are no positives unless asked for; mask and score
          samples may share a batch.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import BaseDataset, Compose
from mmengine.dist import get_dist_info
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset, Sampler

from .patch_geometry import (
    NEGATIVE_KEYS,
    NEGATIVE_RULES,
    NegativeRule,
    centred_crop,
    centres,
    far_from_objects,
    jittered_crops,
    object_size,
    scale_keys,
)

MODES = ('mixed', 'alternate')
_NEGATIVE_TRIES = 100
# multiples of this fraction are spread evenly in every stride, so each rank sees both kinds of
# samples
_GOLDEN_FRACTION = 0.6180339887498949


def segmentation_area(segmentation: list | Mapping[str, Any]) -> float:
    """Area in pixels of COCO polygons (shoelace) or RLE."""
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation['counts'], list):
            return float(sum(segmentation['counts'][1::2]))
        return float(coco_mask.area(dict(segmentation)))
    area = 0.0
    for polygon in segmentation:
        x, y = np.asarray(polygon, dtype=float).reshape(-1, 2).T
        area += 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return area


@DATASETS.register_module()
class ObjectPatchDataset(Dataset):
    """Endless, reproducible patches with mask or score labels.

    A *mask* sample frames one object (category uniform, then object uniform) with jitter. A
    *score* sample is, with equal chance, an object in canonical framing or a window away from all
    objects of similar scale.

    Args:
        dataset: mmdet detection data set (config or object) whose instances have ``mask``.
        pipeline: Transforms, starting with the loading of the image.
        length: Nominal number of patches per epoch; any larger index continues the sequence.
        patch: Window side in network pixels.
        context: Pixels of context around the window, both sides together.
        score_share: Share of score samples.
        mode: ``mixed`` draws the kind per sample, ``alternate`` per batch of ``batch_size``
            (published).
        batch_size: Global batch size, needed by ``alternate``.
        min_area: Smallest mask area in image pixels of mask samples.
        min_side: Smallest box side in image pixels of mask samples.
        negative_rule: See ``far_from_objects``.
        crowd_positives: Parity: the released code also frames crowd regions as objects.
        seed: Seed of all draws.

    Raises:
        ValueError: Bad option, or no object fits.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        pipeline: list,
        length: int = 128000,
        patch: int = 160,
        context: int = 32,
        score_share: float = 0.5,
        mode: str = 'mixed',
        batch_size: int | None = None,
        min_area: float = 100.0,
        min_side: float = 5.0,
        negative_rule: NegativeRule = 'one_frame',
        crowd_positives: bool = False,
        seed: int = 0,
    ) -> None:
        if mode not in MODES or negative_rule not in NEGATIVE_RULES:
            raise ValueError(
                f'mode must be one of {MODES} and negative_rule one of {NEGATIVE_RULES}, '
                f'got {mode!r} and {negative_rule!r}'
            )
        if mode == 'alternate' and not batch_size:
            raise ValueError("mode='alternate' needs batch_size, the batch size over all ranks")
        if not 0 <= score_share <= 1 or length < 1:
            raise ValueError(
                f'need 0 <= score_share <= 1, length >= 1; got {score_share}, {length}'
            )
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        self.pipeline = Compose(pipeline)
        self.length, self.seed = length, seed
        self.side, self.canonical = patch + context, object_size(patch)
        self.score_share, self.mode, self.batch_size = score_share, mode, batch_size
        self.negative_rule = negative_rule
        self._index_objects(min_area, min_side, crowd_positives)

    @property
    def metainfo(self) -> dict:
        """Meta information of the wrapped data set."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return self.length

    def _index_objects(self, min_area: float, min_side: float, crowd_positives: bool) -> None:
        images, places, labels, boxes, usable, crowd = [], [], [], [], [], []
        for i in range(len(self.dataset)):
            for j, instance in enumerate(self.dataset.get_data_info(i)['instances']):
                if 'mask' not in instance:
                    raise ValueError(
                        f'image {i} has objects without masks; patches need instance masks'
                    )
                x1, y1, x2, y2 = instance['bbox']
                if x2 <= x1 or y2 <= y1:
                    continue
                ignore = bool(instance.get('ignore_flag', 0))
                large = min(x2 - x1, y2 - y1) >= min_side
                images.append(i)
                places.append(j)
                labels.append(instance['bbox_label'])
                boxes.append((x1, y1, x2 - x1, y2 - y1))
                crowd.append(ignore)
                usable.append(
                    not ignore and large and segmentation_area(instance['mask']) >= min_area
                )
        self.images, self.places = np.array(images, int), np.array(places, int)
        self.boxes = np.array(boxes, float).reshape(-1, 4)
        self.keys = scale_keys(self.boxes, self.canonical)
        hidden = np.array(crowd, bool) & (not crowd_positives)
        self._group(np.array(labels, int), np.array(usable, bool), hidden)

    def _group(self, labels: np.ndarray, usable: np.ndarray, hidden: np.ndarray) -> None:
        self.by_category = [
            np.flatnonzero(usable & (labels == c)) for c in np.unique(labels[usable])
        ]
        self.positive = ~hidden
        # objects are stored image by image, so an image's objects are one range
        order = np.unique(self.images[self.positive])
        self.score_images = order
        self.starts = np.searchsorted(self.images, np.arange(len(self.dataset) + 1))
        dropped = sorted(set(labels.tolist()) - set(labels[usable].tolist()))
        if self.score_share < 1 and not self.by_category:
            raise ValueError(
                'no object fits a mask sample (not crowd, area >= min_area, sides >= min_side): '
                'check the annotations or lower the limits'
            )
        if self.score_share > 0 and not len(self.score_images):
            raise ValueError('no image has an object, so no score sample can be drawn')
        if dropped:
            warnings.warn(
                f'categories without a usable object are never drawn: labels {dropped}',
                stacklevel=4,
            )

    def kind(self, index: int) -> str:
        """``mask`` or ``score``: what sample ``index`` trains."""
        if self.mode == 'alternate':
            draw = np.random.default_rng((self.seed, 1, index // (self.batch_size or 1))).random()
        else:
            draw = index * _GOLDEN_FRACTION % 1
        return 'score' if draw < self.score_share else 'mask'

    def __getitem__(self, index: int) -> Any:
        rng = np.random.default_rng((self.seed, 0, index))
        kind = self.kind(index)
        draw = self._draw_mask if kind == 'mask' else self._draw_score
        image, place, crop, score = draw(rng)
        info = self.dataset.get_data_info(image)
        instances = info.pop('instances')
        segmentation = None if kind == 'score' else instances[place]['mask']
        info.update(
            patch_head=kind,
            patch_crop=crop,
            patch_score=score,
            patch_segmentation=segmentation,
            patch_draw=rng.random(),
        )
        return self.pipeline(info)

    def _draw_mask(self, rng: np.random.Generator) -> tuple[int, int, np.ndarray, float]:
        category = self.by_category[rng.integers(len(self.by_category))]
        chosen = category[rng.integers(len(category))]
        draws = rng.uniform(-1, 1, (1, 3))
        crop = jittered_crops(self.boxes[chosen : chosen + 1], draws, self.canonical, self.side)[0]
        return self.images[chosen], self.places[chosen], crop, 1.0

    def _draw_score(self, rng: np.random.Generator) -> tuple[int, int, np.ndarray, float]:
        image = self.score_images[rng.integers(len(self.score_images))]
        objects = np.arange(self.starts[image], self.starts[image + 1])
        if rng.random() < 0.5:
            objects = objects[self.positive[objects]]
            keys = np.unique(self.keys[objects])
            objects = objects[self.keys[objects] == keys[rng.integers(len(keys))]]
            chosen = objects[rng.integers(len(objects))]
            middle = centres(self.boxes[chosen : chosen + 1])[0]
            return image, -1, centred_crop(middle, self.keys[chosen], self.side), 1.0
        info = self.dataset.get_data_info(image)
        keys = rng.choice(NEGATIVE_KEYS, _NEGATIVE_TRIES)
        spread = rng.random((_NEGATIVE_TRIES, 2)) * (info['width'], info['height'])
        candidates = np.column_stack([spread * 2.0 ** keys[:, None], keys])
        accepted = far_from_objects(
            candidates, self.boxes[objects], self.canonical, self.negative_rule
        )
        # as published, the last of many rejected draws is used
        first = int(accepted.argmax()) if accepted.any() else _NEGATIVE_TRIES - 1
        return image, -1, centred_crop(spread[first], keys[first], self.side), 0.0


@DATA_SAMPLERS.register_module()
class ConsecutiveSampler(Sampler):
    """Consecutive indices that never repeat over epochs, interleaved over ranks.

    For data sets whose items are draws: epoch e yields ``e * len .. (e + 1) * len - 1``, so index
    // global batch size numbers the batches alike on all ranks.

    Args:
        dataset: The data set.
        round_up: Accepted for compatibility; every rank always yields equally many.
        seed: Accepted for compatibility; the data set owns the seed.
    """

    def __init__(self, dataset: Dataset, round_up: bool = True, seed: int | None = None) -> None:
        self.rank, self.world = get_dist_info()
        self.per_rank = -(-len(dataset) // self.world)
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        begin = self.epoch * self.per_rank
        for i in range(begin, begin + self.per_rank):
            yield i * self.world + self.rank

    def __len__(self) -> int:
        return self.per_rank

    def set_epoch(self, epoch: int) -> None:
        """Continue with the indices of ``epoch``."""
        self.epoch = epoch
