"""Every RoI head of ours says what it cannot work with: NaN anywhere, labels, classes."""

import pytest
import torch
from locations import ROOT
from mixed.batch import images, samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

CONFIGS = [
    'refinemask/refinemask_r50_fpn_1x_coco',
    *(f'mixed/refinemask-{b}_r50_fpn_1x_coco' for b in ('cascade', 'htc', 'dynamic', 'queryinst')),
    'sharpmask/sharpmask-roi_r50_fpn_1x_coco',
    'sharpmask/sharpmask-roi-cascade_r50_fpn_1x_coco',
    'mixed/sharpmask-roi-htc_r50_fpn_1x_coco',
    'mixed/sharpmask-roi-dynamic_r50_fpn_1x_coco',
]
NAMES = [config.split('/')[1].split('_')[0] for config in CONFIGS]
every_config = pytest.mark.parametrize('config', CONFIGS, ids=NAMES)


def small(config: str, **mask_head: int) -> nn.Module:
    model = shrink(Config.fromfile(ROOT / 'configs' / f'{config}.py').model)
    heads = model.roi_head.mask_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(mask_head)
    torch.manual_seed(0)
    detector = MODELS.build(model)
    detector.init_weights()  # learnt boxes start valid
    return detector


# of NaN offsets the stock RPN leaves no proposals, which is legal
PARTS = ['backbone', 'rpn_head.rpn_cls', 'roi_head.bbox_head', 'roi_head.mask_head']


@pytest.mark.parametrize('part', PARTS)
@every_config
def test_nan_in_any_part_is_an_error(config: str, part: str) -> None:
    model = small(config).eval()
    if 'queryinst' in config:
        part = part.removesuffix('.rpn_cls')  # learnt boxes
    with torch.no_grad():
        assert model.predict(images(), samples())[0].pred_instances.masks is not None
        for weight in model.get_submodule(part).parameters():
            weight.fill_(float('nan'))
        with pytest.raises(FloatingPointError, match='not finite: look for NaN'):
            model.predict(images(), samples())


def test_sharpmask_in_a_stock_roi_head_says_so_of_its_masks() -> None:
    stock = Config.fromfile(ROOT / 'configs' / f'{CONFIGS[-1]}.py').model
    stock.roi_head.type = 'StandardRoIHead'
    model = MODELS.build(shrink(stock)).eval()
    with torch.no_grad():
        for weight in model.roi_head.mask_head.parameters():
            weight.fill_(float('nan'))
        with pytest.raises(FloatingPointError, match='mask logits are not finite'):
            model.predict(images(), samples())


@every_config
def test_classes_of_the_box_head_are_those_of_the_mask_head(config: str) -> None:
    with pytest.raises(ValueError, match=r'num_classes=9.*bbox_head.num_classes=4'):
        small(config, num_classes=9)


@pytest.mark.parametrize('label', [4, -1])
@every_config
def test_labels_are_classes(config: str, label: int) -> None:
    data = samples()
    data[0].gt_instances.labels[0] = label
    with pytest.raises(ValueError, match=f'label {label}'):
        small(config).loss(images(), data)


@every_config
def test_ground_truth_needs_masks(config: str) -> None:
    data = samples()
    del data[1].gt_instances.masks
    with pytest.raises(ValueError, match='set with_mask=True'):
        small(config).loss(images(), data)


def proposals() -> list[InstanceData]:
    """Of both images, in single precision: mmcv's NMS kernel for the CPU has no other."""
    boxes = torch.tensor([[4.0, 4, 60, 50], [20, 10, 44, 62]])
    return [InstanceData(bboxes=boxes, scores=torch.ones(2)) for _ in range(2)]


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('config', [c for c in CONFIGS if 'queryinst' not in c])
def test_bf16_autocast_pools_in_single_precision(config: str, layout: torch.memory_format) -> None:
    model = small(config)
    with torch.no_grad():
        x = tuple(m.to(memory_format=layout) for m in model.extract_feat(images()))
        expected = model.eval().roi_head.predict(x, proposals(), samples())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        with torch.no_grad():
            low = tuple(m.bfloat16() for m in x)
            found = model.roi_head.predict(low, proposals(), samples())
        losses = model.train().roi_head.loss(low, proposals(), samples())
    for a, b in zip(found, expected):
        assert a.masks.dtype == torch.bool and len(a) and abs(len(a) - len(b)) < 3
        assert abs(float(a.scores.max() - b.scores.max())) < 0.02
    total, _ = model.parse_losses({k: v for k, v in losses.items() if 'loss' in k})
    total.backward()
    assert total.isfinite()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('config', [c for c in CONFIGS if 'queryinst' not in c])
def test_models_in_half_precision_run(config: str, dtype: torch.dtype) -> None:
    model = small(config).eval()
    with torch.no_grad():
        x = model.extract_feat(images())
        expected = model.roi_head.predict(x, proposals(), samples())
        low = tuple(level.to(dtype) for level in x)
        found = model.to(dtype).roi_head.predict(low, proposals(), samples())
    for a, b in zip(found, expected):
        assert a.masks.dtype == torch.bool and len(a) and abs(len(a) - len(b)) < 3
        assert abs(float(a.scores.max() - b.scores.max())) < 0.02
