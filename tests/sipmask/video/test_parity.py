"""Replays of the original's video recordings: those kept here, and all where they are present."""

from pathlib import Path

import pytest
from locations import golden_files
from replay.run import PASSED, run_file

FILES = golden_files('sipmask_vis_')


def test_a_bare_clone_replays_the_association():
    assert 'sipmask_vis_match.npz' in {path.name for path in FILES}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_recording_is_reproduced(path: Path):
    verdict, report = run_file(path, verbose=False)
    assert verdict == PASSED, [row for row in report.rows if not row.passed]
