"""Every model on a device of its own: no tensor is made elsewhere, and few waits for the device.

The device is a pretended GPU, or the one that ``MMREFINE_TEST_DEVICE`` names.
"""

import contextlib
import copy
import os
from collections import Counter

import pytest
import torch
from fake_cuda import CUDA, CudaTensor, FakeCuda
from families import FAMILIES, Family, tensors
from torch import Tensor, nn

# One of each kind, for what takes long.
PUBLISHED = (
    'refinemask',
    'refinemask-simple',
    'sipmask',
    'embedmask-v3',
    'sharpmask',
    'sharpmask-roi',
)
Batch = tuple[Tensor, list]
REAL = os.environ.get('MMREFINE_TEST_DEVICE')
DEVICE = torch.device(REAL) if REAL else CUDA

# How often the host may wait for the device for one batch: in the loss, and in the prediction.
# Waits of MMDetection's own, which wait up to 240 times, are not counted. RoI heads look for NaN
# once before the box heads, once behind each of them, and once in the mask logits. Rounds of the
# suppression and pixels of masks that rounding decides differ by a wait or two between processors.
ALLOWED = {
    'refinemask': (3, 13),
    'refinemask-simple': (3, 13),
    'refinemask-cascade': (1, 15),
    'refinemask-htc': (1, 15),
    'refinemask-dynamic': (1, 23),
    'refinemask-queryinst': (1, 23),
    'sipmask': (7, 40),
    'sipmask++': (7, 44),
    'sipmask-vis': (4, 50),
    'embedmask-v1': (9, 26),
    'embedmask-v2': (7, 45),
    'embedmask-v3': (7, 44),
    'embedmask-adet': (5, 44),
    'deepmask': (0, 10),
    'sharpmask': (0, 10),
    'sharpmask-roi': (1, 3),
    'sharpmask-roi-cascade': (1, 5),
}


def moved(batch: Batch) -> Batch:
    images, samples = batch
    return images.to(DEVICE), [sample.to(DEVICE) for sample in samples]


class RealDevice(contextlib.nullcontext):
    """The context of a device that exists; nobody counts its waits."""

    waits: Counter[str] = Counter()


@pytest.fixture
def place(fake_cuda: FakeCuda) -> FakeCuda | RealDevice:
    """The context in which ``DEVICE`` exists."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return RealDevice() if REAL else fake_cuda


def values(found: Tensor) -> Tensor:
    """What a tensor of ``DEVICE`` holds, on the CPU; an error for a tensor elsewhere."""
    assert found.device.type == DEVICE.type
    return found.values if isinstance(found, CudaTensor) else found.cpu()


def train_step(model: nn.Module, batch: Batch) -> dict[str, list[Tensor]]:
    """Losses of a batch and gradients of the parameters, by name."""
    torch.manual_seed(1)
    losses = model.train().loss(*batch)
    total = [value.sum() for name in losses if 'loss' in name for value in tensors([losses[name]])]
    sum(total).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: list(tensors([value])) for name, value in (losses | gradients).items()}


def predictions(model: nn.Module, batch: Batch) -> list[Tensor]:
    with torch.no_grad():
        return list(tensors(model.eval().predict(*batch, rescale=True)))


def twins(family: Family) -> tuple[nn.Module, nn.Module]:
    """A model twice, without dropout, whose random numbers are the device's own."""
    model = family.build()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model, copy.deepcopy(model)


def ours(waits: Counter[str]) -> Counter[str]:
    return Counter({name: n for name, n in waits.items() if name not in ('mmdet', 'autograd')})


@pytest.mark.parametrize('name', FAMILIES)
def test_losses_and_gradients_are_those_of_the_cpu(name: str, place: FakeCuda | RealDevice) -> None:
    family = FAMILIES[name]
    model, twin = twins(family)
    batch = family.raw_batch or family.batch
    expected = train_step(model, batch())
    with place:
        found = train_step(twin.to(DEVICE), moved(batch()))
    assert found.keys() == expected.keys()
    for key in expected:
        for a, b in zip(found[key], expected[key], strict=True):
            torch.testing.assert_close(values(a), b, rtol=1e-3, atol=1e-5)
    waits = ours(place.waits)
    assert waits.total() <= ALLOWED[name][0], waits


@pytest.mark.parametrize('name', FAMILIES)
def test_predictions_are_those_of_the_cpu(name: str, place: FakeCuda | RealDevice) -> None:
    family = FAMILIES[name]
    model, twin = twins(family)
    expected = predictions(model, family.batch())
    with place:
        found = predictions(twin.to(DEVICE), moved(family.batch()))
    for a, b in zip(found, expected, strict=True):
        if b.dtype == torch.bool:
            assert (values(a) != b).float().mean() < 1e-4  # rounding on the edge of a mask
        else:
            torch.testing.assert_close(values(a), b, rtol=1e-4, atol=1e-4)
    waits = ours(place.waits)
    assert waits.total() <= ALLOWED[name][1], waits


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('name', PUBLISHED)
def test_mixed_precision_gives_the_losses_of_single(name: str, dtype: torch.dtype) -> None:
    device = DEVICE if REAL else torch.device('cpu')
    family = FAMILIES[name]
    images, samples = (family.raw_batch or family.batch)()
    model = family.build().train().to(device)
    if hasattr(model, 'rpn_head') and not REAL:
        pytest.skip("MMCV's suppression of proposals takes float32 only on a CPU")
    batch = images.to(device), [sample.to(device) for sample in samples]
    with torch.no_grad():
        expected = model.loss(*batch)
    with torch.autocast(device.type, dtype):
        losses = model.loss(*batch)
    # with proposals of half precision other RoIs are drawn
    for key, value in ({} if hasattr(model, 'rpn_head') else losses).items():
        for found, single in zip(tensors([value]), tensors([expected[key]]), strict=True):
            torch.testing.assert_close(found.float(), single, rtol=0.05, atol=0.01)
    total = [value for name in losses if 'loss' in name for value in tensors([losses[name]])]
    sum(value.sum() for value in total).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(value.isfinite().all() for value in [*total, *gradients])


@pytest.mark.skipif(not REAL, reason='the compiler of the device itself: set MMREFINE_TEST_DEVICE')
@pytest.mark.parametrize('name', PUBLISHED)
def test_compiled_models_predict_the_same(name: str) -> None:
    family = FAMILIES[name]
    model = family.build().eval().to(DEVICE)
    expected = predictions(model, moved(family.batch()))
    for head in family.heads:
        model.get_submodule(head).compile(fullgraph=True)
    for a, b in zip(predictions(model, moved(family.batch())), expected, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-3, atol=1e-3)


def test_devices_do_not_mix_and_waits_are_counted(fake_cuda: FakeCuda) -> None:
    with fake_cuda:
        there, here = torch.ones(3, device=CUDA), torch.ones(3)
        with pytest.raises(RuntimeError, match='on cuda:0 and on the CPU'):
            there + here
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert (there + 1).sum().item() == 6
        assert there[there > 0].tolist() == [1, 1, 1]
    assert fake_cuda.waits.total() == 3  # the sum, the index and its values
