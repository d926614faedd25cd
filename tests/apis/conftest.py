"""A small model of random weights, for tests of ``predict``."""

from pathlib import Path

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config

from mmrefine.apis.load_model import load_model

CONFIG = ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_fruit-nuts.py'
CLASSES = ('date', 'fig', 'hazelnut')


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, kept by their seed."""
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.manual_seed(3)
    model = MODELS.build(Config.fromfile(CONFIG).model)
    model.init_weights()
    torch.save(
        {'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': CLASSES}}}, path
    )
    return path


@pytest.fixture(scope='session')
def model(checkpoint: Path) -> torch.nn.Module:
    return load_model(CONFIG, checkpoint)
