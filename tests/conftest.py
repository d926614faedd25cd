"""Fixtures shared by all tests."""

import functools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from fake_cuda import fake_cuda  # noqa: F401  (a fixture)
from hypothesis import settings
from locations import ROOT, golden_directories
from mmengine.config import config as mmengine_config
from mmengine.config import utils as config_utils
from mmengine.logging import MMLogger
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


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., Done]:
    """Run a tool in this process: importing everything again takes longer than most of them."""

    def run(tool: str, *arguments: object, folder: Path = ROOT) -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *map(str, arguments)])
        logger = MMLogger.get_current_instance()
        level = logger.level
        status: object = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
        except SystemExit as end:
            status = end.code
        finally:
            logger.setLevel(level)
        out, err = capsys.readouterr()
        if isinstance(status, str):  # a message, which the interpreter prints before it ends with 1
            status, err = 1, f'{err}{status}\n'
        return Done(int(status or 0), out, err)

    return run
