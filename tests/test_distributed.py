"""Two processes, one of them without positives, end with equal gradients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from locations import ROOT


@pytest.mark.parametrize(
    'family',
    ['refinemask', *(pytest.param(f, marks=pytest.mark.slow) for f in ('sipmask', 'embedmask'))],
)
def test_gradients_are_shared(tmp_path: Path, family: str) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, str(ROOT / 'tests' / 'distributed_step.py')]
    ranks = [
        subprocess.Popen(
            [*command, str(r), str(tmp_path), family],
            env={**os.environ, 'PYTHONPATH': path},
        )
        for r in range(2)
    ]
    try:
        assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert first == second
    head = [name for name in first if 'mask_head' in name]
    assert len(head) > (50 if family == 'refinemask' else 3) and all(
        first[name] > 0 for name in head if name.endswith('weight')
    )
