"""Replays of the original's recordings: the small ones, and all where they are present."""

from pathlib import Path

import pytest
from locations import golden_files
from replay.run import PASSED, run_file

FILES = [path for path in golden_files('sipmask_') if not path.name.startswith('sipmask_vis_')]


def test_a_bare_clone_replays_operators_heads_and_losses():
    assert {
        'sipmask_small_crop_split.npz',
        'sipmask_small_fullsize.npz',
        'sipmask_small_losses.npz',
    } <= {path.name for path in FILES}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_recording_is_reproduced(path: Path):
    verdict, report = run_file(path, verbose=False)
    assert verdict == PASSED, [row for row in report.rows if not row.passed]
