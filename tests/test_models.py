"""What every model survives: copies, pickles, FLOP counters, compilers, any number of threads."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import tiny_embedmask
import tiny_refinemask
import tiny_sharpmask
import tiny_sipmask
import tiny_sipmask_video
import torch
from locations import ROOT
from mixed.batch import images as mixed_images
from mixed.batch import samples as mixed_samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from tiny_stock_models import tiny_stock_config
from torch import Tensor, nn

from mmrefine.layers import ClassLogits

BOXES = [[8.0, 8.0, 60.0, 50.0], [50.0, 40.0, 120.0, 90.0]]


def mixed(name: str) -> nn.Module:
    """A mixed config, shrunk, with random weights."""
    torch.manual_seed(0)
    path = ROOT / 'configs' / 'mixed' / f'{name}_r50_fpn_1x_coco.py'
    model = MODELS.build(shrink(Config.fromfile(path).model))
    model.init_weights()
    return model


def plain_batch(family: Any) -> tuple[Tensor, list]:
    samples = [family.sample(BOXES), family.sample(BOXES[1:])]
    pixels = family.images(len(samples) if family is tiny_refinemask else samples)
    return pixels, samples


def sharp_batch() -> tuple[Tensor, list]:
    return tiny_sharpmask.image(150, 210), [tiny_sharpmask.sample(150, 210)]


def patch_batch() -> tuple[Tensor, list]:
    """What DeepMask and SharpMask train on and take without a window search."""
    side = tiny_sharpmask.PATCH
    return tiny_sharpmask.image(side, side), [
        tiny_sharpmask.patch_sample(label=tiny_sharpmask.PATCH)
    ]


def video_batch() -> tuple[Tensor, list]:
    frames = [tiny_sipmask_video.frame(BOXES, [1, 2], number=i) for i in range(2)]
    return tiny_sipmask_video.pictures(2), [tiny_sipmask_video.clip(frames, key=0)]


@dataclass
class Family:
    """One kind of model.

    Attributes:
        build: Makes it, at a tiny size.
        batch: Makes normalised images and their data samples.
        heads: Modules of ours that a compiler must take as one graph.
        raw_batch: The same for a forward pass in mode 'tensor', where that takes other images.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, list]]
    heads: tuple[str, ...]
    raw_batch: Callable[[], tuple[Tensor, list]] | None = None


def refine(**options: Any) -> Family:
    return Family(
        lambda: tiny_refinemask.tiny_detector(**options),
        lambda: plain_batch(tiny_refinemask),
        ('roi_head.mask_head',),
    )


def variant(name: str) -> Family:
    def batch() -> tuple[Tensor, list]:
        return mixed_images(), mixed_samples()

    return Family(lambda: mixed(name), batch, ('roi_head.mask_head',))


def sip(**options: Any) -> Family:
    return Family(
        lambda: tiny_sipmask.tiny_detector(**options),
        lambda: plain_batch(tiny_sipmask),
        ('bbox_head', 'mask_head'),
    )


def embed(generation: str) -> Family:
    return Family(
        lambda: tiny_embedmask.tiny_detector(generation),
        lambda: plain_batch(tiny_embedmask),
        ('bbox_head', 'mask_head'),
    )


def sharp_roi(base: str) -> Family:
    kind = 'CascadeSharpMaskRoIHead' if 'cascade' in base else 'SharpMaskRoIHead'

    def build() -> nn.Module:
        config = tiny_stock_config(f'{base}_r50_fpn_1x_coco')
        config.merge_from_dict({'model.roi_head': dict(
            type=kind,
            mask_roi_extractor=dict(
                _delete_=True, type='PyramidRoIExtractor', out_channels=16, base_size=4
            ),
            mask_head=dict(
                _delete_=True, type='SharpMaskHead', in_channels=16, base_size=4, channels=64,
                hidden_channels=8,
            ),
        )})  # fmt: skip
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
        for head in model.roi_head.modules():
            if isinstance(head, ClassLogits):
                nn.init.normal_(head.weight)
        return model.eval()

    heads = [f'mask_head.{i}' for i in range(3)] if 'cascade' in base else ['mask_head']
    names = tuple(f'roi_head.{head}' for head in heads)
    return Family(build, lambda: plain_batch(tiny_refinemask), names)


FAMILIES: dict[str, Family] = {
    'refinemask': refine(),
    'refinemask-simple': refine(kind='SimpleRefineMaskHead'),
    'refinemask-cascade': variant('refinemask-cascade'),
    'refinemask-htc': variant('refinemask-htc'),
    'refinemask-dynamic': variant('refinemask-dynamic'),
    'refinemask-queryinst': variant('refinemask-queryinst'),
    'sipmask': sip(),
    'sipmask++': sip(mask=dict(rescoring=True)),
    'sipmask-vis': Family(
        tiny_sipmask_video.tiny_video_model,
        video_batch,
        ('bbox_head', 'mask_head', 'track_head'),
    ),
    'embedmask-v1': embed('v1'),
    'embedmask-v2': embed('v2'),
    'embedmask-v3': embed('v3'),
    'embedmask-adet': embed('adet'),
    'deepmask': Family(tiny_sharpmask.build, sharp_batch, (), patch_batch),
    'sharpmask': Family(lambda: tiny_sharpmask.build(refined=True), sharp_batch, (), patch_batch),
    'sharpmask-roi': sharp_roi('mask_rcnn/mask-rcnn'),
    'sharpmask-roi-cascade': sharp_roi('cascade_rcnn/cascade-mask-rcnn'),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def tensors(node: Any) -> Iterator[Tensor]:
    """All tensors of nested results."""
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, Mapping):
        yield from tensors(list(node.values()))
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from tensors(item)
    elif hasattr(node, 'pred_instances'):
        yield from tensors([node.pred_instances.get(k) for k in ('bboxes', 'scores', 'masks')])
    elif hasattr(node, 'video_data_samples'):
        yield from tensors(node.video_data_samples)
    elif hasattr(node, '__dict__'):
        yield from tensors(list(vars(node).values()))


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
