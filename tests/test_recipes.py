"""The published configs train and score as the originals did.

``data/recipes.csv`` lists the settings of the originals, with the place each was read at; every
published config, resolved with the bases of the installed MMDetection, must have them.
"""

import ast
import csv
import functools
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from doc_options import lookup
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import mmrefine

TABLE = ROOT / 'tests' / 'data' / 'recipes.csv'
FILES = {path.stem: path for path in (ROOT / 'configs').rglob('*.py')}
MISSING = object()


@functools.cache
def table() -> dict[str, list[tuple[str, Any]]]:
    """Config -> its settings and their values in the original."""
    rows: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    with TABLE.open() as file:
        for row in csv.DictReader(file):
            assert row['source']
            for name in row['configs'].split():
                rows[name].append((row['setting'], ast.literal_eval(row['value'])))
    return rows


@functools.cache
def config(name: str) -> Config:
    return Config.fromfile(FILES[name])


# ------------------------------------------------------------------------- reading resolved configs


def innermost(dataset: dict) -> dict:
    return innermost(dataset['dataset']) if 'dataset' in dataset else dataset


def transforms(cfg: dict) -> list[dict]:
    """The training pipeline, with what is broadcast to the frames of a clip."""
    dataset = cfg['train_dataloader']['dataset']
    found = dataset.get('pipeline') or innermost(dataset)['pipeline']
    return [part for one in found for part in (one, *one.get('transforms', ()))]


def transform(cfg: dict, *names: str) -> dict:
    matches = [one for one in transforms(cfg) if one['type'] in names]
    assert len(matches) == 1, names
    return matches[0]


def pipeline_of_tests(cfg: dict) -> list[dict]:
    found = innermost(cfg['test_dataloader']['dataset'])['pipeline']
    return [part for one in found for part in (one, *one.get('transforms', ()))]


def steps(cfg: dict) -> list[tuple[int, float]]:
    return [
        (milestone, one['gamma'])
        for one in cfg['param_scheduler'] or ()
        if one['type'] == 'MultiStepLR'
        for milestone in one['milestones']
    ]


def warmup(cfg: dict) -> tuple | None:
    found = [one for one in cfg['param_scheduler'] or () if one['type'] != 'MultiStepLR']
    if not found:
        return None
    (one,) = found
    assert one['begin'] == 0 and not one['by_epoch']
    return one['type'], one['end'], one.get('factor', one.get('start_factor'))


def length(cfg: dict) -> tuple[str, int]:
    loop = cfg['train_cfg']
    by_epoch = loop['type'] == 'EpochBasedTrainLoop'
    return ('epochs', loop['max_epochs']) if by_epoch else ('iters', loop['max_iters'])


def resize(cfg: dict) -> tuple[str, list]:
    names = ('Resize', 'TruncatedResize', 'RandomResize', 'RandomChoiceResize')
    one = transform(cfg, *names)
    scales = one.get('scales', one.get('scale'))
    scales = [tuple(scale) for scale in (scales if isinstance(scales, list) else [scales])]
    kind = {'RandomResize': 'range', 'RandomChoiceResize': 'choice'}.get(one['type'], 'fixed')
    return kind, sorted(scales)


def scale_of_tests(cfg: dict) -> list[tuple]:
    found = [one for one in pipeline_of_tests(cfg) if 'Resize' in one['type']]
    return [tuple(one['scale']) for one in found]


def flip(cfg: dict) -> tuple[str, float]:
    one = transform(cfg, 'RandomFlip', 'InclusiveFlip')
    return one['type'], one['prob']


def augmentation(cfg: dict) -> list[tuple]:
    light = transform(cfg, 'PhotoMetricDistortion')
    crop = transform(cfg, 'MinIoURandomCrop')
    keys = ('brightness_delta', 'contrast_range', 'saturation_range', 'hue_delta')
    return [
        ('PhotoMetricDistortion', *(light[key] for key in keys)),
        ('Expand', transform(cfg, 'Expand')['ratio_range']),
        ('MinIoURandomCrop', crop['min_ious'], crop['min_crop_size']),
    ]


def oversample(cfg: dict) -> float:
    assert cfg['train_dataloader']['dataset']['type'] == 'ClassBalancedDataset'
    return cfg['train_dataloader']['dataset']['oversample_thr']


def repeats(cfg: dict) -> int:
    dataset = cfg['train_dataloader']['dataset']
    return dataset['times'] if dataset['type'] == 'RepeatDataset' else 1


def polygons(cfg: dict) -> bool:
    loader = transform(cfg, 'LoadAnnotations', 'LoadMaskAnnotations', 'LoadTrackMaskAnnotations')
    return loader['type'] == 'LoadMaskAnnotations' or not loader.get('poly2mask', True)


def batch(cfg: dict) -> int:
    return cfg['auto_scale_lr'].get('base_batch_size', cfg['train_dataloader']['batch_size'])


def rcnn(cfg: dict) -> dict:
    return cfg['model']['test_cfg'].get('rcnn', cfg['model']['test_cfg'])


def clip(cfg: dict) -> float | None:
    limit = cfg['optim_wrapper'].get('clip_grad')
    return limit and limit['max_norm']


def optimizer(key: str) -> Any:
    return lambda cfg: cfg['optim_wrapper']['optimizer'][key]


def preprocessor(key: str) -> Any:
    return lambda cfg: cfg['model']['data_preprocessor'][key]


def mask_threshold(cfg: dict) -> float:
    found = rcnn(cfg)
    return found.get('mask_thr_binary', found.get('mask_thr'))


def stage_classes(cfg: dict) -> list[int]:
    """Number of classes of each stage of a RefineMask head."""
    head = cfg['model']['roi_head']
    with torch.device('meta'):
        classes = head['bbox_head']['num_classes']
        return MODELS.build(dict(head['mask_head'], num_classes=classes)).stage_classes


SETTINGS: dict[str, Any] = {
    'lr': optimizer('lr'),
    'momentum': optimizer('momentum'),
    'weight_decay': optimizer('weight_decay'),
    'clip': clip,
    'length': length,
    'steps': steps,
    'warmup': warmup,
    'batch': batch,
    'images_per_gpu': lambda cfg: cfg['train_dataloader']['batch_size'],
    'scaled_with_batch': lambda cfg: 'base_batch_size' in cfg['auto_scale_lr'],
    'train_ann': lambda cfg: Path(innermost(cfg['train_dataloader']['dataset'])['ann_file']).name,
    'test_ann': lambda cfg: Path(innermost(cfg['test_dataloader']['dataset'])['ann_file']).name,
    'min_size': lambda c: innermost(c['train_dataloader']['dataset'])['filter_cfg']['min_size'],
    'repeats': repeats,
    'oversample': oversample,
    'resize': resize,
    'test_scale': scale_of_tests,
    'flip': flip,
    'boxes': lambda cfg: transform(cfg, 'InclusiveBoxes')['type'],
    'polygons': polygons,
    'augmentation': augmentation,
    'resample': lambda cfg: transform(cfg, 'CropObjectPatch')['resample'],
    'label_size': lambda cfg: transform(cfg, 'CropObjectPatch')['label_size'],
    'mean': preprocessor('mean'),
    'std': preprocessor('std'),
    'to_rgb': preprocessor('bgr_to_rgb'),
    'padding': preprocessor('pad_size_divisor'),
    'depth': lambda cfg: cfg['model']['backbone']['depth'],
    'style': lambda cfg: cfg['model']['backbone']['style'],
    'frozen_stages': lambda cfg: cfg['model']['backbone']['frozen_stages'],
    'bn_trains': lambda cfg: cfg['model']['backbone']['norm_cfg']['requires_grad'],
    'pretrained': lambda cfg: cfg['model']['backbone']['init_cfg']['checkpoint'],
    # mmdet's FPN has no other default
    'neck_init': lambda cfg: cfg['model']['neck'].get('init_cfg', {'type': 'Xavier'})['type'],
    'classes': lambda cfg: (cfg['model'].get('roi_head') or cfg['model'])['bbox_head'][
        'num_classes'
    ],
    'stage_classes': stage_classes,
    'score_thr': lambda cfg: rcnn(cfg)['score_thr'],
    'nms': lambda cfg: (rcnn(cfg)['nms'].get('type', 'nms'), rcnn(cfg)['nms']['iou_threshold']),
    'nms_pre': lambda cfg: rcnn(cfg)['nms_pre'],
    'max_per_img': lambda cfg: rcnn(cfg)['max_per_img'],
    'mask_thr': mask_threshold,
}


def dotted(cfg: dict, path: str) -> Any:
    """The value at a path; a class default where the config leaves it out."""
    node: Any = cfg
    owner, since = '', []
    for key in path.split('.'):
        if isinstance(node, dict) and 'type' in node:
            owner, since = node['type'], []
        since.append(key)
        if key == 'loss_cfg' and key not in node:  # RefineMask's heads have a default loss
            head = getattr(mmrefine, owner)
            weights = head.default_weights
            kind = head.default_loss.__name__
            node = {key: dict(type=kind, stage_instance_loss_weight=weights)}
        node = node.get(key, MISSING) if isinstance(node, dict) else MISSING
    return lookup('.'.join((owner, *since)))[0] if node is MISSING else node


def plain(value: Any) -> Any:
    """Lists and tuples alike."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.to_dict() if hasattr(value, 'to_dict') else value


# -------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize('name', sorted(table()))
def test_settings_are_those_of_the_original(name: str) -> None:
    cfg = config(name).to_dict()
    wrong = []
    for setting, value in table()[name]:
        if setting == 'parameter_rule':
            continue
        found = SETTINGS[setting](cfg) if setting in SETTINGS else dotted(cfg, setting)
        if plain(found) != plain(value):
            wrong.append(f'{setting}: {found!r}, the original has {value!r}')
    assert wrong == []


NEEDED = {'lr', 'momentum', 'weight_decay', 'clip', 'length', 'steps', 'warmup', 'batch'}
NEEDED |= {'parameter_rule', 'train_ann', 'test_ann', 'mean', 'depth', 'pretrained'}


def test_every_published_run_is_in_the_table() -> None:
    """Configs say in their first line which run they are; the table has all that do."""
    runs = {name for name, path in FILES.items() if path.read_text().startswith('# Run: ')}
    without_config = {'refinemask_r101_fpn_1x_lvis-v1'}
    on_2017 = {'deepmask_r50_300e_coco', 'sharpmask_r50_300e_coco'}
    assert runs - on_2017 <= set(table()), 'configs that name a run but are not in recipes.csv'
    assert set(table()) - runs <= {'sharpmask-steps_r50_300e_coco2014'} | without_config
    for name, rows in table().items():
        settings = [setting for setting, _ in rows]
        assert len(settings) == len(set(settings)), name
        assert NEEDED <= set(settings), (name, NEEDED - set(settings))


def test_published_figures_belong_to_configs_of_a_run() -> None:
    for path in (ROOT / 'configs').rglob('metafile.yml'):
        for entry in yaml.safe_load(path.read_text())['Models']:
            if any('ource' in key for row in entry.get('Results') or () for key in row['Metrics']):
                first = (ROOT / entry['Config']).read_text().split('\n')[0]
                assert first.startswith(('# Run: ', '# DeepMaskZoom', '# SharpMaskZoom')), first


# A parameter's name here -> (factor of the rate, factor of the decay) by the rule of the original
RULES = {
    'none': lambda name, module: (1.0, 1.0),
    'bias': lambda name, module: (2.0, 0.0) if 'bias' in name else (1.0, 1.0),
    'mmdet1': lambda name, module: (
        (2.0, 0.0)
        if not re.search(r'(bn|gn)(\d+)?.(weight|bias)', name) and name.endswith('.bias')
        else (1.0, 1.0)
    ),
    'norm_no_decay': lambda name, module: (1.0, 0.0 if 'Norm' in type(module).__name__ else 1.0),
}


@pytest.mark.parametrize('name', sorted(table()))
def test_parameters_learn_and_decay_by_the_rule_of_the_original(name: str) -> None:
    cfg = config(name)
    rule = RULES[dict(table()[name])['parameter_rule']]
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {id(one): (g['lr'], g['weight_decay']) for g in groups for one in g['params']}
    base = cfg.optim_wrapper.optimizer
    wrong = []
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner = model.get_submodule(key.rpartition('.')[0])
        rate, decay = rule(key, owner)
        if found[id(parameter)] != (base.lr * rate, base.weight_decay * decay):
            wrong.append(f'{key}: {found[id(parameter)]}')
    assert wrong == []
