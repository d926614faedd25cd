"""Training patches drawn from any mmdet detection data set with masks.

Paper:    DeepMask, https://arxiv.org/abs/1506.06204
Origin:   facebookresearch/deepmask (DataSampler.lua)
Changes:  every draw follows from (seed, index); categories without a usable object are left out
          instead of searched for ever; crowds are no positives unless asked for; mask and score
          samples may share a batch; negatives compare positions in one frame unless a released
          rule is asked for.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

from mmrefine.masks.run_lengths import pixel_counts, rle_size, to_counts

from .patch_geometry import (
    NEGATIVE_KEYS,
    NEGATIVE_RULES,
    centred_crop,
    centres,
    far_from_objects,
    jittered_crops,
    object_size,
    scale_keys,
)
from .patch_transforms import naming

MODES = ('mixed', 'alternate')

_NEGATIVE_TRIES = 100
# Multiples of this fraction are spread evenly in every stride, so each rank sees both kinds of
# samples.
_GOLDEN_FRACTION = 0.6180339887498949


def segmentation_area(segmentation: list | Mapping[str, Any]) -> float:
    """Area in pixels of COCO polygons (shoelace) or RLE."""
    if isinstance(segmentation, Mapping):
        counts = to_counts(segmentation, rle_size(segmentation))
        return float(pixel_counts([counts])[0])
    area = 0.0
    for polygon in segmentation:
        x, y = np.asarray(polygon, dtype=float).reshape(-1, 2).T
        area += 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return area


def _is_drawable(segmentation: Any) -> bool:
    """Whether there is a mask, and none of its polygons lacks points."""
    if isinstance(segmentation, Mapping) or not segmentation:
        return bool(segmentation)
    return all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation)


@DATASETS.register_module()
class ObjectPatchDataset(BaseDataset):
    """Endless, reproducible patches with mask or score labels.

    A *mask* sample frames one object (category uniform, then object uniform) with jitter. A *score*
    sample is, with equal chance, an object in canonical framing or a window away from all objects
    of similar scale.

    Items are draws, not images. MMDetection's wrappers take the data set like any other, but repeat
    its first ``length`` patches every epoch.

    Args:
        dataset: mmdet detection data set (config or object) whose instances have ``mask``.
        pipeline: Transforms, starting with the loading of the image.
        length: Nominal number of patches per epoch; any larger index continues the sequence.
        patch: Window side in network pixels.
        context: Pixels of context around the window, both sides together.
        score_share: Share of score samples.
        mode: ``mixed`` draws the kind per sample, ``alternate`` per batch of ``batch_size``, the
            global one (published).
        min_area, min_side: Smallest mask area and box side in image pixels of mask samples.
        negative_rule: See ``far_from_objects``.
        crowd_positives: Parity: the released code also frames crowd regions as objects.
        seed: Seed of all draws.
        lazy_init: Read the annotations at ``full_init`` instead of now.
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
        negative_rule: str = 'one_frame',
        crowd_positives: bool = False,
        seed: int = 0,
        lazy_init: bool = False,
    ) -> None:
        if mode not in MODES or negative_rule not in NEGATIVE_RULES:
            raise ValueError(
                f'mode must be one of {MODES} and negative_rule one of {NEGATIVE_RULES}, '
                f'got {mode!r} and {negative_rule!r}'
            )
        if mode == 'alternate' and (not batch_size or length % batch_size):
            raise ValueError(
                "mode='alternate' needs batch_size, the batch size over all ranks, and a multiple "
                f'of it for length; got {batch_size} and {length}'
            )
        if not 0 <= score_share <= 1 or length < 1:
            raise ValueError(
                f'need 0 <= score_share <= 1, length >= 1; got {score_share}, {length}'
            )
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.length, self.seed = length, seed
        self.side, self.canonical = patch + context, object_size(patch)
        self.score_share, self.mode, self.batch_size = score_share, mode, batch_size
        self.min_area, self.min_side = min_area, min_side
        self.negative_rule, self.crowd_positives = negative_rule, crowd_positives
        super().__init__(pipeline=pipeline, serialize_data=False, lazy_init=lazy_init)

    @property
    def metainfo(self) -> dict:
        """Meta information of the wrapped data set."""
        return self.dataset.metainfo

    def load_data_list(self) -> list[dict]:
        """Index the objects of the wrapped data set; patches are drawn, so nothing is listed."""
        self.dataset.full_init()
        self._index_objects()
        return []

    def __len__(self) -> int:
        return self.length

    def _index_objects(self) -> None:
        """List the objects image by image: image, number in it, label, box, crowd, usable."""
        rows, bare = [], 0
        for image in range(len(self.dataset)):
            info = self.dataset.get_data_info(image)
            for number, instance in enumerate(info['instances']):
                x1, y1, x2, y2 = instance['bbox']
                width, height = x2 - x1, y2 - y1
                if width <= 0 or height <= 0:
                    continue
                crowd = bool(instance.get('ignore_flag', 0))
                large = min(width, height) >= self.min_side
                drawable = _is_drawable(instance.get('mask'))
                bare += not drawable
                usable = not crowd and large and drawable
                with naming(info, number):
                    usable = usable and segmentation_area(instance['mask']) >= self.min_area
                label, box = instance['bbox_label'], (x1, y1, width, height)
                rows.append((image, number, label, *box, crowd, usable))
        if bare == len(rows) > 0:
            raise ValueError(f'all {bare} objects are without masks; patches need instance masks')
        if bare:
            text = f'{bare} of {len(rows)} objects have no mask: they teach scores, not masks'
            warnings.warn(text, stacklevel=2)
        table = np.array(rows, float).reshape(-1, 9)
        self.images, self.numbers, self.labels = table[:, :3].T.astype(int)
        self.boxes = table[:, 3:7]
        self.keys = scale_keys(self.boxes, self.canonical)
        self.positive = (table[:, 7] == 0) | self.crowd_positives
        self._group(self.labels, usable=table[:, 8] == 1)

    def _group(self, labels: np.ndarray, usable: np.ndarray) -> None:
        """Group the objects by category for mask samples and by image for score samples."""
        self.by_category = [
            np.flatnonzero(usable & (labels == c)) for c in np.unique(labels[usable])
        ]
        self.score_images = np.unique(self.images[self.positive])
        # Objects are stored image by image, so an image's objects are one range.
        self.starts = np.searchsorted(self.images, np.arange(len(self.dataset) + 1))
        if self.score_share < 1 and not self.by_category:
            raise ValueError(
                'no object fits a mask sample (not crowd, area >= min_area, sides >= min_side): '
                'check the annotations or lower the limits'
            )
        if self.score_share > 0 and not len(self.score_images):
            raise ValueError('no image has an object, so no score sample can be drawn')
        dropped = sorted(set(labels.tolist()) - set(labels[usable].tolist()))
        if dropped:
            warnings.warn(
                f'categories without a usable object are never drawn: labels {dropped}',
                stacklevel=2,
            )

    def kind(self, index: int) -> str:
        """``mask`` or ``score``: what sample ``index`` trains."""
        if self.mode == 'alternate':
            draw = np.random.default_rng((self.seed, 1, index // (self.batch_size or 1))).random()
        else:
            draw = index * _GOLDEN_FRACTION % 1
        return 'score' if draw < self.score_share else 'mask'

    def draw(
        self, kind: str, rng: np.random.Generator
    ) -> tuple[int, int | None, np.ndarray, float]:
        """Draw a patch: image, object framed (None for a negative), crop (x, y, side, side) in
        image pixels, and score label."""
        return (self._draw_mask if kind == 'mask' else self._draw_score)(rng)

    def get_data_info(self, idx: int) -> dict:
        """Image information of patch ``idx`` with its crop, segmentation and labels."""
        rng, kind = np.random.default_rng((self.seed, 0, idx)), self.kind(idx)
        image, framed, crop, score = self.draw(kind, rng)
        info = self.dataset.get_data_info(image)
        instances = info.pop('instances')
        number = None if kind == 'score' else int(self.numbers[framed])
        return info | dict(
            patch_head=kind,
            patch_crop=crop,
            patch_score=score,
            patch_object=number,
            patch_segmentation=None if number is None else instances[number]['mask'],
            patch_draw=rng.random(),
        )

    def get_cat_ids(self, idx: int) -> list[int]:
        """Category of the object that patch ``idx`` frames; none for negatives."""
        rng = np.random.default_rng((self.seed, 0, idx))
        framed = self.draw(self.kind(idx), rng)[1]
        return [] if framed is None else [int(self.labels[framed])]

    def _draw_mask(self, rng: np.random.Generator) -> tuple[int, int | None, np.ndarray, float]:
        category = self.by_category[rng.integers(len(self.by_category))]
        chosen = category[rng.integers(len(category))]
        draws = rng.uniform(-1, 1, (1, 3))
        crop = jittered_crops(self.boxes[chosen : chosen + 1], draws, self.canonical, self.side)[0]
        return self.images[chosen], chosen, crop, 1.0

    def _draw_score(self, rng: np.random.Generator) -> tuple[int, int | None, np.ndarray, float]:
        image = self.score_images[rng.integers(len(self.score_images))]
        objects = np.arange(self.starts[image], self.starts[image + 1])
        if rng.random() < 0.5:
            objects = objects[self.positive[objects]]
            keys = np.unique(self.keys[objects])
            objects = objects[self.keys[objects] == keys[rng.integers(len(keys))]]
            chosen = objects[rng.integers(len(objects))]
            middle = centres(self.boxes[chosen : chosen + 1])[0]
            return image, chosen, centred_crop(middle, self.keys[chosen], self.side), 1.0
        info = self.dataset.get_data_info(image)
        keys = rng.choice(NEGATIVE_KEYS, _NEGATIVE_TRIES)
        spread = rng.random((_NEGATIVE_TRIES, 2)) * (info['width'], info['height'])
        candidates = np.column_stack([spread * 2.0 ** keys[:, None], keys])
        boxes = self.boxes[objects]
        accepted = far_from_objects(candidates, boxes, self.canonical, self.negative_rule)
        # Parity: after too many rejections the last draw is used, as published.
        first = int(accepted.argmax()) if accepted.any() else _NEGATIVE_TRIES - 1
        return image, None, centred_crop(spread[first], keys[first], self.side), 0.0


@DATA_SAMPLERS.register_module()
class ConsecutiveSampler(Sampler):
    """Consecutive indices that never repeat over epochs, interleaved over ranks.

    For data sets whose items are draws: epoch e yields ``e * len .. (e + 1) * len - 1``, so index
    // global batch size numbers the batches alike on all ranks. In other data sets, wrappers of
    patches included, the indices start again at the end. ``round_up`` and ``seed`` are accepted as
    by mmengine's samplers: all ranks always yield equally many, and the data set has the seed.
    """

    def __init__(self, dataset: Dataset, round_up: bool = True, seed: int | None = None) -> None:
        self.rank, self.world = get_dist_info()
        self.per_rank = -(-len(dataset) // self.world)
        self.epoch = 0
        self.size = None if isinstance(dataset, ObjectPatchDataset) else len(dataset)

    def __iter__(self) -> Iterator[int]:
        begin = self.epoch * self.per_rank
        for i in range(begin, begin + self.per_rank):
            index = i * self.world + self.rank
            yield index if self.size is None else index % self.size

    def __len__(self) -> int:
        return self.per_rank

    def set_epoch(self, epoch: int) -> None:
        """Continue with the indices of ``epoch``."""
        self.epoch = epoch
