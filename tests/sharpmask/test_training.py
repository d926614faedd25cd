"""The two-stage recipe and its proposals in a Fast R-CNN, through the Runner on a few shapes."""

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from shapes import SceneSpec, make_shapes


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(folder, 'coco', 6, 2, SceneSpec(height=96, width=96), seed=0)
    return folder


def configured(root, name, shapes, work, monkeypatch, **options):
    monkeypatch.setenv('MMREFINE_SHAPES', str(shapes))
    config = Config.fromfile(root / 'configs' / 'sharpmask' / name)
    config.work_dir = str(work)
    config.merge_from_dict(
        {
            'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'train_dataloader.batch_size': 4,
            'default_hooks.checkpoint.interval': 2, 'visualizer.vis_backends': [],
        } | options
    )  # fmt: skip
    return config


@pytest.mark.slow
def test_deepmask_then_sharpmask_then_fast_rcnn(root, shapes, tmp_path, monkeypatch):
    few = {'model.test_cfg.max_per_img': 20, 'model.test_cfg.log2_scales': (0.0,)}
    first = configured(root, 'deepmask_tiny_shapes.py', shapes, tmp_path / 'a', monkeypatch, **few)
    Runner.from_cfg(first).train()
    weights = tmp_path / 'a' / 'iter_2.pth'
    before = torch.load(weights, weights_only=False)['state_dict']

    second = configured(
        root, 'sharpmask_tiny_shapes.py', shapes, tmp_path / 'b', monkeypatch,
        load_from=str(weights), **few,
    )  # fmt: skip
    Runner.from_cfg(second).train()
    after = torch.load(tmp_path / 'b' / 'iter_2.pth', weights_only=False)['state_dict']
    assert all(torch.equal(before[k], after[k]) for k in before)

    dump = configured(
        root, 'sharpmask-proposals_tiny_shapes.py', shapes, tmp_path / 'c', monkeypatch,
        load_from=str(tmp_path / 'b' / 'iter_2.pth'), **few,
    )  # fmt: skip
    Runner.from_cfg(dump).test()
    file = Path(shapes) / 'proposals' / 'val.pkl'
    proposals = pickle.loads(file.read_bytes())
    assert all(0 < len(p.bboxes) <= 20 for p in proposals.values()) and len(proposals) == 2

    detector = configured(
        root, 'fast-rcnn_sharpmask-proposals_tiny_shapes.py', shapes, tmp_path / 'd', monkeypatch,
        **{
            'train_dataloader.dataset.ann_file': 'annotations/instances_val.json',
            'train_dataloader.dataset.proposal_file': 'proposals/val.pkl',
        },
    )  # fmt: skip
    Runner.from_cfg(detector).train()
    assert (tmp_path / 'd' / 'iter_2.pth').exists()
