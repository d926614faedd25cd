"""The recordings of the original code are reproduced, and a changed recording is noticed."""

from pathlib import Path

import numpy as np
import pytest
from locations import golden_files
from replay import run_file


@pytest.mark.parametrize('path', golden_files('embedmask'), ids=lambda path: path.stem)
def test_recording_is_reproduced(path: Path) -> None:
    status, report = run_file(path, verbose=False)
    assert status == 0, [row for row in report.rows if not row.passed]


def test_a_wrong_number_in_a_recording_fails(tmp_path: Path) -> None:
    path = next(p for p in golden_files('embedmask') if 'unit' in p.stem)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays['out/mp_prob'] = arrays['out/mp_prob'] + 1e-2
    np.savez(tmp_path / path.name, **arrays)
    status, report = run_file(tmp_path / path.name, verbose=False)
    assert status == 1
    assert [row.quantity for row in report.rows if not row.passed] == ['mp_prob']
