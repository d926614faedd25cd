"""Draws of the data pipeline depend on the position in the schedule alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets import MultiImageMixDataset
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from mmrefine.hooks.resumable_randomness import ResumableRandomnessHook

COUNT, EPOCHS = 6, 3


def blank(info: dict) -> dict:
    """A grey picture, one grey an image, a fifth of the range apart, and noise of a draw."""
    number = info['sample_idx']
    grey = 40 * number + int(np.random.randint(0, 9))
    return {
        'img': np.full((16, 16, 3), grey, np.uint8),
        'img_shape': (16, 16),
        'gt_bboxes': HorizontalBoxes(torch.tensor([[2.0, 2, 12, 12]])),
        'gt_bboxes_labels': np.array([number]),
        'gt_ignore_flags': np.array([False]),
    }


class Blanks(BaseDataset):
    """Pictures that need no files."""

    def load_data_list(self) -> list[dict]:
        return [{} for _ in range(COUNT)]


def epochs_of(begin: int, workers: int) -> list[list[np.ndarray]]:
    """The pictures of every epoch of a run that begins or is resumed at one of them."""
    mosaic = {'type': 'mmdet.Mosaic', 'img_scale': (16, 16), 'prob': 1.0}
    mixed = MultiImageMixDataset(
        Blanks(pipeline=[blank], serialize_data=False), [mosaic, {**mosaic, 'prob': 0.5}]
    )
    persistent = workers > 0
    loader = DataLoader(
        mixed, num_workers=workers, persistent_workers=persistent, collate_fn=lambda batch: batch
    )
    runner = SimpleNamespace(train_loop=None, train_dataloader=loader, seed=3, epoch=begin)
    hook = ResumableRandomnessHook()
    hook.before_train(runner)
    found = []
    for runner.epoch in range(begin, EPOCHS):
        hook.before_train_epoch(runner)
        found.append([sample['img'] for (sample,) in loader])
    return found


@pytest.mark.parametrize('workers', [0, 1])
def test_mixtures_of_a_resumed_run_are_those_of_an_unbroken_one(workers: int) -> None:
    unbroken, resumed = epochs_of(0, workers), epochs_of(1, workers)
    np.testing.assert_array_equal(unbroken[1:], resumed)
    assert not np.array_equal(unbroken[0], unbroken[1])
