"""What every model survives: copies, pickles, FLOP counters, compilers, any number of threads."""

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from families import FAMILIES, Family, tensors
from mmdet.registry import MODELS
from mmengine.analysis import get_model_complexity_info
from torch import Tensor, nn


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def predict(model: nn.Module, family: Family) -> list[Tensor]:
    """Boxes, scores and masks of one batch."""
    with torch.no_grad():
        return list(tensors(model.eval().predict(*family.batch(), rescale=True)))


def recorded(model: nn.Module, family: Family) -> dict[str, tuple[tuple, dict, Any]]:
    """Arguments and result of each head's first call while losses are computed."""
    calls: dict[str, tuple[tuple, dict, Any]] = {}

    def record(name: str) -> Callable:
        return lambda _, args, kwargs, out: calls.setdefault(name, (args, kwargs, out)) and None

    hooks = [
        model.get_submodule(name).register_forward_hook(record(name), with_kwargs=True)
        for name in family.heads
    ]
    with torch.no_grad():
        model.eval().loss(*(family.raw_batch or family.batch)())
    for hook in hooks:
        hook.remove()
    assert calls.keys() == set(family.heads)
    return calls


def raw(model: nn.Module, family: Family) -> list[Tensor]:
    """Results of the forward pass in mode 'tensor'."""
    pixels, samples = (family.raw_batch or family.batch)()
    return list(tensors(model.eval()(pixels, samples, mode='tensor')))


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected):
        assert torch.equal(a, b)


def assert_about_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected):
        if a.dtype == torch.bool:
            assert (a != b).float().mean() < 1e-3  # rounding on the edge of a mask
        else:
            torch.testing.assert_close(a.to(b.dtype), b, rtol=5e-3, atol=1e-2)


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_copies_predict_the_same(family: Family) -> None:
    model = family.build()
    expected = predict(model, family)  # before the copy: nothing that a call leaves may hinder it
    for copied in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded):
        again = copied(model)
        assert_same(predict(again, family), expected)
        losses = again.train().loss(*(family.raw_batch or family.batch)())
        assert all(value.isfinite().all() for value in tensors(losses))


def test_mmengine_counts_operations(family: Family) -> None:
    model = family.build().eval()
    pixels, samples = (family.raw_batch or family.batch)()
    # As tools/analysis_tools/get_flops.py of MMDetection does.
    model.forward = partial(model.forward, data_samples=samples)
    found = get_model_complexity_info(model, inputs=(pixels,), show_table=False, show_arch=False)
    assert found['flops'] > 0 and found['params'] > 0


def test_heads_compile_into_one_graph(family: Family) -> None:
    if not family.heads:
        pytest.skip('its heads have no forward pass of their own')
    model = family.build()
    for name, (args, kwargs, out) in recorded(model, family).items():
        head = model.get_submodule(name)
        torch.compiler.reset()
        with torch.no_grad():
            compiled = torch.compile(head, fullgraph=True, backend='eager')(*args, **kwargs)
        found, expected = list(tensors(compiled)), list(tensors(out))
        assert len(found) == len(expected) > 0
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b)


def test_building_leaves_configs_as_they_are(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, changed = MODELS.build, []

    def checked(config: dict, *args: Any, **kwargs: Any) -> Any:
        before = copy.deepcopy(config)
        built = build(config, *args, **kwargs)
        # MMDetection's own detectors and RoI heads add train_cfg and test_cfg to their parts.
        if type(built).__module__.startswith('mmrefine.') and config != before:
            changed.append(type(built).__name__)
        return built

    monkeypatch.setattr(MODELS, 'build', checked)
    family.build()
    assert changed == []


def test_outputs_do_not_depend_on_threads_or_gradients(family: Family) -> None:
    model = family.build()
    calls = recorded(model, family)

    def run() -> list[Tensor]:
        found = raw(model, family) if not calls else []
        for name, (args, kwargs, _) in calls.items():
            found += tensors(model.get_submodule(name)(*args, **kwargs))
        return found

    with torch.no_grad():
        expected = run()
    for threads, grad in ((1, True), (2, False), (4, True)):
        torch.set_num_threads(threads)
        with torch.set_grad_enabled(grad):
            found = run()
        assert len(found) == len(expected) > 0
        for a, b in zip(found, expected):
            torch.testing.assert_close(a.detach(), b, rtol=1e-5, atol=1e-5)


def test_labels_of_no_class_are_refused(family: Family) -> None:
    model = family.build().train()
    for label in (-1, 2000):
        pixels, samples = (family.raw_batch or family.batch)()
        annotated = getattr(samples[0], 'video_data_samples', samples)[0].gt_instances
        if 'labels' not in annotated:
            pytest.skip('has no classes')
        annotated.labels[-1] = label
        with pytest.raises(ValueError, match=f'label {label}'):
            model.loss(pixels, samples)


def test_pixels_that_are_no_numbers_are_an_error(family: Family) -> None:
    model = family.build().eval()
    pixels, samples = family.batch()
    pixels[..., 5, 7] = float('nan')
    with pytest.raises(FloatingPointError, match='not finite'), torch.no_grad():
        model.predict(pixels, samples)


def test_memory_format_changes_nothing(family: Family) -> None:
    model = family.build().eval()
    expected = predict(model, family)
    pixels, samples = family.batch()
    if pixels.dim() == 4:
        pixels = pixels.to(memory_format=torch.channels_last)
    with torch.no_grad():
        model = model.to(memory_format=torch.channels_last)
        found = list(tensors(model.predict(pixels, samples, rescale=True)))
    assert_about_same(found, expected)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_converted_models_predict(family: Family, dtype: torch.dtype) -> None:
    model = family.build().eval()
    if not hasattr(model, 'bbox_head'):
        pytest.skip("MMCV's suppression of proposals takes float32 only")
    expected = predict(model, family)
    pixels, samples = family.batch()
    with torch.no_grad():
        found = list(tensors(model.to(dtype).predict(pixels.to(dtype), samples, rescale=True)))
    if dtype == torch.float64:
        assert_about_same(found, expected)
    else:
        assert len(found[0]) > 0 and all(value.isfinite().all() for value in found)
