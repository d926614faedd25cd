"""A config that trains a base config on one's own data.

It says only what differs from its base: the data, the number of classes wherever the base's stands,
the scale of the pictures, the learning rate for the batch in use, and what to keep and show.
"""

import copy
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmrefine.results.files import refuse_overwriting

from .load_model import read_config
from .prepare_data import PreparedData

BASES = {
    'refinemask': 'mmrefine::refinemask/refinemask_r50_fpn_1x_coco.py',
    'sipmask': 'mmrefine::sipmask/sipmask_r50_fpn_1x_coco.py',
    'embedmask': 'mmrefine::embedmask/embedmask-adet_r50_fpn_ms-1x_coco.py',
}
ITERATIONS = 3000  # below which a pretrained detector of this size is far from done
SHARED = 'test_dataloader = val_dataloader\ntest_evaluator = val_evaluator\n'
EPOCHS = (12, 200)  # fewest and most
LONG = 20000  # iterations of schedules made for COCO
COUNTS = ('num_classes', 'num_things_classes')
SCALE = (1333, 800)  # beyond which published schedules do not go
LOADERS = ('LoadAnnotations', 'LoadMaskAnnotations')  # the second one always loads masks
RESIZES = ('Resize', 'RandomResize', 'RandomChoiceResize', 'TruncatedResize')
DIVISOR = 32  # of the sides that a pyramid which adds its levels up again takes
NEEDED = ('model', 'train_dataloader', 'test_dataloader', 'train_cfg', 'optim_wrapper')


def write_config(path: Path, base: str, data: PreparedData, batch_size: int = 2) -> list[str]:
    """Write the config.

    Args:
        path: Where to; the base is written relative to it, or as ``mmrefine::`` or ``mmdet::``.
        base: Key of ``BASES``, or a config.
        data: What the set is like.
        batch_size: Pictures of one iteration, for which the learning rate is set.

    Returns:
        Sentences on what was set.

    Raises:
        OSError: There is no such base.
        ValueError: It is no config of a detector with masks, or the file to write.
    """
    base = BASES.get(base, base)
    refuse_overwriting(path, base=base)
    known = '::' in base
    if not known and not Path(base).is_file():
        raise OSError(f'there is no config {base}: name {", ".join(BASES)}, or a file')
    reference = base if known else str(Path(base).resolve())
    read_config(base)  # names what is wrong with it, and runs no YAML
    try:
        config = Config.fromstring(f'_base_ = {reference!r}\n', '.py')
    except RuntimeError as error:  # written with `read_base()`
        raise ValueError(f'{base} cannot be the base of a config: {error}') from None
    if lacking := [key for key in NEEDED if not config.get(key)]:
        raise ValueError(
            f'{base} is no config that trains a detector: it lacks {", ".join(lacking)}'
        )
    _require_masks(config, base)
    notes: list[str] = []
    number = stated_classes(config.model)
    if number is None:
        raise ValueError(
            f'{base} has no number of classes in its model: give a detector of classes'
        )
    diff = Config({'model': _with_classes(config.model, number, len(data.classes))})
    diff.merge_from_dict({'model': _with_room(config.model, data.largest)})
    diff.merge_from_dict(_data(config, data, batch_size, notes))
    diff.merge_from_dict(_schedule(config, data, batch_size, notes))
    best = {'save_best': 'coco/boundary_mAP', 'rule': 'greater', 'max_keep_ckpts': 2}
    hooks = {
        'checkpoint': best,
        'summary': {'type': 'TrainingSummaryHook'},
        'learnable': {'type': 'LearnableDataHook'},
        'visualization': {'type': 'DetVisualizationHook', 'draw': True, 'interval': 20},
    }
    diff.merge_from_dict({'default_hooks': hooks, 'runner_type': 'mmdet.QuietRunner'})
    lines = [f'# {len(data.classes)} classes, {data.counts["train"][0]} pictures to train.']
    lines += [f'_base_ = {reference!r}']
    if not base.startswith('mmrefine::'):
        lines += ["custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)"]
    shared = '' if 'test' in data.counts else SHARED
    text = '\n'.join(lines) + '\n' + diff.pretty_text + shared
    if path.exists() and path.read_text(encoding='utf-8') != text:
        kept = _unused(path)
        path.rename(kept)
        notes.append(f'the former {path.name} differs, perhaps by your edits: kept as {kept.name}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    Config.fromfile(path)  # what was written must be readable
    return notes


def _unused(path: Path) -> Path:
    """The first of NAME_1.py, NAME_2.py, ... that does not exist."""
    names = (path.with_stem(f'{path.stem}_{number}') for number in count(1))
    return next(name for name in names if not name.exists())


def _require_masks(config: Config, base: str) -> None:
    """Raise ValueError if a base learns no masks, or not from the pictures of one set."""
    steps = _pipeline(config.train_dataloader.dataset)
    loaders = [step for step in steps if _name(step) in LOADERS]
    if not loaders or not _pipeline(config.test_dataloader.dataset):
        raise ValueError(
            f'{base} does not train on the instances of single pictures of one set (its data set '
            f'is {_name(config.train_dataloader.dataset)}): take a base without mixed pictures, '
            'joined sets, videos or panoptic maps'
        )
    if any(step.get('with_seg') for step in loaders):
        raise ValueError(
            f'{base} also learns from semantic maps (with_seg), which the pictures do not have: '
            'take a base without, such as mmdet::htc/htc-without-semantic_r50_fpn_1x_coco.py'
        )
    masks = any(step.get('with_mask') or _name(step) == LOADERS[1] for step in loaders)
    if not masks and 'segm' not in str(config.get('val_evaluator')):
        raise ValueError(f'{base} learns boxes alone: take a base with masks')


def stated_classes(model: Any) -> int | None:
    """Classes of a model config: the largest count in it; None without any."""
    counts = []
    for key, value in model.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        counts += [stated_classes(part) for part in parts if isinstance(part, dict)]
        if key in COUNTS and isinstance(value, int):
            counts.append(value)
    return max((count for count in counts if count), default=None)


def _with_classes(model: Any, old: int, new: int) -> dict:
    """The part of a model config that depends on the number of classes, changed.

    Counts of another value stay: a mask head of one class is class-agnostic. Lists are replaced as
    a whole, since MMEngine merges dicts only.
    """
    changed: dict[str, Any] = {}
    for key, value in model.items():
        if key in COUNTS and value == old:
            changed[key] = new
        elif key == 'class_weight' and isinstance(value, list) and len(value) == old + 1:
            changed[key] = [value[0]] * new + [value[-1]]  # the last one is the background's
        elif isinstance(value, dict):
            if inner := _with_classes(value, old, new):
                changed[key] = inner
        elif isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
            parts = [_with_classes(v, old, new) if isinstance(v, dict) else {} for v in value]
            if any(parts):
                changed[key] = [_merged(v, part) for v, part in zip(value, parts)]
    return changed


def _with_room(part: Any, objects: int) -> dict:
    """The part of a model config that keeps fewer detections of a picture than these, changed.

    Limits without a threshold of scores are those of proposals, or count queries.
    """
    inner = {k: _with_room(v, objects) for k, v in part.items() if isinstance(v, dict)}
    changed: dict[str, Any] = {key: change for key, change in inner.items() if change}
    if 'score_thr' in part and part.get('max_per_img', objects) < objects:
        changed['max_per_img'] = objects
    return changed


def _merged(value: Any, change: dict) -> Any:
    """A list entry as it will stand in the config: dicts replace what they hold, not their base."""
    if not change:
        return value
    merged = Config(copy.deepcopy(dict(value)))
    merged.merge_from_dict(change)
    return merged.to_dict()


def _data(config: Config, data: PreparedData, batch_size: int, notes: list[str]) -> dict:
    root = f'{data.image_root.as_posix()}/'
    files = {
        split: str((data.folder / 'annotations' / f'{split}.json').resolve())
        for split in data.counts
    }
    scale = picture_scale(data.sizes)
    train = _scaled(_pipeline(config.train_dataloader.dataset), scale)
    test = _scaled(_pipeline(config.test_dataloader.dataset), scale)
    factors = {step['scale_factor'] for step in train if 'scale_factor' in step}
    notes.append(
        f'pictures are scaled by {factors.pop():g}, as in the base'
        if factors
        else f'pictures are resized into {scale[0]} x {scale[1]}, ratio kept'
    )

    def loader(split: str, pipeline: list[dict], **kwargs: Any) -> dict:
        dataset = {
            '_delete_': True,
            'type': 'CheckedCocoDataset',
            'metainfo': {'classes': tuple(data.classes)},
            'data_root': '',
            'ann_file': files[split],
            'data_prefix': {'img': root},
            'pipeline': pipeline,
        }
        return {'dataset': dataset | kwargs}

    learning = loader('train', train, filter_cfg={'filter_empty_gt': True, 'min_size': 1})
    learning |= {'batch_size': batch_size, 'num_workers': 2}
    limit = {'max_dets': (1, 10, data.largest)} if data.largest > 100 else {}
    diff: dict[str, Any] = {'train_dataloader': learning}
    for split in (name for name in ('val', 'test') if name in files):
        checking = loader(split, test, test_mode=True) | {'batch_size': 1, 'num_workers': 2}
        evaluator = {'_delete_': True, 'type': 'MaskAPMetric', 'ann_file': files[split]}
        diff |= {f'{split}_dataloader': checking, f'{split}_evaluator': evaluator | limit}
    if 'test' in files:
        notes.append('validation chooses the checkpoint; `mim test` scores the test pictures')
    if limit:
        notes.append(
            f'up to {data.largest} objects a picture: max_per_img of the model and max_dets of the '
            'metric follow'
        )
    return diff


def picture_scale(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Longer and shorter side that pictures of these sizes are resized into: theirs, within
    published limits."""
    sides = np.sort(np.array(sizes), axis=1)
    short, long = np.percentile(sides, 90, axis=0)
    return min(SCALE[0], 32 * round(long / 32) or 32), min(SCALE[1], 32 * round(short / 32) or 32)


def _pipeline(dataset: Any) -> list[dict]:
    """Steps of a data set or of the one that it repeats; none where it joins several."""
    while dataset and ('pipeline' not in dataset or _name(dataset).endswith('RepeatDataset')):
        dataset = dataset.get('dataset')
    return list(dataset['pipeline']) if dataset else []


def _type(part: Any) -> str:
    """Class of a part of a config, as text even where it is given as a class."""
    kind = part['type']
    return kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__name__}'


def _name(part: Any) -> str:
    return _type(part).rpartition('.')[2]


def _scaled(step: Any, scale: tuple[int, int]) -> Any:
    """A step of a pipeline, or a list of steps, with the scale; types become text.

    A ``Pad`` to a size, which leaves larger pictures as they are, becomes one to whole strides in a
    pipeline that does not crop.
    """
    if isinstance(step, (list, tuple)):
        steps = [_scaled(one, scale) for one in step]
        pads = [one for one in steps if isinstance(one, dict) and _name(one) == 'Pad']
        for pad in pads if 'Crop' not in str(steps) else ():
            if pad.pop('size', None):
                pad['size_divisor'] = DIVISOR
        return steps
    step = {**copy.deepcopy(step), 'type': _type(step)}
    if 'transforms' in step:
        step['transforms'] = _scaled(step['transforms'], scale)
    if _name(step) not in RESIZES or 'scale_factor' in step:
        return step  # a factor keeps the pictures' own size
    key = 'scales' if 'scales' in step else 'scale'
    if isinstance(step[key], list):
        ratio = scale[1] / max(min(s) for s in step[key])
        step[key] = [(scale[0], max(32, round(min(s) * ratio))) for s in step[key]]
    else:
        step[key] = scale
    return step


def _schedule(config: Config, data: PreparedData, batch_size: int, notes: list[str]) -> dict:
    """Learning rate in proportion to the batch, and epochs enough for a small set.

    A base that trains for a few thousand iterations (the tiny ones) keeps its schedule.
    """
    diff: dict[str, Any] = {}
    base_batch = config.get('auto_scale_lr', {}).get('base_batch_size')
    rate = config.optim_wrapper.optimizer.get('lr')
    if base_batch and rate is not None:
        scaled = float(f'{rate * batch_size / base_batch:.6g}')
        notes.append(f'learning rate {scaled}: the base has {rate} for {base_batch} pictures')
        diff['optim_wrapper'] = {'optimizer': {'lr': scaled}}
        diff['auto_scale_lr'] = {'base_batch_size': batch_size}
    else:
        notes.append(f'learning rate {rate}, as in the base')
    if config.train_cfg.get('max_iters', LONG) < LONG:
        notes.append(f'{config.train_cfg.max_iters} iterations, as in the base')
        return diff
    steps = -(-data.counts['train'][0] // batch_size)
    epochs = min(max(-(-ITERATIONS // steps), EPOCHS[0]), EPOCHS[1])
    notes.append(f'{epochs} epochs of {steps} iterations')
    interval = max(epochs // 12, 1)
    diff['train_cfg'] = {
        '_delete_': True,
        'type': 'EpochBasedTrainLoop',
        'max_epochs': epochs,
        'val_interval': interval,
    }
    warm_up = min(500, epochs * steps // 10)
    milestones = [round(epochs * 2 / 3), round(epochs * 11 / 12)]
    diff['param_scheduler'] = [
        {'type': 'LinearLR', 'start_factor': 0.001, 'by_epoch': False, 'begin': 0, 'end': warm_up},
        {'type': 'MultiStepLR', 'by_epoch': True, 'milestones': milestones, 'gamma': 0.1},
    ]
    diff['default_hooks'] = {'checkpoint': {'by_epoch': True, 'interval': interval}}
    diff['log_processor'] = {'by_epoch': True}
    diff['train_dataloader'] = {
        'sampler': {'_delete_': True, 'type': 'DefaultSampler', 'shuffle': True}
    }
    diff |= _switches(config, epochs, picture_scale(data.sizes), notes)
    return diff


def _switches(config: Config, epochs: int, scale: tuple[int, int], notes: list[str]) -> dict:
    """Hooks that change the pipeline at an epoch: with the scale, at the same share of training."""
    hooks = copy.deepcopy(config.get('custom_hooks') or [])
    switches = [hook for hook in hooks if _name(hook) == 'PipelineSwitchHook']
    planned = config.train_cfg.get('max_epochs')
    for hook in switches:
        hook['switch_pipeline'] = _scaled(hook['switch_pipeline'], scale)
        if planned:
            hook['switch_epoch'] = round(hook['switch_epoch'] * epochs / planned)
            notes.append(
                f'the pipeline changes after epoch {hook["switch_epoch"]}, as late as in the base'
            )
    return {'custom_hooks': [{**hook, 'type': _type(hook)} for hook in hooks]} if switches else {}
