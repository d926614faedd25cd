"""MMDetection's own LVIS, YouTube-VIS and Cityscapes metrics run; perfect masks score 1."""

import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

SIDE = 96


def rectangles(shift: int = 0) -> torch.Tensor:
    """BoolTensor[2, SIDE, SIDE]."""
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 10:50, 5 + shift : 45 + shift] = True
    masks[1, 60:90, 30 + shift : 80 + shift] = True
    return masks


def boxes(masks: torch.Tensor) -> torch.Tensor:
    """Tensor[N, 4], the tight boxes of the masks."""
    found = []
    for mask in masks:
        ys, xs = torch.nonzero(mask, as_tuple=True)
        found.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return torch.tensor(found, dtype=torch.float32)


def rle(mask: torch.Tensor) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return dict(size=encoded['size'], counts=encoded['counts'].decode())


def predictions(masks: torch.Tensor) -> InstanceData:
    return InstanceData(
        bboxes=boxes(masks),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 1]),
        masks=masks,
    )


def test_lvis(tmp_path: Path) -> None:
    masks = rectangles()
    annotations = [
        dict(
            id=i + 1,
            image_id=1,
            category_id=i + 1,
            segmentation=rle(mask),
            area=int(mask.sum()),
            bbox=[1, 1, 2, 2],
        )
        for i, mask in enumerate(masks)
    ]
    content = dict(
        images=[
            dict(
                id=1,
                height=SIDE,
                width=SIDE,
                neg_category_ids=[],
                not_exhaustive_category_ids=[],
            )
        ],
        categories=[dict(id=1, name='a', frequency='f'), dict(id=2, name='b', frequency='r')],
        annotations=annotations,
    )
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(content))
    metric = METRICS.build(dict(type='LVISMetric', ann_file=str(path), metric=['segm']))
    metric.dataset_meta = dict(classes=('a', 'b'))
    sample = dict(img_id=1, ori_shape=(SIDE, SIDE), pred_instances=predictions(masks).to_dict())
    metric.process({}, [sample])
    found = metric.evaluate(1)
    assert found['lvis/segm_AP'] == found['lvis/segm_APr'] == found['lvis/segm_APf'] == 1.0


def test_youtube_vis() -> None:
    frames = []
    for number in range(3):
        masks = rectangles(shift=number)
        instances = [
            dict(bbox=box.tolist(), bbox_label=i, mask=rle(mask), instance_id=i + 1, ignore_flag=0)
            for i, (box, mask) in enumerate(zip(boxes(masks), masks))
        ]
        frame = DetDataSample(
            metainfo=dict(
                img_id=number,
                video_id=1,
                ori_shape=(SIDE, SIDE),
                instances=instances,
                frame_id=number,
            )
        )
        frame.pred_track_instances = predictions(masks)
        frame.pred_track_instances.instances_id = torch.tensor([0, 1])
        frames.append(frame)
    metric = METRICS.build(dict(type='YouTubeVISMetric', metric='youtube_vis_ap'))
    metric.dataset_meta = dict(classes=('a', 'b'))
    metric.process_video(frames)
    found = metric.evaluate(1)
    assert found['youtube_vis/segm_mAP'] == 1.0


def test_cityscapes(tmp_path: Path) -> None:
    masks = rectangles()
    image = tmp_path / 'leftImg8bit' / 'val' / 'town' / 'town_000000_000000_leftImg8bit.png'
    truth = Path(
        str(image)
        .replace('leftImg8bit.png', 'gtFine_instanceIds.png')
        .replace('leftImg8bit', 'gtFine')
    )
    truth.parent.mkdir(parents=True)
    ids = np.zeros((SIDE, SIDE), np.uint16)
    ids[masks[0].numpy()], ids[masks[1].numpy()] = 24000, 26000  # a person, a car
    cv2.imwrite(str(truth), ids)
    metric = METRICS.build(
        dict(
            type='CityScapesMetric',
            seg_prefix=str(tmp_path / 'gtFine'),
            outfile_prefix=str(tmp_path / 'out'),
        )
    )
    metric.dataset_meta = dict(classes=('person', 'car'))
    metric.process({}, [dict(img_path=str(image), pred_instances=predictions(masks).to_dict())])
    found = metric.evaluate(1)
    assert found['cityscapes/mAP'] == pytest.approx(1.0)
