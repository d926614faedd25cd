"""Norms, accumulated gradients and pasted objects, as users combine them with our heads."""

import numpy as np
import pytest
import tiny_embedmask
import tiny_export
import tiny_refinemask
import tiny_sipmask
import torch
from mmdet.datasets.transforms import CopyPaste, PackDetInputs
from mmdet.registry import MODELS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

BOXES = tiny_refinemask.BOXES
NORMS = [dict(type='SyncBN'), dict(type='GN', num_groups=2), dict(type='BN')]


def sipmask(norm: dict | None = None) -> nn.Module:
    return MODELS.build(tiny_sipmask.tiny_config(box=dict(norm_cfg=norm or tiny_sipmask.NORM)))


def embedmask(norm: dict | None = None) -> nn.Module:
    if norm is None:
        return tiny_embedmask.tiny_detector()
    model = tiny_embedmask.tiny_config().model
    model.bbox_head.norm_cfg = model.mask_head.norm_cfg = norm
    return MODELS.build(model)


def refinemask(norm: dict | None = None) -> nn.Module:
    detector = tiny_refinemask.tiny_detector()
    if norm is not None:
        detector.roi_head.mask_head = tiny_refinemask.tiny_head(norm_cfg=norm)
    return detector


MODELS_OF = dict(sipmask=sipmask, embedmask=embedmask, refinemask=refinemask)
FAMILIES = dict(sipmask=tiny_sipmask, embedmask=tiny_embedmask, refinemask=tiny_refinemask)


def batch(name: str) -> tuple[Tensor, list]:
    family = FAMILIES[name]
    samples = [family.sample(BOXES), family.sample(BOXES[:1])]
    return family.images(2 if name == 'refinemask' else samples), samples


@pytest.mark.parametrize('norm', NORMS, ids=[norm['type'] for norm in NORMS])
@pytest.mark.parametrize('name', MODELS_OF)
def test_any_norm_trains(name: str, norm: dict) -> None:
    model = MODELS_OF[name](norm)
    if norm['type'] == 'SyncBN':
        assert any(isinstance(layer, nn.SyncBatchNorm) for layer in model.modules())
        model = revert_sync_batchnorm(model)  # as mmengine's runner does without a GPU
    total, losses = model.parse_losses(model.train().loss(*batch(name)))
    total.backward()
    assert all(value.isfinite() for value in losses.values()), losses
    norms = [
        layer for layer in model.modules() if isinstance(layer, (nn.GroupNorm, nn.BatchNorm2d))
    ]
    assert any(layer.weight.grad is not None and layer.weight.grad.any() for layer in norms)


BACKBONES = {
    'swin': dict(
        type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8),
        window_size=4,
    ),
    'convnext': dict(
        type='mmpretrain.ConvNeXt', out_indices=[0, 1, 2, 3], gap_before_final_norm=False,
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 32, 64]),
    ),
}  # fmt: skip


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('name', [*MODELS_OF, 'sharpmask-roi'])
def test_transformers_and_convnext_train_a_few_steps(name: str, backbone: str) -> None:
    if backbone == 'convnext':  # MMDetection's own ConvNeXt configs take it from there, too
        pytest.importorskip('mmpretrain.models', reason='pip install mmpretrain')
    model = tiny_export.sharp_model() if name == 'sharpmask-roi' else MODELS_OF[name]()
    model.backbone = MODELS.build(BACKBONES[backbone])
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    totals = []
    for _ in range(5):
        torch.manual_seed(0)  # the same proposals
        total, losses = model.parse_losses(
            model.loss(*batch('refinemask' if name == 'sharpmask-roi' else name))
        )
        assert all(value.isfinite() for value in losses.values()), losses
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]
    assert sum(p.grad is not None for p in model.backbone.parameters()) > 20


@pytest.mark.parametrize('name', MODELS_OF)
def test_gradients_accumulate_over_two_steps(name: str) -> None:
    model = MODELS_OF[name]().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    weight = next(p for n, p in model.named_parameters() if 'mask_head' in n and p.requires_grad)
    before, changed = weight.detach().clone(), []
    wrapper.initialize_count_status(model, 0, 4)
    for _ in range(4):
        with wrapper.optim_context(model):
            total, _ = model.parse_losses(model.loss(*batch(name)))
        wrapper.update_params(total)
        changed.append(not torch.equal(weight, before))
    assert changed == [False, True, True, True]
    assert weight.isfinite().all()


def loaded(boxes: list[list[float]], size: tuple[int, int] = (96, 128)) -> dict:
    """An image with rectangles, as transforms get it."""
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    return dict(
        img=np.zeros((*size, 3), np.uint8),
        img_shape=size,
        gt_bboxes=HorizontalBoxes(torch.tensor(boxes)),
        gt_bboxes_labels=np.arange(len(boxes)) % 3,
        gt_ignore_flags=np.zeros(len(boxes), bool),
        gt_masks=BitmapMasks(masks, *size),
    )


@pytest.mark.parametrize('name', MODELS_OF)
def test_pasted_objects_are_learnt(name: str) -> None:
    results = loaded(BOXES[:2])
    results['mix_results'] = [loaded(BOXES[2:])]
    np.random.seed(1)  # pastes the object of the other image
    mixed = CopyPaste().transform(results)
    assert len(mixed['gt_masks']) == 3
    data = PackDetInputs(meta_keys=('img_shape',)).transform(mixed)['data_samples']
    size = mixed['img_shape']
    data.set_metainfo(
        dict(ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    )
    data.gt_instances.bboxes = data.gt_instances.bboxes.tensor
    data.ignored_instances.bboxes = data.ignored_instances.bboxes.tensor
    model = MODELS_OF[name]().train()
    _, losses = model.parse_losses(model.loss(torch.randn(1, 3, *size), [data]))
    assert all(value.isfinite() for value in losses.values()), losses
