"""Take the predictions of data samples, from a model or a dump; masks may be dense or RLE."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mmrefine.masks import encode
from mmrefine.masks.run_lengths import to_counts

from .entries import coco_entry
from .ground_truth import GroundTruth, Id


def to_numpy(values: Any) -> np.ndarray:
    """Bring a tensor of any device, array or list to the CPU; empty lists become empty arrays."""
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(getattr(values, 'tensor', values))


def first_of_each(found: Iterable[tuple[Id, Any, Any]], what: str = 'image') -> dict[Id, Any]:
    """Id -> what was found first, of triples of id, file and what was found there.

    Samplers repeat images to make the ranks' shares equal. A ValueError says that one id stands for
    two files.
    """
    first: dict[Id, tuple] = {}
    for key, path, value in found:
        known, _ = first.setdefault(key, (path, value))
        if known != path:
            raise ValueError(
                f'{what} {key!r} was predicted of two files, {known} and {path}: test the parts of '
                'a ConcatDataset one by one, each with its own annotations'
            )
    return {key: value for key, (_, value) in first.items()}


def mask_counts(masks: Any, size: tuple[int, int], label: str) -> list[bytes]:
    """Take the masks of one image as compressed RLE counts.

    Args:
        masks: Bool or 0/1 Tensor[N, h, w] or array, or a list of RLEs; one dense mask is encoded at
            a time.
        size: ``(h, w)`` of the original image; a ValueError names masks of another size.
        label: Names the image in messages.
    """
    if isinstance(masks, (Tensor, np.ndarray)):
        if tuple(masks.shape[1:]) != tuple(size):
            raise ValueError(
                f'{label}: masks of {tuple(masks.shape[1:])} pixels, the image has {tuple(size)}: '
                'predict with rescale=True'
            )
        return [encode(masks[i : i + 1])[0]['counts'] for i in range(len(masks))]
    if not isinstance(masks, Sequence):
        raise ValueError(f'{label}: masks are a {type(masks).__name__}: expected a tensor or RLEs')
    counts = []
    for i, rle in enumerate(masks):
        try:
            counts.append(to_counts(rle, size))
        except ValueError as error:
            raise ValueError(f'{label}, instance {i}: {error}') from None
    return counts


def read_instances(
    pred: Mapping, size: tuple[int, int], label: str, need_masks: bool = False
) -> dict[str, Any]:
    """Take and check the predictions of one image.

    Args:
        pred: ``bboxes`` (x1, y1, x2, y2), ``scores``, ``labels`` and perhaps ``masks``,
            ``mask_scores``.
        size: ``(h, w)`` of the original image.
        label: Names the image in messages.
        need_masks: Refuse instances without masks.

    Returns:
        ``boxes`` float64 array[N, 4] (x, y, w, h), ``scores``, ``mask_scores`` (or None),
        ``labels`` arrays[N] and ``counts``, N compressed RLE counts (or None).
    """
    counts = mask_counts(pred['masks'], size, label) if 'masks' in pred else None
    found = read_boxes(pred, label)
    if need_masks and counts is None:
        if len(found['scores']):
            raise ValueError(f'{label}: the predictions have no masks, which this metric scores')
        counts = []
    return {**found, 'counts': counts}


def read_boxes(pred: Mapping, label: str) -> dict[str, Any]:
    """``read_instances`` without ``counts``: of the masks only their number is checked."""
    scores = to_numpy(pred['scores']).astype(np.float64).reshape(-1)
    boxes = to_numpy(pred['bboxes']).astype(np.float64).reshape(-1, 4).copy()
    labels = to_numpy(pred['labels']).astype(np.int64).reshape(-1)
    rated = to_numpy(pred['mask_scores']).astype(np.float64) if 'mask_scores' in pred else None
    parts = (scores, boxes, labels, rated, pred.get('masks'))
    lengths = {len(part) for part in parts if part is not None}
    if len(lengths) > 1:
        raise ValueError(
            f'{label}: scores, bboxes, labels and masks differ in number: {sorted(lengths)}'
        )
    for name, values in (('score', scores), ('mask score', rated)):
        if values is None:
            continue
        for i in np.flatnonzero(~np.isfinite(values))[:1]:
            raise ValueError(
                f'{label}, instance {i}: {name} {values[i]} (training has probably diverged)'
            )
    boxes[:, 2:] -= boxes[:, :2]
    for i in np.flatnonzero(~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1))[:1]:
        x, y, w, h = boxes[i].tolist()
        raise ValueError(
            f'{label}, instance {i}: the box {x, y, x + w, y + h} is not finite or has x2 < x1 '
            'or y2 < y1'
        )
    return {'boxes': boxes, 'scores': scores, 'mask_scores': rated, 'labels': labels}


def mask_scores(found: Mapping) -> np.ndarray:
    """What rates the masks of ``read_instances``: their own scores, or those of the boxes."""
    return found['scores'] if found['mask_scores'] is None else found['mask_scores']


def sample_entries(
    sample: dict, gt: GroundTruth, categories: Sequence[Id]
) -> Iterator[dict[str, Any]]:
    """Turn the predictions of one image into COCO result entries, with masks if there are any.

    Args:
        sample: With ``img_id``, ``ori_shape`` and ``pred_instances`` (dict or InstanceData).
        gt: Sizes of the images.
        categories: Category id of every label.
    """
    image = sample['img_id']
    if image not in gt.sizes:
        raise ValueError(f'image {image!r} is not in {gt.name}')
    size = gt.sizes[image]
    pred: Any = sample.get('pred_instances')
    if not hasattr(pred, 'keys'):  # a dict of a dump, InstanceData of a model
        raise ValueError(
            f'image {image!r} of the dump has no pred_instances (it has {sorted(map(str, sample))})'
            ': write it with `mim test --out` from a detector'
        )
    missing = [key for key in ('scores', 'bboxes', 'labels') if key not in pred]
    if missing:
        raise ValueError(
            f'image {image!r} of the dump has pred_instances without {", ".join(missing)} (they '
            f'have {sorted(map(str, pred.keys()))}): write it with `mim test --out` from a detector'
        )
    found = read_instances(pred, size, f'image {image!r}')
    scores = mask_scores(found)
    for i, label in enumerate(found['labels'].tolist()):
        if not 0 <= label < len(categories):
            raise ValueError(
                f'image {image!r}: label {label}, but {gt.name} has {len(categories)} categories'
            )
        counts = None if found['counts'] is None else found['counts'][i]
        box = found['boxes'][i].tolist()
        yield coco_entry(image, categories[label], float(scores[i]), box, counts, size)
