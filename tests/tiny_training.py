"""A data set of rectangles and a stock Mask R-CNN so small that a training takes seconds."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from locations import ROOT

SIZE = 64
CONFIG = """
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
data_root = '{data}/'
metainfo = dict(classes=('box', 'bar'))
model = dict(
    backbone=dict(depth=18, base_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16, anchor_generator=dict(scales=[2])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=2),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=2)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=5)))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=({size}, {size})),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_dataloader = dict(
    batch_size=2, num_workers={workers}, persistent_workers={workers} > 0,
    dataset=dict(data_root=data_root, ann_file='annotations.json', data_prefix=dict(img='images/'),
                 metainfo=metainfo, pipeline=pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(data_root=data_root, ann_file='annotations.json', data_prefix=dict(img='images/'),
                 metainfo=metainfo, pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations.json', metric=['segm'])
test_evaluator = val_evaluator
train_cfg = dict(max_epochs={epochs}, val_interval=100)
optim_wrapper = dict(optimizer=dict(lr=0.001))
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""


def write_data(folder: Path, images: int = 8) -> Path:
    """Write noisy pictures with one or two filled rectangles each, in COCO format."""
    rng = np.random.default_rng(0)
    (folder / 'images').mkdir(parents=True)
    pictures, annotations = [], []
    for number in range(images):
        picture = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        for category in (1, 2)[: 1 + number % 2]:
            x, y = (int(v) for v in rng.integers(2, 30, 2))
            w, h = (24, 24) if category == 1 else (30, 10)
            picture[y : y + h, x : x + w, category] = 220
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    segmentation=[outline],
                    iscrowd=0,
                )
            )
        cv2.imwrite(str(folder / 'images' / f'{number}.png'), picture)
        pictures.append(dict(id=number, file_name=f'{number}.png', height=SIZE, width=SIZE))
    categories = [dict(id=1, name='box'), dict(id=2, name='bar')]
    content = dict(images=pictures, annotations=annotations, categories=categories)
    (folder / 'annotations.json').write_text(json.dumps(content))
    return folder


def write_config(
    folder: Path, name: str = 'tiny.py', epochs: int = 1, workers: int = 0, more: str = ''
) -> Path:
    """Write the data set, if need be, and a config for it."""
    data = folder / 'data'
    if not data.exists():
        write_data(data)
    path = folder / name
    text = CONFIG.format(data=data, size=SIZE, epochs=epochs, workers=workers)
    path.write_text(text + more)
    return path


def environment(**extra: str) -> dict[str, str]:
    """The environment of a command: this interpreter's programs, one thread, nothing of pytest."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **extra,
    }


def run(*command: object, folder: Path = ROOT, expect: int = 0, **extra: str) -> str:
    """Run a command and return what it printed; fail with that if it does not end as expected."""
    # Not a pipe: after a kill, data workers that outlive their parent would keep it open for ever.
    with tempfile.TemporaryFile('w+') as printed:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment(**extra),
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        printed.seek(0)
        output = printed.read()
    if status != expect:
        raise AssertionError(f'{command} ended with {status}:\n{output[-6000:]}')
    return output


def train(
    config: Path, work_dir: Path, *arguments: object, killed: bool = False, **extra: str
) -> str:
    """Train through ``tools/train.py``; what it printed."""
    command = (sys.executable, ROOT / 'tools' / 'train.py', config, '--work-dir', work_dir)
    expect = -signal.SIGKILL if killed else 0
    return run(*command, *arguments, expect=expect, **extra)


def losses(work_dir: Path) -> dict[int, dict[str, float]]:
    """Step -> the losses and gradient norm logged in it; a later run replaces an earlier one."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            values = {
                k: v for k, v in row.items() if 'loss' in k or k in ('lr', 'grad_norm', 'acc')
            }
            if 'loss' in row:
                found[int(row['step'])] = values
    return found
