"""The tool that scores masks in true boxes."""

import importlib.util
from pathlib import Path

import pytest
import torch
from families import FAMILIES
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import ValLoop
from mmengine.structures import InstanceData
from tiny_stock_models import tiny_stock_model

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location('true_boxes', ROOT / 'tools' / 'true_boxes.py')
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)


def test_boxes_become_those_they_overlap_most() -> None:
    truth = torch.tensor([[0.0, 0, 10, 10], [4.0, 0, 14, 10], [0.0, 0, 10, 10]])
    boxes = torch.tensor([[1.0, 0, 11, 10], [5.0, 0, 14, 10], [8.0, 0, 20, 10], [40.0, 0, 50, 10]])
    labels, truth_labels = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 1])
    found = tool.true_boxes(boxes, labels, truth, truth_labels, 0.5)
    # the third overlaps the second object by 6 / 16 only
    assert torch.equal(found, torch.stack([truth[0], truth[1], boxes[2], boxes[3]]))
    other = tool.true_boxes(boxes, labels + 1, truth, truth_labels, 0.5)
    assert torch.equal(other, torch.stack([truth[2], boxes[1], boxes[2], boxes[3]]))
    assert tool.true_boxes(boxes, labels, truth[:0], truth_labels[:0], 0.5) is boxes


@pytest.mark.parametrize('name', ['refinemask', 'sipmask', 'embedmask-v3'])
def test_masks_are_made_in_the_true_box(name: str) -> None:
    model = FAMILIES[name].build().eval()
    pixels, samples = FAMILIES[name].batch()
    box = torch.tensor([[30.0, 20.0, 70.0, 60.0]])
    for sample in samples:
        # twice as large in the network: true boxes are in pixels of the file
        size = sample.img_shape
        sample.set_metainfo(dict(scale_factor=(2.0, 2.0), ori_shape=(size[0] // 2, size[1] // 2)))
        truth = InstanceData(bboxes=(box / 2).repeat(9, 1), labels=torch.arange(9))
        sample.gt_instances = truth
    tool.use_true_boxes(model, iou=0.0)  # whatever its class, it takes the one box
    with torch.no_grad():
        results = model.predict(pixels, samples, rescale=True)
    for sample in results:
        found = sample.pred_instances
        assert len(found) > 0
        torch.testing.assert_close(found.bboxes, (box / 2).expand(len(found), 4))
        outside = found.masks.clone()
        outside[:, 10 - 6 : 30 + 6, 15 - 6 : 35 + 6] = False  # no design leaves its box by more
        assert not outside.any()


def test_pictures_without_annotations_are_named() -> None:
    model = FAMILIES['sipmask'].build().eval()
    pixels, samples = FAMILIES['sipmask'].batch()
    for sample in samples:
        sample.set_metainfo(dict(img_path='one.jpg'))
        sample.gt_instances = InstanceData()
    tool.use_true_boxes(model)
    with pytest.raises(ValueError, match=r'one\.jpg has no true boxes.*LoadAnnotations'):
        model.predict(pixels, samples)


def test_models_whose_masks_come_from_no_box_are_named() -> None:
    solo = MODELS.build(get_config('mmdet::solo/solo_r50_fpn_1x_coco.py').model)
    for model in (torch.nn.Identity(), solo):
        message = f'{type(model).__name__} has no boxes from which masks are made'
        with pytest.raises(ValueError, match=message):
            tool.use_true_boxes(model)
    queries = tiny_stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    queries.roi_head.__class__ = SparseRoIHead
    with pytest.raises(TypeError, match='masks of .* come from its own queries'):
        tool.use_true_boxes(queries)


def tiny_config(work_dir: Path) -> Config:
    """The config of a model without pictures to score."""
    config = Config.fromfile(ROOT / 'configs/refinemask/refinemask_tiny_shapes.py')
    config.val_evaluator = dict(type='MaskAPMetric')
    none = work_dir / 'none.json'
    none.write_text('{"images": [], "annotations": [], "categories": []}')
    data = dict(type='CocoDataset', ann_file=str(none), serialize_data=False, test_mode=True)
    sampler = dict(type='DefaultSampler', shuffle=False)
    config.val_dataloader = dict(batch_size=1, sampler=sampler, dataset=data)
    config.merge_from_dict(dict(work_dir=str(work_dir), train_dataloader=None, train_cfg=None))
    config.merge_from_dict(dict(optim_wrapper=None, param_scheduler=None))
    return config


@pytest.mark.parametrize('resume', [True, False])
def test_the_weights_are_those_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    config = tiny_config(tmp_path)
    own, other = ({'state_dict': MODELS.build(config.model).state_dict()} for _ in range(2))
    for name, value in own['state_dict'].items():
        other['state_dict'][name] = value + 1
    torch.save(own, tmp_path / 'own.pth')
    torch.save(other, tmp_path / 'other.pth')
    # MMEngine resumes from what this file names
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'other.pth'))
    config.merge_from_dict(
        dict(resume=True) if resume else dict(load_from=str(tmp_path / 'other.pth'))
    )
    scored = []
    monkeypatch.setattr(ValLoop, 'run', lambda loop: scored.append(loop.runner.model))
    tool.score(config, str(tmp_path / 'own.pth'), lambda model: None)
    torch.testing.assert_close(scored[0].state_dict(), own['state_dict'])


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    tiny_config(tmp_path).dump(tmp_path / 'config.py')
    torch.save({'state_dict': {'other.weight': torch.ones(1)}}, tmp_path / 'w.pth')
    for words, message in (
        (['config.py', 'w.pth'], 'of another model than the config'),
        (['config.py', 'none.pth'], 'none.pth'),
        (['none.py', 'w.pth'], 'none.py'),
    ):
        with pytest.raises(SystemExit) as ended:
            tool.main([str(tmp_path / word) for word in words])
        assert str(ended.value).startswith('true_boxes: ') and message in str(ended.value)


@pytest.mark.parametrize('names', [['lvis/segm_APs', 'lvis/segm_AP'], ['cityscapes/mAP']])
def test_ap_is_shown_whatever_the_metric_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, names: list[str]
) -> None:
    tiny_config(tmp_path).dump(tmp_path / 'config.py')
    monkeypatch.setattr(tool, 'score', lambda *args: dict.fromkeys(names, 0.25))
    tool.main([str(tmp_path / 'config.py'), 'weights.pth'])
    shown = [name.rpartition('/')[2] for name in names[::-1]]
    assert capsys.readouterr().out.splitlines()[0] == f'| boxes | {" | ".join(shown)} |'


def test_a_metric_without_ap_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_config(tmp_path).dump(tmp_path / 'config.py')
    monkeypatch.setattr(tool, 'score', lambda *args: {'proposals/AR@100': 0.5})
    with pytest.raises(SystemExit, match='measures no AP but proposals/AR@100'):
        tool.main([str(tmp_path / 'config.py'), 'weights.pth'])
