"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from locations import ROOT, golden_directories
from mmengine.registry import init_default_scope

import mmrefine  # noqa: F401  (registers the components)

# How long an example takes depends on what else the machine does.
settings.register_profile('patient', deadline=None)
settings.load_profile('patient')


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # some layers choose their way by the number of threads
    init_default_scope('mmdet')


@pytest.fixture(scope='session')
def golden_dirs() -> list[Path]:
    """Folders of recordings."""
    return golden_directories()


@pytest.fixture(scope='session')
def root() -> Path:
    """The repository."""
    return ROOT
