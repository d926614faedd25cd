"""Refuse to train on data that hold no object to learn from."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.datasets.transforms import LoadPanopticAnnotations
from mmdet.registry import HOOKS
from mmengine.hooks import Hook


@HOOKS.register_module()
class LearnableDataHook(Hook):
    """Before the first iteration look for an object that some data set of the training teaches.

    A training on crowds, ignored objects or images without annotations runs to its end without a
    word. The search stops at the first object; it reads annotations, no images. Data sets without
    ``get_data_info`` are taken as they are.
    """

    def before_train(self, runner: Any) -> None:
        """Search the data sets, wrapped ones too.

        Raises:
            ValueError: There is no object; the message counts what was found instead.
        """
        found = []
        for dataset in innermost(runner.train_dataloader.dataset):
            if not hasattr(dataset, 'get_data_info'):
                return
            reasons: Counter[str] = Counter()
            for instance in instances_of(dataset):
                reason = why_not(instance, dataset)
                if reason is None:
                    return
                reasons[reason] += 1
            found.append(_description(dataset, reasons))
        raise ValueError('there is no object to learn from. ' + ' '.join(found))


def parts(dataset: Any) -> Iterator[Any]:
    """A data set and, if it wraps others, these."""
    yield dataset
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', [])]:
        if inner is not None:
            yield from parts(inner)


def innermost(dataset: Any) -> list[Any]:
    """The data sets that read files, below those that repeat or join others."""
    return [part for part in parts(dataset) if len(list(parts(part))) == 1]


def why_not(instance: Mapping[str, Any], dataset: Any) -> str | None:
    """Why nothing is learned of an annotation, as data sets parse it; None if something is."""
    if instance.get('ignore_flag'):
        return 'crowds or ignored'
    mask = instance.get('mask')
    for loader in mask_loaders(dataset):
        if not mask:
            return 'without a mask'
        if isinstance(mask, list):
            drawable = any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask)
            return None if drawable else 'polygons of less than three points'
        if not loader.poly2mask and not hasattr(loader, 'as_bitmaps'):
            return 'RLE, which LoadAnnotations ignores (use LoadMaskAnnotations)'
    return None


def mask_loaders(dataset: Any) -> list[Any]:
    """The steps of a data set's pipeline that load the masks of its annotations, also those inside
    a broadcaster; panoptic maps lie in files of their own."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    every = [one for step in steps for one in (step, *getattr(step, 'transforms', ()))]
    loaders = [one for one in every if getattr(one, 'with_mask', False)]
    return [one for one in loaders if not isinstance(one, LoadPanopticAnnotations)]


def instances_of(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """The annotations of all its images or frames, as data sets parse them."""
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        for image in info.get('images', [info]):  # of a video
            yield from image.get('instances', ())


def _description(dataset: Any, reasons: Counter[str]) -> str:
    counts = ', '.join(f'{count} {reason}' for reason, count in reasons.items())
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    shown = classes if classes is None or len(classes) < 10 else (*classes[:10], '...')
    return (
        f'{getattr(dataset, "ann_file", type(dataset).__name__)}: of the classes {shown} '
        f'{len(dataset)} images or videos are left by '
        f'filter_cfg={getattr(dataset, "filter_cfg", None)}, with '
        f'{sum(reasons.values())} annotations{f": {counts}" if counts else ""}. '
        'tools/check_annotations.py lists what is wrong with a file.'
    )
