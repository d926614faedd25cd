"""Fixtures shared by all tests."""

import functools
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from locations import ROOT, golden_directories
from mmengine.config import config as mmengine_config
from mmengine.config import utils as config_utils
from mmengine.registry import init_default_scope

import mmrefine  # noqa: F401  (registers the components)

# How long an example takes depends on what else the machine does.
settings.register_profile('patient', deadline=None)
settings.load_profile('patient')

# For every base of a config MMEngine lists all installed packages and parses all metafiles of
# MMDetection anew: half a second each.
mmengine_config.is_installed = functools.cache(mmengine_config.is_installed)
config_utils.load = functools.cache(config_utils.load)


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
