"""Winograd's convolution against the plain one."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmrefine.layers import ConvTower, WinogradConv2d
from mmrefine.layers import winograd as module
from mmrefine.layers.winograd import LARGE, THREADS, WIDE, pays, winograd_conv3x3


def exact(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution in fp64."""
    bias = None if bias is None else bias.double()
    return F.conv2d(x.double(), weight.double(), bias, padding=1)


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 23),
    st.integers(1, 19),
    st.booleans(),
    st.sampled_from([1, 16, 2048]),
    st.integers(0, 99),
)
def test_equals_the_plain_convolution(
    batch: int,
    channels: int,
    out: int,
    height: int,
    width: int,
    biased: bool,
    strip: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    x, weight = torch.randn(batch, channels, height, width), torch.randn(out, channels, 3, 3)
    bias = torch.randn(out) if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'STRIP', strip)
        ours = winograd_conv3x3(x, weight, bias)
    torch.testing.assert_close(ours.double(), exact(x, weight, bias), atol=1e-4, rtol=0)


@pytest.mark.parametrize('form', [torch.contiguous_format, torch.channels_last])
def test_rounds_little_more_than_the_plain_convolution(form: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 256, 66, 70).contiguous(memory_format=form)
    weight, bias = torch.randn(256, 256, 3, 3) / 48, torch.randn(256)
    right = exact(x, weight, bias)
    ours = winograd_conv3x3(x, weight, bias) - right
    plain = F.conv2d(x.to(memory_format=torch.channels_last), weight, bias, padding=1) - right
    assert ours.square().mean() < 9 * plain.square().mean()


def layer() -> WinogradConv2d:
    return WinogradConv2d(WIDE, WIDE, 3, padding=1).requires_grad_(False)


SIDE = int(LARGE**0.5)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The maps that took Winograd's way."""
    seen = []

    def record(x: Tensor, *args: Tensor) -> Tensor:
        seen.append(x)
        return winograd_conv3x3(x, *args)

    monkeypatch.setattr(module, 'winograd_conv3x3', record)
    return seen


def test_layer_takes_it_for_large_maps_alone(calls: list[Tensor]) -> None:
    conv, x = layer(), torch.randn(1, WIDE, SIDE, SIDE)
    right = exact(x, conv.weight, conv.bias)
    torch.testing.assert_close(conv(x).double(), right, atol=2e-5, rtol=0)
    assert len(calls) == 1
    conv(x[..., 1:])
    WinogradConv2d(WIDE, WIDE - 1, 3, padding=1).requires_grad_(False)(x)
    assert len(calls) == 1


@pytest.mark.parametrize(
    'changes',
    [
        dict(stride=2),
        dict(padding=0),
        dict(padding='same'),
        dict(dilation=2),
        dict(groups=2),
        dict(kernel_size=1),
        dict(kernel_size=5),
        dict(padding_mode='reflect'),
    ],
)
def test_other_convolutions_are_left_alone(changes: dict, calls: list[Tensor]) -> None:
    options = {'kernel_size': 3, 'padding': 1, **changes}
    conv = WinogradConv2d(2 * WIDE, 2 * WIDE, **options)
    plain = nn.Conv2d(2 * WIDE, 2 * WIDE, **options)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(1, 2 * WIDE, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(conv(x), plain(x))
    assert not calls


def test_training_takes_the_plain_convolution(calls: list[Tensor]) -> None:
    conv = WinogradConv2d(WIDE, WIDE, 3, padding=1)
    x = torch.randn(1, WIDE, SIDE, SIDE)
    conv(x).mean().backward()
    assert not calls and conv.weight.grad is not None
    conv.requires_grad_(False)(x.requires_grad_()).mean().backward()
    assert not calls and x.grad is not None


def test_other_precisions_take_the_plain_convolution(calls: list[Tensor]) -> None:
    conv, x = layer(), torch.randn(1, WIDE, SIDE, SIDE)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    assert conv.double()(x.double()).dtype == torch.float64
    assert not calls


def test_graphs_hold_the_plain_convolution(calls: list[Tensor]) -> None:
    conv, x = layer(), torch.randn(1, WIDE, SIDE, SIDE)
    traced = torch.jit.trace(conv, x, check_trace=False)
    exported = torch.export.export(conv, (x,))
    compiled = torch.compile(conv, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(x), nn.Conv2d.forward(conv, x))
    assert not calls
    assert 'conv' in str(traced.inlined_graph) and 'bmm' not in str(exported.graph)


@pytest.mark.parametrize('form', [torch.contiguous_format, torch.channels_last])
def test_results_keep_the_memory_format(form: torch.memory_format, calls: list[Tensor]) -> None:
    assert layer()(torch.randn(2, WIDE, SIDE + 2, SIDE).to(memory_format=form)).is_contiguous(
        memory_format=form
    )
    assert calls


def test_towers_stay_in_the_faster_format(calls: list[Tensor]) -> None:
    tower = ConvTower(WIDE, WIDE, 2).requires_grad_(False)
    tower(torch.randn(1, WIDE, SIDE, SIDE))
    assert [x.is_contiguous(memory_format=torch.channels_last) for x in calls] == [True, True]


def test_many_threads_take_the_plain_convolution() -> None:
    conv, x = layer(), torch.randn(1, WIDE, SIDE, SIDE)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(THREADS)
        assert pays(x, conv.weight)
        torch.set_num_threads(THREADS + 1)
        assert not pays(x, conv.weight)
    finally:
        torch.set_num_threads(before)


def test_weights_are_those_of_the_plain_layer() -> None:
    tower = ConvTower(4, 6, 2, dict(type='BN'))
    assert len(ConvTower(4, 6, 0)) == 0
    plain = nn.Sequential(
        ConvModule(4, 6, 3, padding=1, norm_cfg=dict(type='BN')),
        ConvModule(6, 6, 3, padding=1, norm_cfg=dict(type='BN')),
    )
    plain.load_state_dict(tower.state_dict())
    assert all(isinstance(block.conv, WinogradConv2d) for block in tower)
    x = torch.randn(2, 4, 5, 7)
    assert torch.equal(tower(x), plain(x))
