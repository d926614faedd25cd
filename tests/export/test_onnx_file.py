"""Graphs in onnxruntime against the models in torch."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny_embedmask
import torch
from locations import ROOT
from mmdet.registry import MODELS as REGISTRY
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny_export import refine_model, sharp_model, sip_model, window_model
from tiny_stock_models import tiny_stock_model
from torch import nn

from mmrefine.export.detector_file import Agreement
from mmrefine.export.onnx_file import TOLERANCE, check_onnx, export_onnx
from mmrefine.export.parts import Part

sys.path.insert(0, str(ROOT / 'tools'))
sys.path.insert(0, str(ROOT / 'tests/mixed'))
import export_onnx as export_tool
from shrink import shrink

SIZE, OTHER = (256, 256), (288, 352)  # traced, and not
MODELS: dict[str, Callable[[], nn.Module]] = {
    'RefineMask': lambda: refine_model('RefineMaskHead'),
    'RefineMask, faster': lambda: refine_model('SimpleRefineMaskHead'),
    'RefineMask, faster, normalised': lambda: refine_model(
        'SimpleRefineMaskHead', norm_cfg=dict(type='LayerNorm2d')
    ),
    'SharpMask head': sharp_model,
    'SharpMask head, relative': lambda: sharp_model('relative', agnostic=True),
    'SipMask': sip_model,
    'SipMask++': lambda: sip_model(rescoring=True),
    'EmbedMask v1': lambda: tiny_embedmask.tiny_detector('v1'),
    'EmbedMask v2': lambda: tiny_embedmask.tiny_detector('v2'),
    'EmbedMask v3': lambda: tiny_embedmask.tiny_detector('v3'),
    'EmbedMask adet': lambda: tiny_embedmask.tiny_detector('adet'),
    'DeepMask': window_model,
    'SharpMask': lambda: window_model(refined=True),
}


@pytest.mark.parametrize('name', MODELS)
def test_onnxruntime_agrees(name: str, tmp_path: Path) -> None:
    part = export_onnx(MODELS[name](), tmp_path / 'head.onnx', SIZE)
    counts = (0, 1, 2, 7)  # traced with 3
    found = check_onnx(part, tmp_path / 'head.onnx', counts, (SIZE, OTHER))
    assert [each.objects for each in found] == [*counts, *counts]
    assert max(each.largest for each in found) < TOLERANCE, found
    assert [file.name for file in tmp_path.iterdir()] == ['head.onnx']


@pytest.mark.parametrize('name', ['RefineMask', 'SipMask', 'EmbedMask v3', 'SharpMask'])
def test_whole_models_agree(name: str, tmp_path: Path) -> None:
    part = export_onnx(MODELS[name](), tmp_path / 'model.onnx', SIZE, with_backbone=True)
    found = check_onnx(part, tmp_path / 'model.onnx', (0, 1, 5), (SIZE, OTHER))
    assert max(each.largest for each in found) < TOLERANCE, found


def test_graph_names_its_ends_and_takes_several_images(tmp_path: Path) -> None:
    part = export_onnx(MODELS['RefineMask'](), tmp_path / 'head.onnx', SIZE)
    session = onnxruntime.InferenceSession(str(tmp_path / 'head.onnx'))
    names = [node.name for node in session.get_inputs()]
    assert names == ['map0', 'map1', 'map2', 'map3', 'rois', 'labels']
    assert [(node.name, node.shape) for node in session.get_outputs()] == [
        ('masks', ['count', 112, 112])
    ]
    with torch.no_grad():
        maps = part.features(torch.randn(2, 3, *SIZE))
        rois, labels = part.example_objects(4, SIZE)
        rois[2:, 0] = 1
        expected = part(*maps, rois, labels)
    values = dict(zip(names, [x.numpy() for x in (*maps, rois, labels)]))
    np.testing.assert_allclose(session.run(None, values)[0], expected.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize('size', [(32, 320), (300, 320)])
def test_image_sizes_are_checked(size: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='multiples of 32 of at least 64'):
        export_onnx(MODELS['RefineMask'](), tmp_path / 'head.onnx', size)
    with pytest.raises(ValueError, match='images of 254 pixels'):
        export_onnx(MODELS['SipMask++'](), tmp_path / 'head.onnx', (128, 320))
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ModuleNotFoundError, match='pip install onnx onnxruntime'):
        export_onnx(MODELS['RefineMask'](), tmp_path / 'head.onnx', SIZE)


def run_tool(model: nn.Module, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    """``tools/export_onnx.py`` for a model at hand."""
    monkeypatch.setattr(export_tool, 'load_model', lambda *_, **__: model)
    size = ('--image-size', '256', '256')
    return export_tool.main(['config.py', 'weights.pth', str(out), *size, *more])


def test_tool_writes_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run_tool(sip_model(), tmp_path / 'head.onnx', monkeypatch) == 0
    told = capsys.readouterr().out
    assert 'map0, map1, map2, boxes, coeffs -> masks' in told and told.endswith('fine\n')
    assert '5 objects, 256 x 320: largest difference' in told


@pytest.mark.parametrize('place', [0, 1])
def test_tool_never_replaces_what_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture, place: int
) -> None:
    files = [tmp_path / 'config.py', tmp_path / 'weights.pth']
    for file in files:
        file.write_text('kept')
    assert export_tool.main([*map(str, files), str(files[place])]) == 1
    assert 'name another output' in capsys.readouterr().err
    assert [file.read_text() for file in files] == ['kept', 'kept']


def test_tool_refuses_a_graph_that_is_not_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def spoiled(part: Part, path: Path, **options: Any) -> list:
        part.head.conv_basis.weight.data.mul_(1.1)
        return check_onnx(part, path, **options)

    monkeypatch.setattr(export_tool, 'check_onnx', spoiled)
    assert run_tool(sip_model(), tmp_path / 'head.onnx', monkeypatch) == 1
    assert 'refused and removed' in capsys.readouterr().out
    assert not (tmp_path / 'head.onnx').exists()


def test_tool_refuses_what_is_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    model = sip_model()
    model.mask_head.conv_basis.weight.data[0] = torch.nan
    assert run_tool(model, tmp_path / 'head.onnx', monkeypatch) == 1
    assert 'refused and removed' in capsys.readouterr().out
    assert not (tmp_path / 'head.onnx').exists()


def test_graphs_of_other_shapes_are_refused(tmp_path: Path) -> None:
    part = export_onnx(MODELS['RefineMask'](), tmp_path / 'head.onnx', SIZE)
    masks = part.masks
    part.masks = lambda maps, objects: masks(maps, objects)[:, :56]
    with pytest.raises(ValueError, match=r'the graph gives shapes \[\(1, 112, 112\)\], the model'):
        check_onnx(part, tmp_path / 'head.onnx', (1,), (SIZE,))


def test_backbones_that_fix_the_image_size_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    config = Config.fromfile(ROOT / 'configs/mixed/refinemask_swin-t_fpn_1x_coco.py')
    init_default_scope('mmdet')
    model = REGISTRY.build(shrink(config.model)).eval()
    assert run_tool(model, tmp_path / 'head.onnx', monkeypatch) == 0
    assert run_tool(model, tmp_path / 'model.onnx', monkeypatch, '--with-backbone') == 1
    assert 'export without the backbone' in capsys.readouterr().err
    assert not (tmp_path / 'model.onnx').exists()


def test_tool_names_models_without_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    stock = tiny_stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    capsys.readouterr()  # building the model may warn of other packages
    assert run_tool(stock, tmp_path / 'head.onnx', monkeypatch) == 1
    assert capsys.readouterr().err.startswith('error: MaskRCNN with FCNMaskHead has no mask head')
    assert not list(tmp_path.iterdir())


def test_a_model_that_finds_nothing_is_not_called_fine(monkeypatch, capsys) -> None:
    nothing = [Agreement(0, 0.0, 0.0, 0)] * 2
    monkeypatch.setattr(export_tool, 'compare_detector', lambda *_: nothing)
    assert export_tool.agrees_whole(nn.Identity(), 'detector.onnx', (64, 64))
    told = capsys.readouterr().out
    assert 'not compared' in told and 'fine' not in told
