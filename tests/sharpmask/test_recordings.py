"""Recordings of the original code: the small ones always, the complete ones as slow tests."""

import pytest
import torch
from locations import ROOT, golden_files
from replay import run_file
from replay.run import PASSED
from replay.sharpmask_weights import build_model

FILES = golden_files('sharpmask')
SMALL = list((ROOT / 'tests' / 'data' / 'golden').glob('sharpmask*'))
LIGHT = ('.t7', '.json')


@pytest.mark.parametrize(
    'path',
    [p for p in dict.fromkeys([*SMALL, *FILES]) if p.suffix in LIGHT or p in SMALL],
    ids=lambda p: f'{p.parent.name}-{p.name}',
)
def test_small_recordings_are_reproduced(path):
    verdict, report = run_file(path, verbose=False)
    assert verdict == PASSED, [row for row in report.rows if not row.passed]


@pytest.mark.slow
@pytest.mark.parametrize(
    'path', [p for p in FILES if p.suffix == '.npz'], ids=lambda p: f'{p.parent.name}-{p.name}'
)
def test_complete_recordings_are_reproduced(path):
    verdict, report = run_file(path, verbose=False)
    assert verdict == PASSED, [row for row in report.rows if not row.passed]


def test_a_bare_checkout_has_recordings():
    assert {p.suffix for p in SMALL} == {'.t7', '.json', '.npz'}


def test_other_seeds_and_patch_sizes_build():
    first, second = (build_model('lua', seed, True, patch=96, mask_size=40) for seed in (7, 11))
    assert first.window == 96
    weights = [m.mask_head.encoder.weight for m in (first, second)]
    assert weights[0].shape == (512, 128, 6, 6) and not torch.equal(*weights)
