"""Mask heads: options, empty inputs, order of RoIs, precision, threads, compilation."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from tiny_refinemask import tiny_head

from mmrefine.layers import ClassLogits
from mmrefine.refinemask.inference import InferenceSettings

KINDS = ['RefineMaskHead', 'SimpleRefineMaskHead']


def inputs(count: int = 5, classes: int = 3) -> tuple[torch.Tensor, ...]:
    """RoI features, fine map, RoIs, labels."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 40], 1)
    rois = torch.cat([(torch.arange(count) % 2)[:, None].float(), boxes], 1)
    feats = torch.randn(count, 16, 14, 14, generator=generator)
    fine = torch.randn(2, 16, 24, 32, generator=generator)
    return feats, fine, rois, torch.arange(count) % classes


def total(outputs: tuple) -> torch.Tensor:
    """A scalar that depends on everything a head returns."""
    stages, semantic = outputs
    return sum(x.square().mean() for x in [*stages, *([] if semantic is None else [semantic])])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(stage_num_classes=[3, 3, 3, 1]),
        dict(stage_num_classes=1),
        dict(stage_num_classes=[1, None, 1, None]),
        dict(stage_sup_size=[14, 28], loss_cfg=None),
        dict(stage_sup_size=[14, 28, 56, 112, 224], conv_out_channels_instance=64),
        dict(fusion_type='MultiBranchFusionAvg', dilations=[1, 2]),
        dict(norm_cfg=dict(type='GN', num_groups=2)),
        dict(conv_kernel_size_instance=5, conv_kernel_size_semantic=1),
        dict(upsample_cfg=dict(type='nearest')),
        dict(upsample_cfg=dict(type='deconv', scale_factor=2)),
        dict(upsample_cfg=dict(type='pixel_shuffle')),
        dict(with_cp=True),
    ],
    ids=str,
)
def test_options_build_run_and_train_every_parameter(kind: str, options: dict) -> None:
    head = tiny_head(kind, **options)
    head.init_weights()
    stages, semantic = outputs = head(*inputs())
    assert [tuple(x.shape) for x in stages] == [(5, 1, s, s) for s in head.stage_sizes]
    assert (semantic is None) == (kind == 'SimpleRefineMaskHead')
    total(outputs).backward()
    without = [name for name, p in head.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize('kind', KINDS)
def test_recomputation_changes_nothing(kind: str) -> None:
    plain, thrifty = tiny_head(kind), tiny_head(kind, with_cp=True)
    thrifty.load_state_dict(plain.state_dict())
    for head in (plain, thrifty):
        total(head(*inputs())).backward()
    for a, b in zip(plain.parameters(), thrifty.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [0, 1])
def test_few_rois(kind: str, count: int) -> None:
    head = tiny_head(kind)
    feats, fine, rois, labels = (x[:count] if i != 1 else x for i, x in enumerate(inputs()))
    outputs = head(feats, fine, rois, labels)
    assert [len(x) for x in outputs[0]] == [count] * 4
    sum(x.sum() for x in outputs[0]).backward()
    assert all(p.grad is not None for n, p in head.named_parameters() if 'semantic_logits' not in n)


@pytest.mark.parametrize('kind', KINDS)
def test_rois_may_come_in_any_order(kind: str) -> None:
    head = tiny_head(kind)
    feats, fine, rois, labels = inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    expected, _ = head(feats, fine, rois, labels)
    actual, _ = head(feats[order], fine, rois[order], labels[order])
    for a, b in zip(actual, expected):
        torch.testing.assert_close(a, b[order])


@pytest.mark.parametrize('kind', KINDS)
def test_batch_equals_single_images(kind: str) -> None:
    head = tiny_head(kind)
    feats, fine, rois, labels = inputs()
    together, _ = head(feats, fine, rois, labels)
    for image in range(2):
        mine = rois[:, 0] == image
        alone = rois[mine].clone()
        alone[:, 0] = 0
        single, _ = head(feats[mine], fine[image : image + 1], alone, labels[mine])
        for a, b in zip(single, together):
            torch.testing.assert_close(a, b[mine], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_degenerate_boxes_give_finite_logits(kind: str) -> None:
    feats, fine, rois, labels = inputs()
    rois[0, 3:] = rois[0, 1:3]  # no area
    rois[1, 1:] = torch.tensor([900.0, 900.0, 960.0, 960.0])  # outside the image
    stages, _ = tiny_head(kind)(feats, fine, rois, labels)
    assert all(torch.isfinite(x).all() for x in stages)


@pytest.mark.parametrize('kind', KINDS)
def test_bf16_autocast_runs_forward_and_backward(kind: str) -> None:
    head = tiny_head(kind)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outputs = head(*inputs())
    total(outputs).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    for low, full in zip(outputs[0], head(*inputs())[0]):
        assert (low.float() - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize('kind', KINDS)
def test_forward_compiles_without_graph_breaks(kind: str) -> None:
    head = tiny_head(kind).eval()
    with torch.no_grad():
        expected = head(*inputs())[0]
        compiled = torch.compile(head, fullgraph=True, backend='eager')
        actual = compiled(*inputs())[0]
    for a, b in zip(actual, expected):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('kind', KINDS)
def test_copies_compute_the_same(kind: str) -> None:
    head = tiny_head(kind)
    for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        torch.testing.assert_close(twin(*inputs()), head(*inputs()), rtol=0, atol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_threads_gradients_and_chunks_change_only_the_rounding(kind: str) -> None:
    head = tiny_head(kind, conv_out_channels_instance=64).eval()  # pools by rows, and by the kernel
    arguments, before = inputs(20), torch.get_num_threads()
    with torch.no_grad():
        expected = head(*arguments)
        fused = head.fused_masks(*arguments)[0].logits
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            for gradients in (False, True):
                with torch.set_grad_enabled(gradients):
                    torch.testing.assert_close(head(*arguments), expected, rtol=1e-4, atol=2e-5)
            for chunk in (1, 7, 20):
                with torch.no_grad():
                    found = head.fused_masks(*arguments, InferenceSettings(chunk))[0].logits
                # a logit that rounds to the other side of the threshold moves a boundary
                assert ((found - fused).abs() > 1e-3).float().mean() < 1e-3
    finally:
        torch.set_num_threads(before)


def test_other_numbers_of_stages_have_weights_that_rise_to_one() -> None:
    assert tiny_head(stage_sup_size=[14, 28]).loss_func.stage_weights == (0.5, 1.0)


PUBLISHED = dict(RefineMaskHead=(0.25, 0.5, 0.75, 1.0), SimpleRefineMaskHead=(0.5, 0.75, 0.75, 1.0))


@pytest.mark.parametrize('kind, weights', PUBLISHED.items())
def test_settings_of_the_loss_complete_the_published_ones(kind: str, weights: tuple) -> None:
    loss = tiny_head(kind, loss_cfg=dict(loss_weight=16)).loss_func
    assert (type(loss), loss.stage_weights) == (type(tiny_head(kind).loss_func), weights)
    named = dict(type=type(loss).__name__, start_stage=2)
    loss = tiny_head(kind, loss_cfg=named).loss_func
    assert (loss.stage_weights, loss.start_stage) == (weights, 2)
    loss = tiny_head(kind, loss_cfg=dict(stage_instance_loss_weight=[1, 2, 3, 4])).loss_func
    assert loss.stage_weights == (1, 2, 3, 4)


def test_losses_of_other_kinds_are_built_as_they_are_named() -> None:
    loss = tiny_head('SimpleRefineMaskHead', loss_cfg=dict(type='DiceLoss', eps=0.5)).loss_func
    assert type(loss).__name__ == 'DiceLoss' and loss.eps == 0.5


@pytest.mark.parametrize(
    'kind, loss',
    [
        ('RefineMaskHead', 'BARCrossEntropyLoss'),
        ('SimpleRefineMaskHead', 'RefineCrossEntropyLoss'),
    ],
)
def test_the_semantic_term_belongs_to_the_semantic_prediction(kind: str, loss: str) -> None:
    with pytest.raises(ValueError, match=f'loss_cfg.type={loss} does not fit the head'):
        tiny_head(kind, loss_cfg=dict(type=loss))


def test_the_last_stage_of_the_faster_head_is_class_agnostic_unless_told_otherwise() -> None:
    assert tiny_head('SimpleRefineMaskHead').stage_classes == [3, 3, 3, 1]
    assert tiny_head('SimpleRefineMaskHead', stage_sup_size=[14, 28]).stage_classes == [3, 1]
    assert tiny_head('SimpleRefineMaskHead', stage_num_classes=3).stage_classes == [3] * 4
    assert tiny_head('RefineMaskHead').stage_classes == [3] * 4


@pytest.mark.parametrize('kind', KINDS)
def test_initial_weights_of_a_checkpoint_stay(kind: str, tmp_path: Path) -> None:
    weights = {name: torch.full_like(w, 0.5) for name, w in tiny_head(kind).state_dict().items()}
    torch.save(weights, tmp_path / 'head.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'head.pth'))
    head = tiny_head(kind, init_cfg=init_cfg)
    head.init_weights()
    assert all((weight == 0.5).all() for weight in head.state_dict().values())


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    'options, message',
    [
        (dict(stage_sup_size=[14, 28, 60]), r'each double the one before, got \[14, 28, 60\]'),
        (dict(stage_sup_size=[14]), 'at least two sizes'),
        (dict(stage_num_classes=[5, 5, 5, 5]), 'does not fit num_classes=3'),
        (dict(stage_num_classes=[3, 3]), '2 entries for 4 stages'),
        (dict(conv_kernel_size_instance=2), 'must be odd.*got 2'),
        (dict(conv_out_channels_instance=8), 'leaves -?[01] for features'),
        (dict(dilations=[]), 'at least one branch'),
        (dict(upsample_cfg=dict(type='bilinear', scale_factor=4)), 'must be 2.*got 4'),
    ],
    ids=lambda x: str(x)[:40],
)
def test_bad_settings_are_refused(kind: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_head(kind, **options)


@pytest.mark.parametrize('kind', KINDS)
def test_wrong_roi_grid_is_refused(kind: str) -> None:
    feats, fine, rois, labels = inputs()
    with pytest.raises(ValueError, match='7 wide, the first stage wants 14'):
        tiny_head(kind)(feats[..., :7, :7], fine, rois, labels)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('std, expected', [(0.01, 0.01), (None, 2**0.5)])
def test_initial_logits(kind: str, std: float | None, expected: float) -> None:
    # wide, so that the deviation of one class-agnostic layer can be estimated
    head = tiny_head(kind, stage_num_classes=1, logit_std=std, conv_out_channels_instance=512)
    head.init_weights()
    layers = [m for m in head.modules() if isinstance(m, ClassLogits)]
    assert len(layers) == (5 if kind == 'RefineMaskHead' else 4)
    wide = [layer for layer in layers if layer.weight.numel() >= 64]
    assert wide and all(0.7 < float(w.weight.std()) / expected < 1.3 for w in wide)
    assert all((layer.bias == 0).all() for layer in layers)
    reduce = head.stages[0].fuse_conv[0].weight  # plain convolution: Kaiming normal, fan out
    assert 0.9 < float(reduce.std()) / (2 / reduce.shape[0]) ** 0.5 < 1.1


@pytest.mark.parametrize('upsampler', ['deconv', 'pixel_shuffle'])
def test_features_are_rectified_after_learned_upsampling(upsampler: str) -> None:
    head = tiny_head(upsample_cfg=dict(type=upsampler))
    head.init_weights()
    stage = head.stages[0]
    feats, fine, rois, _ = inputs()
    before: list[torch.Tensor] = []
    stage.upsample.register_forward_hook(lambda _, args, out: before.append(out.clone()))
    masks = torch.zeros(5, 1, 14, 14), torch.zeros(2, 1, 24, 32)
    x = head.instance_convs(feats)
    semantic = stage.semantic_map(head.semantic_convs(fine))
    fused = stage(x, masks[0], semantic, masks[1], rois)[:, :-2]
    assert (before[0] < 0).any()
    assert torch.equal(fused, before[0].relu())


@pytest.mark.parametrize('kind', KINDS)
def test_fusion_joins_its_maps_without_keeping_the_joined_one(kind: str) -> None:
    head = tiny_head(kind)
    stage = head.stages[0]
    reduce, block = stage.fuse_conv
    joined = reduce.in_channels  # channels of all maps together
    generator = torch.Generator().manual_seed(1)
    sizes = [head.widths[0], head.widths[0]] + [1] * (joined - 2 * head.widths[0])
    parts = [torch.randn(2, n, 14, 14, generator=generator, requires_grad=True) for n in sizes]
    expected = stage.fuse_transform_out(block(reduce(torch.cat(parts, 1)).relu()).relu()).relu()
    kept: list[torch.Size] = []

    def note(x: torch.Tensor) -> torch.Tensor:
        kept.append(x.shape)
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        fused = stage.fuse(parts)
    torch.testing.assert_close(fused, expected)
    assert kept and (2, joined, 14, 14) not in kept
    weight = torch.randn(fused.shape, generator=generator)
    wanted = [*parts, reduce.weight, reduce.bias]
    grads = [torch.autograd.grad((x * weight).sum(), wanted) for x in (fused, expected)]
    for found, reference in zip(*grads):
        torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-5)
