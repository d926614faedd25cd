"""The classes a model knows, by name."""

from mmdet.registry import DATASETS
from torch import nn


def class_count(owner: nn.Module) -> int | None:
    """Classes of the box head of a detector or RoI head, else of another head; None without."""
    for name in ('bbox_head', 'mask_head', 'panoptic_head'):
        head = getattr(owner, name, None)
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        if count := getattr(head, 'num_classes', None):
            return count
    return None


def class_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the classes of a model from ``load_model``, in the order of the labels.

    A ValueError says that no list of names fits their number.
    """
    count = class_count(getattr(model, 'roi_head', model))
    names = tuple(model.dataset_meta.get('classes') or ())
    if count is not None and len(names) != count:
        # converted weights carry no names, and mmdet then assumes those of COCO
        dataset = {**model.cfg.test_dataloader.dataset, 'lazy_init': True}
        names = tuple(DATASETS.build(dataset).metainfo.get('classes') or ())
    if not names or count not in (None, len(names)):
        raise ValueError(
            f'the model has {count} classes, but neither checkpoint nor config names '
            'as many: set metainfo=dict(classes=...) in test_dataloader.dataset'
        )
    return names
