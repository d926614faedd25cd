"""The refinement as RoI mask head, its extractor, and as a neck."""

import copy
import pickle
from functools import partial

import pytest
import torch
from mmcv import ops
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config, ConfigDict
from torch.nn import functional as F

from mmrefine.masks import to_dense
from mmrefine.sharpmask.neck import TopDownRefineNeck
from mmrefine.sharpmask.roi_extractor import PyramidRoIExtractor
from mmrefine.sharpmask.roi_mask_head import SharpMaskHead

STOCK = dict(
    standard='mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    cascade='mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
)

PASSING = dict(standard='SharpMaskRoIHead', cascade='CascadeSharpMaskRoIHead')


def small_detector(tmp_path, kind, classes=5, passing=False, **head):
    """A stock detector with the head in place of its own, narrow."""
    file = tmp_path / 'config.py'
    file.write_text(f"_base_ = '{STOCK[kind]}'")
    config = Config.fromfile(file).model
    config.backbone.update(depth=18, base_channels=4, init_cfg=None)
    config.neck.update(in_channels=[4, 8, 16, 32], out_channels=16)
    config.rpn_head.update(in_channels=16, feat_channels=16)
    roi = config.roi_head
    if passing:
        roi.type = PASSING[kind]
    roi.bbox_roi_extractor.out_channels = 16
    boxes = roi.bbox_head if isinstance(roi.bbox_head, list) else [roi.bbox_head]
    for box in boxes:
        box.update(in_channels=16, fc_out_channels=16, num_classes=classes)
    roi.mask_roi_extractor = ConfigDict(type='PyramidRoIExtractor', out_channels=16, base_size=4)
    roi.mask_head = ConfigDict(
        type='SharpMaskHead', in_channels=16, base_size=4, channels=64, hidden_channels=8,
        num_classes=classes, **head,
    )  # fmt: skip
    for rcnn in config.train_cfg.rcnn if kind == 'cascade' else [config.train_cfg.rcnn]:
        rcnn.mask_size = 32
    config.test_cfg.rcnn.update(score_thr=0.0, max_per_img=6)
    return MODELS.build(config)


def batch(model, items, training):
    data = demo_mm_inputs(len(items), [[3, 64, 80]] * len(items), items, 5, with_mask=True)
    return model.data_preprocessor(data, training)


@pytest.mark.parametrize('kind', ['standard', 'cascade'])
@pytest.mark.parametrize('agnostic', [False, True])
def test_stock_roi_heads_train_it(tmp_path, kind, agnostic):
    model = small_detector(tmp_path, kind, class_agnostic=agnostic)
    losses = model(**batch(model, [2, 0], True), mode='loss')
    masks = [k for k in losses if 'loss_mask' in k]
    assert len(masks) == (3 if kind == 'cascade' else 1)
    sum(losses[k] for k in masks).backward()
    for name, parameter in model.roi_head.named_parameters():
        if 'mask_head' in name:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('kind', ['standard', 'cascade'])
def test_images_without_objects_give_a_zero_loss_with_gradients(tmp_path, kind):
    model = small_detector(tmp_path, kind)
    losses = model(**batch(model, [0], True), mode='loss')
    total = sum(v for k, v in losses.items() if 'loss_mask' in k)
    total.backward()
    assert total == 0
    assert all(p.grad is not None for n, p in model.named_parameters() if 'mask_head' in n)


@pytest.mark.parametrize('kind', ['standard', 'cascade'])
@pytest.mark.parametrize('agnostic', [False, True])
def test_dense_masks_and_rles_agree(tmp_path, kind, agnostic):
    model = small_detector(tmp_path, kind, class_agnostic=agnostic).eval()
    results = {}
    for form in ('dense', 'rle'):
        model.roi_head.test_cfg.mask_format = form
        torch.manual_seed(1)
        with torch.no_grad():
            results[form] = model(**batch(model, [1, 1], False), mode='predict')
    for dense, rle in zip(results['dense'], results['rle']):
        masks = dense.pred_instances.masks
        assert len(masks) == 6
        assert torch.equal(to_dense(rle.pred_instances.masks, masks.shape[1:]), masks)


@pytest.mark.parametrize('kind', ['standard', 'cascade'])
def test_roi_heads_that_pass_labels_give_the_masks_and_losses_of_the_stock_ones(tmp_path, kind):
    stock, ours = (small_detector(tmp_path, kind, passing=passing) for passing in (False, True))
    ours.load_state_dict(stock.state_dict(), strict=True)
    data, training = batch(stock, [1, 1], False), batch(stock, [2, 0], True)
    shapes, found, losses = [], [], []
    for model in (stock, ours):
        for module in model.modules():
            if isinstance(module, SharpMaskHead):
                module.register_forward_hook(lambda m, i, out: shapes.append(out.shape[1]))
        model.eval()
        with torch.no_grad():
            found.append(model(**copy.deepcopy(data), mode='predict'))
        torch.manual_seed(2)
        losses.append(model.train()(**copy.deepcopy(training), mode='loss'))
    assert set(shapes[: len(shapes) // 2]) == {5} and set(shapes[len(shapes) // 2 :]) == {1}
    for a, b in zip(*found):
        assert (a.pred_instances.masks != b.pred_instances.masks).float().mean() < 1e-5
        assert torch.equal(a.pred_instances.labels, b.pred_instances.labels)
    for key, value in losses[0].items():
        if 'loss_mask' in key:
            torch.testing.assert_close(losses[1][key], value)


@pytest.mark.parametrize('kind', ['standard', 'cascade'])
@pytest.mark.parametrize('passing', [False, True])
@pytest.mark.parametrize('form', ['dense', 'rle'])
def test_models_without_a_detection_have_no_mask(tmp_path, kind, passing, form):
    model = small_detector(tmp_path, kind, passing=passing).eval()
    model.roi_head.test_cfg.update(score_thr=1.0, mask_format=form)
    with torch.no_grad():
        result = model(**batch(model, [1, 1], False), mode='predict')[0].pred_instances
    assert len(result) == len(result.masks) == 0


@pytest.mark.parametrize('passing', [False, True])
def test_models_are_copied_pickled_and_counted(tmp_path, passing):
    model = small_detector(tmp_path, 'cascade', passing=passing).eval()
    data = batch(model, [1], False)
    torch.save(model, tmp_path / 'model.pth')
    with torch.no_grad():
        expected = model(**copy.deepcopy(data), mode='predict')[0].pred_instances.masks
        for other in (
            copy.deepcopy(model), pickle.loads(pickle.dumps(model)),
            torch.load(tmp_path / 'model.pth', weights_only=False),
        ):  # fmt: skip
            found = other(**copy.deepcopy(data), mode='predict')[0].pred_instances.masks
            assert torch.equal(found, expected)
    model.forward = partial(model.forward, data_samples=data['data_samples'])
    counts = get_model_complexity_info(
        model, inputs=data['inputs'], show_table=False, show_arch=False
    )
    assert counts['flops'] > 0


def pooled(count=3, channels=16):
    return [torch.randn(count, channels, 4 << i, 4 << i) for i in range(4)]


def head(**options):
    return SharpMaskHead(
        **dict(num_classes=5, in_channels=16, base_size=4, channels=16, hidden_channels=8) | options
    )


def test_gathered_gradients_equal_those_of_all_classes():
    ours, feats = head(), pooled()
    labels, target = torch.tensor([4, 0, 2]), torch.rand(3, 32, 32).round()
    gradients = []
    for own in (ours(feats, labels=labels)[:, 0], ours(feats)[range(3), labels]):
        loss = F.binary_cross_entropy_with_logits(own, target)
        gradients.append(torch.autograd.grad(loss, list(ours.parameters())))
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(('last', 'size'), [(False, 32), (True, 64)])
@pytest.mark.parametrize('upsample', ['nearest', 'bilinear'])
def test_output_sizes(last, size, upsample):
    ours = head(upsample_last=last, upsample=upsample, class_agnostic=True)
    assert ours.output_size == size
    assert ours(pooled(2)).shape == (2, 1, size, size)
    assert ours(pooled(0)).shape == (0, 1, size, size)


def test_the_head_compiles_into_one_graph():
    ours, feats, labels = head().eval(), pooled(), torch.tensor([4, 0, 2])
    compiled = torch.compile(ours, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(feats), ours(feats))
    torch.testing.assert_close(compiled(feats, labels=labels), ours(feats, labels=labels))


@pytest.mark.parametrize('feats', [torch.zeros(1, 16, 14, 14), [torch.zeros(1, 16, 4, 4)]])
def test_pooled_features_of_another_extractor_are_refused(feats):
    with pytest.raises(TypeError, match='PyramidRoIExtractor'):
        head()(feats)


def test_the_mask_size_of_stock_configs_is_not_read(tmp_path):
    model = small_detector(tmp_path, 'standard')
    data = batch(model, [2], True)
    losses = []
    for size in (28, 32):
        model.roi_head.train_cfg.mask_size = size
        torch.manual_seed(1)
        losses.append(model(**copy.deepcopy(data), mode='loss')['loss_mask'])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(('channels', 'side'), [(8, 4), (16, 5)])
def test_pooled_maps_of_another_size_are_refused(channels, side):
    feats = [torch.zeros(1, channels, side << i, side << i) for i in range(4)]
    with pytest.raises(ValueError, match=f'{channels} channels on a grid of {side}'):
        head()(feats)


@pytest.mark.parametrize('given', [dict(return_feat=True), torch.zeros(1)])
def test_features_between_mask_heads_are_refused(given):
    handed, asked = ((), given) if isinstance(given, dict) else ((given,), {})
    with pytest.raises(ValueError, match='HTCSharpMaskRoIHead'):
        head()(pooled(), *handed, **asked)


@pytest.mark.parametrize(('levels', 'channels'), [(3, 8), (4, 16)])
def test_a_pyramid_that_does_not_fit_is_refused(levels, channels):
    extractor = PyramidRoIExtractor(out_channels=8, base_size=3)
    feats = [torch.zeros(1, channels, 16, 16)] * levels
    with pytest.raises(ValueError, match=f'gives {levels} of {channels}'):
        extractor(feats, torch.zeros(0, 5))


@pytest.mark.parametrize('options', [dict(channels=24), dict(upsample='cubic')])
def test_bad_head_options_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        head(**options)


@pytest.mark.parametrize(
    'loss', [dict(type='DiceLoss'), dict(type='L1Loss'), dict(type='CrossEntropyLoss')]
)
def test_losses_that_take_labels_for_weights_are_refused(loss):
    with pytest.raises(ValueError, match=f'{loss["type"]} would read them as weights'):
        head(loss_mask=loss)


@pytest.mark.parametrize('choice', ['absolute', 'relative'])
def test_the_extractor_pools_coarse_to_fine(choice):
    extractor = PyramidRoIExtractor(out_channels=8, base_size=3, level_choice=choice)
    feats = [torch.randn(2, 8, 64 >> i, 64 >> i, requires_grad=True) for i in range(4)]
    rois = torch.tensor([[0.0, 10, 10, 40, 50], [1, 0, 0, 250, 250], [0, 5, 5, 5, 5]])
    out = extractor(feats, rois)
    assert [x.shape[-1] for x in out] == [3, 6, 12, 24]
    assert [len(x) for x in extractor(feats, rois[:0])] == [0] * 4
    # a constant map is pooled to its constant, from the level that the choice names
    flat = [torch.full((1, 8, 64 >> i, 64 >> i), float(i)) for i in range(4)]
    values = [
        x[:, 0, 1, 1].tolist()
        for x in extractor(flat, torch.tensor([[0.0, 20, 20, 60, 60], [0, 0, 0, 250, 250]]))
    ]
    if choice == 'absolute':
        assert values == [[3, 3], [2, 2], [1, 1], [0, 0]]
    else:
        assert values == [[0, 2], [0, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    'options',
    [
        dict(level_choice='nearest'),
        dict(roi_layer=dict(type='RoIPool')),
        dict(roi_layer=dict(type='RoIAlign', pool_mode='max')),
    ],
)
def test_bad_extractor_options_are_refused(options):
    with pytest.raises(ValueError, match='nearest|RoIPool|max'):
        PyramidRoIExtractor(**options)


def test_settings_of_a_stock_layer_that_change_nothing_are_accepted():
    layer = dict(type='RoIAlign', output_size=14, sampling_ratio=0, aligned=True, pool_mode='avg')
    assert PyramidRoIExtractor(roi_layer=layer).sampling_ratio == 0


@pytest.mark.parametrize('choice', ['absolute', 'relative'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_pooled_maps_have_the_type_of_the_maps_and_the_samples_of_the_layer(choice, dtype):
    layer = dict(type='RoIAlign', output_size=14, sampling_ratio=2)  # as of a stock config
    extractor = PyramidRoIExtractor(8, (4, 8), 3, layer, level_choice=choice, finest_scale=1000)
    feats = [torch.randn(2, 8, 64 >> i, 64 >> i).to(dtype) for i in range(2)]
    rois = torch.tensor([[0.0, 10, 10, 40, 50], [1, 3, 0, 120, 99]])
    out = extractor(feats, rois)
    assert [x.dtype for x in out] == [dtype] * 2
    fine = ops.RoIAlign(6, 1 / 4, sampling_ratio=2)(feats[0].float(), rois)
    torch.testing.assert_close(out[1], fine.to(dtype), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    'options',
    [
        dict(num_outs=5),
        dict(num_outs=4),
        dict(num_outs=5, start_level=1, add_extra_convs='on_output', relu_before_extra_convs=True),
        dict(num_outs=6, start_level=1, add_extra_convs='on_input'),
        dict(num_outs=5, start_level=1, add_extra_convs='on_lateral'),
        dict(num_outs=5, start_level=1, add_extra_convs=True),
    ],
)
@pytest.mark.parametrize('size', [(64, 96), (67, 35)])
def test_the_neck_has_the_shapes_of_fpn(options, size):
    channels = [4, 8, 16, 32]
    maps = []
    for i, c in enumerate(channels):
        maps.append(torch.randn(2, c, -(-size[0] // (4 << i)), -(-size[1] // (4 << i))))
    ours = TopDownRefineNeck(channels, 16, **options)
    stock = FPN(channels, 16, **options)
    assert [x.shape for x in ours(maps)] == [x.shape for x in stock(maps)]
    sum(x.sum() for x in ours(maps)).backward()
    assert all(p.grad is not None for p in ours.parameters())


@pytest.mark.parametrize('options', [dict(num_outs=2), dict(num_outs=5, add_extra_convs='on_top')])
def test_bad_neck_options_are_refused(options):
    with pytest.raises(ValueError, match='num_outs|on_top'):
        TopDownRefineNeck([4, 8, 16, 32], 16, **options)


@pytest.mark.parametrize('seed', range(3))
def test_a_fresh_narrow_head_is_undecided(seed):
    """Confident logits of random sign kill the few features they are made of."""
    torch.manual_seed(seed)
    head = SharpMaskHead(8, 16, levels=3, channels=64, hidden_channels=32)
    head.init_weights()
    pooled = [torch.randn(4, 16, side, side) for side in (7, 14, 28)]
    assert head.refine(pooled).max() > 0.5
    logits = head.conv_logits(head.refine(pooled))
    assert 0 < logits.abs().mean() < 0.1


def test_initial_weights_of_a_checkpoint_stay(tmp_path):
    weights = {name: torch.full_like(w, 0.5) for name, w in head().state_dict().items()}
    torch.save(weights, tmp_path / 'head.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'head.pth'))
    ours = head(init_cfg=[dict(type='Normal', layer='Conv2d'), pretrained])
    ours.init_weights()
    assert all((weight == 0.5).all() for weight in ours.state_dict().values())
