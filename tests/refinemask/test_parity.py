"""The recordings of the original code are reproduced."""

from pathlib import Path

import pytest
from locations import golden_files
from replay import run_file


@pytest.mark.parametrize('path', golden_files('refinemask'), ids=lambda path: path.stem)
def test_recording_is_reproduced(path: Path) -> None:
    status, report = run_file(path, verbose=False)
    assert status == 0, [row for row in report.rows if not row.passed]
