"""What every head checks of its labels and of its outputs, with one message for all."""

import torch
from mmdet.utils import InstanceList
from torch import Tensor


def require_labels(gt_instances: InstanceList, num_classes: int) -> None:
    """Check ``labels`` LongTensor[G] of every image where they enter training; one transfer to the
    host.
    """
    labels = torch.cat([gt.labels for gt in gt_instances])
    if len(labels) == 0:
        return
    lowest, highest = torch.stack(labels.aminmax()).tolist()
    if lowest < 0:
        raise ValueError(f'labels count from 0, but the ground truth holds label {lowest}')
    if highest >= num_classes:
        raise ValueError(
            f'the ground truth holds label {highest}, but num_classes={num_classes} knows labels '
            f'up to {num_classes - 1}: set num_classes of every head to the number of classes in '
            f'metainfo of the data set, at least {highest + 1}'
        )


def require_masks(gt_instances: InstanceList, metas: list[dict]) -> None:
    """Check that every image has ``masks`` that were annotated; ``metas`` name one in the
    ValueError that does not.

    Predictions, which have ``scores``, are refused: whoever makes them the ground truth of another
    view of the picture (``SemiBaseDetector``) moves their boxes and not their masks.
    """
    for gt, meta in zip(gt_instances, metas):
        image = f'(image {meta.get("img_path", meta.get("img_id"))})'
        if 'masks' not in gt:
            raise ValueError(
                'there is nothing to learn masks from: set with_mask=True in LoadAnnotations '
                + image
            )
        if 'scores' in gt:
            raise ValueError(
                'masks that a model predicted stay where they are when their boxes are moved to '
                f'another view: train on annotated masks, without a teacher {image}'
            )


def require_finite(source: str, *values: Tensor) -> None:
    """Check the outputs of a network before they become detections; one transfer to the host.

    ``source`` says in the FloatingPointError what gives the values, which are of any shape, all on
    one device.
    """
    # A sum takes no memory, and no value that is not finite cancels out of it.
    sums = [v.sum(dtype=torch.promote_types(v.dtype, torch.float32)) for v in values]
    if not all(torch.stack(sums).isfinite().tolist()):
        raise FloatingPointError(
            f'{source} are not finite: look for NaN in the checkpoint or in the input image'
        )
