"""Views of a picture merged into one prediction, by hand-made models and real ones."""

from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import pytest
import tiny_sipmask
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from tiny_refinemask import tiny_detector
from tiny_stock_models import tiny_stock_model
from tiny_training import write_config
from torch import Tensor, nn

from mmrefine.apis.tta import ViewsTTAModel, weighted_boxes
from mmrefine.apis.views import View, parse_views, view_pipeline
from mmrefine.masks import to_dense

SIZE = (96, 128)
STEPS = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('ori_shape', 'img_shape', 'scale_factor')),
]


def picture(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 12, 16, generator=generator) * 255
    return nn.functional.interpolate(small, size=SIZE, mode='bicubic')[0].clamp(0, 255).byte()


def views_of(image: Tensor, *views: View) -> dict[str, list]:
    """What TestTimeAug and the collation give for one picture."""
    inputs, samples = [], []
    for view in views:
        size = tuple(round(side * view.scale) for side in SIZE)
        seen = nn.functional.interpolate(image[None].float(), size=size, mode='bilinear')[0].byte()
        axes = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-1, -2), None: ()}[view.flip]
        inputs.append([seen.flip(axes)])
        meta = dict(
            ori_shape=SIZE,
            img_shape=size,
            scale_factor=(size[1] / SIZE[1], size[0] / SIZE[0]),
            flip=view.flip is not None,
            flip_direction=view.flip,
            img_id=0,
        )
        samples.append([DetDataSample(metainfo=meta)])
    return dict(inputs=inputs, data_samples=samples)


def plain(model: nn.Module, image: Tensor) -> InstanceData:
    data = views_of(image, View())
    batch = dict(inputs=data['inputs'][0], data_samples=data['data_samples'][0])
    with torch.no_grad():
        return model.test_step(batch)[0].pred_instances


STOCK = {
    'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'Cascade': 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'HTC': 'htc/htc_r50_fpn_1x_coco',
    'SCNet': 'scnet/scnet_r50_fpn_1x_coco',
    'PointRend': 'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco',
    'Mask Scoring R-CNN': 'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco',
}


@pytest.fixture(params=[*STOCK, 'RefineMask', 'SipMask'])
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    if request.param == 'RefineMask':
        return tiny_detector('RefineMaskHead').eval()
    if request.param in STOCK:
        return tiny_stock_model(STOCK[request.param])
    model = tiny_sipmask.tiny_detector()
    model.data_preprocessor = MODELS.build(
        dict(type='DetDataPreprocessor', mean=[120] * 3, std=[60] * 3, pad_size_divisor=32)
    )
    return model.eval()


ALL = dict(nms=dict(type='nms', iou_threshold=0.99), max_per_img=300)


def best_first(found: InstanceData) -> InstanceData:
    return found[found.scores.argsort(descending=True, stable=True)]


def test_one_view_is_the_model_itself(model: nn.Module) -> None:
    tta = ViewsTTAModel(module=model)
    expected = plain(model, picture())
    found = tta.test_step(views_of(picture(), View()))[0].pred_instances
    assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)
    assert list(found.masks) == list(expected.masks) and len(found)


def test_the_same_view_twice_changes_nothing(model: nn.Module) -> None:
    """Averages of equal probabilities, merged from equal boxes."""
    tta = ViewsTTAModel(module=model, tta_cfg=ALL)
    expected = best_first(plain(model, picture()))
    found = tta.test_step(views_of(picture(), View(), View()))[0].pred_instances
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.bboxes, expected.bboxes)
    a, b = to_dense(found.masks, SIZE), to_dense(expected.masks, SIZE)
    assert (a ^ b).sum() <= 1e-4 * a.numel() and a.any()


@pytest.mark.parametrize('flip', ['horizontal', 'vertical', 'diagonal'])
def test_a_mirrored_picture_gives_mirrored_masks(model: nn.Module, flip: str) -> None:
    """The mirrored view of the mirrored picture is the picture, but for where its masks lie."""
    axes = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-1, -2)}[flip]
    tta = ViewsTTAModel(module=model, tta_cfg=ALL)
    expected = best_first(plain(model, picture()))
    found = tta.test_step(views_of(picture().flip(axes), View(flip=flip)))[0].pred_instances
    torch.testing.assert_close(found.scores, expected.scores)
    a, b = to_dense(found.masks, SIZE), to_dense(expected.masks, SIZE).flip(axes)
    assert (a ^ b).sum() <= 1e-3 * max(int(b.sum()), 1) and b.any()


def test_scales_and_flips_of_a_batch_are_those_of_its_pictures(model: nn.Module) -> None:
    tta = ViewsTTAModel(module=model)
    views = (View(), View(flip='horizontal'), View(1.5), View(0.5, 'vertical'))
    one, two = (views_of(picture(seed), *views) for seed in (1, 2))
    both = {key: [a + b for a, b in zip(one[key], two[key])] for key in one}
    alone = [tta.test_step(data)[0].pred_instances for data in (one, two)]
    together = [
        sample.pred_instances
        for sample in tta.test_step({k: [list(v) for v in both[k]] for k in both})
    ]
    for a, b in zip(alone, together):
        assert len(a) and abs(len(a) - len(b)) <= 1
        torch.testing.assert_close(a.scores[:3], b.scores[:3], atol=1e-4, rtol=0)


def test_boxes_without_masks_are_merged_as_by_mmdetection() -> None:
    model = tiny_stock_model('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    views = (View(), View(flip='horizontal'))
    config = ConfigDict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=7)
    stock = MODELS.get('DetTTAModel')(module=model, tta_cfg=config)
    with torch.no_grad():
        expected = stock.test_step(views_of(picture(), *views))[0].pred_instances
    found = MODELS.get('ViewsTTAModel')(module=model, tta_cfg=config)
    found = found.test_step(views_of(picture(), *views))[0].pred_instances
    assert 0 < len(found) <= 7 and 'masks' not in found
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[key], expected[key])


class Drawn(nn.Module):
    """Gives the prediction that stands in a view's data sample."""

    def test_step(self, data: dict) -> list[DetDataSample]:
        return data['data_samples']


def drawn(*views: tuple[list[list[float]], list[float], str | None]) -> dict[str, list]:
    """Views with boxes in their own coordinates; masks fill the boxes."""
    samples = []
    for boxes, scores, flip in views:
        corners = torch.tensor(boxes).reshape(-1, 4)
        masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, corners.long().tolist()):
            mask[y1:y2, x1:x2] = True
        meta = dict(ori_shape=SIZE, flip=flip is not None, flip_direction=flip)
        sample = DetDataSample(metainfo=meta)
        sample.pred_instances = InstanceData(
            bboxes=corners,
            scores=torch.tensor(scores),
            labels=torch.zeros(len(scores), dtype=torch.long),
            masks=masks,
        )
        samples.append([sample])
    return dict(inputs=[[None]] * len(samples), data_samples=samples)


def merged(data: dict, **nms: Any) -> InstanceData:
    model = ViewsTTAModel(module=Drawn(), tta_cfg=dict(nms=nms) if nms else None)
    return model.test_step(data)[0].pred_instances


def test_the_best_view_gives_the_mask() -> None:
    data = drawn(
        ([[10.0, 20, 30, 50], [100, 0, 120, 30]], [0.6, 0.9], None),
        ([[128.0 - 32, 20, 128 - 10, 52]], [0.7], 'horizontal'),
    )
    found = merged(data)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))
    torch.testing.assert_close(found.bboxes[1], torch.tensor([10.0, 20, 32, 52]))
    assert [coco_mask.toBbox(dict(rle)).tolist() for rle in found.masks] == [
        [100, 0, 20, 30],
        [10, 20, 22, 32],
    ]


def test_soft_nms_lowers_scores_and_keeps_boxes() -> None:
    boxes = ([[10.0, 20, 30, 50]], [0.6], None), ([[12.0, 20, 32, 50]], [0.8], None)
    found = merged(drawn(*boxes), type='soft_nms', iou_threshold=0.3)
    assert len(found) == 2 and found.scores[0] == pytest.approx(0.8) and found.scores[1] < 0.6
    assert coco_mask.toBbox(dict(found.masks[1])).tolist() == [10, 20, 20, 30]


def test_weighted_boxes_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [0, 0, 10, 10]])
    scores, labels = torch.tensor([0.9, 0.3, 0.8, 0.5]), torch.tensor([0, 0, 0, 1])
    merged, found, kinds, source = weighted_boxes(boxes, scores, labels, 0.55, 2)
    # 0.6 for the pair, half of the score for what one of two views found
    torch.testing.assert_close(found, torch.tensor([0.6, 0.4, 0.25]))
    torch.testing.assert_close(merged[0], torch.tensor([0.5, 0, 10.5, 10]))
    assert kinds.tolist() == [0, 0, 1] and source.tolist() == [0, 2, 3]
    weighted = weighted_boxes(boxes + 500.3, scores, labels, 0.55, 2)[0]
    one, none = weighted_boxes(boxes[:1], scores[:1] * 0, labels[:1], 0.55, 1)[:2]
    assert torch.equal(one, boxes[:1]) and none.item() == 0
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(weighted_boxes(boxes + 500.3, scores, labels, 0.55, 2)[0], weighted)


@pytest.mark.parametrize('kind', ['nms', 'soft_nms', 'weighted_boxes'])
def test_views_without_objects(kind: str) -> None:
    found = merged(drawn(([], [], None), ([], [], 'vertical')), type=kind, iou_threshold=0.5)
    assert len(found) == 0 and found.bboxes.shape == (0, 4) and found.masks.shape == (0, *SIZE)
    one = merged(drawn(([], [], None), ([[0.0, 0, 9, 9]], [0.5], 'vertical')), type=kind)
    assert coco_mask.toBbox(dict(one.masks[0])).tolist() == [0, 96 - 9, 9, 9]


def test_models_that_give_masks_without_boxes() -> None:
    """SOLO's boxes are zeros."""
    data = drawn(([[10.0, 20, 30, 50], [60, 20, 90, 50]], [0.6, 0.5], None), ([], [], None))
    data['data_samples'][0][0].pred_instances.bboxes *= 0
    found = merged(data)
    assert found.bboxes.tolist() == [[10, 20, 30, 50], [60, 20, 90, 50]]


def test_a_mask_head_of_another_kind_keeps_the_masks_of_the_best_view() -> None:
    model = tiny_stock_model(STOCK['Mask R-CNN'])
    head = model.roi_head.mask_head

    class Own(type(head)):  # type: ignore[misc]
        """A head of one's own, whose grids nobody knows."""

    head.__class__ = Own
    expected = best_first(plain(model, picture()))
    tta = ViewsTTAModel(module=model, tta_cfg=ALL)
    found = tta.test_step(views_of(picture(), View(), View()))[0].pred_instances
    assert torch.equal(found.scores, expected.scores) and type(model.roi_head.mask_head) is Own
    assert torch.equal(to_dense(found.masks, SIZE), expected.masks)


def test_rooms_for_the_state_dict() -> None:
    """The wrapper adds no weights, so that checkpoints fit."""
    model = tiny_detector('RefineMaskHead').eval()
    tta = ViewsTTAModel(module=model)
    tta.test_step(views_of(picture(), View(), View(flip='horizontal')))
    assert list(tta.state_dict()) == [f'module.{key}' for key in model.state_dict()]
    assert model.roi_head.with_mask
    assert np.isfinite(plain(model, picture()).scores.numpy()).all()


# Views as users give them.


def test_words_of_the_command_line() -> None:
    assert parse_views(['flip']) == [View(), View(flip='horizontal')]
    assert parse_views(['0.5', '1']) == [View(0.5), View(1.0)]
    assert len(parse_views(['0.5', '1', 'flip', 'vflip'])) == 6


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['mirror'], "flip or vflip, got 'mirror'"),
        (['0'], 'between 0 and 16, got 0'),
        (['nan'], 'between 0 and 16'),
        (['1', '1.0'], 'given twice'),
        (['flip', 'flip'], 'given twice'),
    ],
)
def test_words_that_are_no_views(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_views(words)


def test_pipelines_of_views() -> None:
    assert view_pipeline(STEPS, View()) == STEPS
    half = view_pipeline(STEPS, View(0.5, 'horizontal'))
    assert half[1]['scale'] == (64, 48)
    assert half[2] == dict(type='mmdet.RandomFlip', prob=1.0, direction='horizontal')
    assert half[3]['meta_keys'][-2:] == ('flip', 'flip_direction')
    assert STEPS[1]['scale'] == (128, 96)
    factor = [STEPS[0], dict(type='Resize', scale_factor=2.0), STEPS[2]]
    assert view_pipeline(factor, View(0.5))[1]['scale_factor'] == 1.0
    with pytest.raises(ValueError, match='no Resize .* LoadImageFromFile, PackDetInputs'):
        view_pipeline([STEPS[0], STEPS[2]], View(2.0))


# As `mim test --tta` runs it.


def views_tested(folder: Path, transforms: list | None, **tta_cfg: Any) -> tuple[dict, list]:
    """Metrics and predictions of the tiny data set, with what --tta makes of a config."""
    config = Config.fromfile(write_config(folder))
    config.merge_from_dict(
        dict(work_dir=str(folder / 'work'), default_scope='mmdet', load_from=str(folder / 'w.pth'))
    )
    dump = dict(type='DumpDetResults', out_file_path=str(folder / 'dump.pkl'))
    config.test_evaluator = [dict(type='MaskAPMetric'), dump]
    pipeline = [step for step in config.pipeline if step.type != 'RandomFlip']
    if transforms is not None:
        base = Config.fromfile(ROOT / 'configs' / '_base_' / 'views_tta.py')
        base.tta_model.tta_cfg.update(tta_cfg)
        load, pack = base.tta_pipeline[1].transforms[-2:]
        pipeline = [
            base.tta_pipeline[0],
            dict(type='TestTimeAug', transforms=[*transforms, load, pack]),
        ]
        config.model = ConfigDict(**base.tta_model, module=config.model)
    config.test_dataloader.dataset.pipeline = pipeline
    runner = Runner.from_cfg(config)
    if not (folder / 'w.pth').exists():
        torch.save(dict(state_dict=runner.model.state_dict()), folder / 'w.pth')
    metrics = runner.test()
    found = [sample['pred_instances'] for sample in mmengine.load(folder / 'dump.pkl')]
    return metrics, [(each['scores'].tolist(), each['masks']) for each in found]


def test_the_runner_tests_with_views(tmp_path: Path) -> None:
    torch.manual_seed(0)
    resize = [dict(type='Resize', scale=(side, side)) for side in (64, 96)]
    flips = [dict(type='RandomFlip', prob=p, direction='vertical') for p in (0.0, 1.0)]
    alone = views_tested(tmp_path, None)
    assert views_tested(tmp_path, [resize[:1], flips[:1]]) == alone  # one view is the plain test
    views = views_tested(tmp_path, [resize, flips], max_per_img=20)
    assert set(views[0]) == set(alone[0]) and all(np.isfinite(list(views[0].values())))
    for one, several in zip(alone[1], views[1]):
        assert 5 <= len(one[0]) < len(several[0]) == len(several[1]) <= 20
        assert all(tuple(mask['size']) == (64, 64) for mask in several[1])
