"""The parity run itself: it must fail where it should."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from locations import ROOT

from mmrefine.layers import boundary
from mmrefine.refinemask import inference, mask_head, stages
from replay import Report, load_golden, refinemask, run, run_directory, run_file

RECORDED = ROOT / 'tests' / 'data' / 'golden'
OPERATORS = RECORDED / 'refinemask_small_ops.npz'


def altered(path: Path, out: Path, key: str, value: np.ndarray) -> Path:
    """A copy of a recording with one array replaced."""
    with np.load(path) as archive:
        arrays = dict(archive)
    assert key in arrays
    np.savez(out, **{**arrays, key: value})
    return out


def test_other_file_names_of_a_kind_are_accepted(tmp_path: Path) -> None:
    shutil.copy(OPERATORS, tmp_path / 'refinemask_seed_99.npz')
    assert run_directory(tmp_path, verbose=False) == run.PASSED


def test_a_different_output_fails_and_is_named(tmp_path: Path, capsys) -> None:
    changed = load_golden(OPERATORS)['out/roi_align'] + 0.01
    altered(OPERATORS, tmp_path / 'refinemask_ops.npz', 'out/roi_align', changed)
    assert run_directory(tmp_path, verbose=False) == run.FAILED
    assert 'FAIL roi_align' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['unknown_system.npz', 'refinemask_new.npz'])
def test_unknown_files_fail(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / name, a=np.zeros(1))
    assert run_directory(tmp_path) == run.FAILED


def test_damaged_file_fails_without_hiding_the_others(tmp_path: Path, capsys) -> None:
    shutil.copy(OPERATORS, tmp_path / 'refinemask_b.npz')
    (tmp_path / 'refinemask_a.npz').write_bytes(OPERATORS.read_bytes()[:5000])
    assert run_directory(tmp_path, verbose=False) == run.FAILED
    out = capsys.readouterr().out
    assert 'refinemask_a.npz: FAILED, cannot read' in out and '1 files passed, 1 failed' in out


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / 'refinemask_pickle.npz', a=np.array([object()], dtype=object))
    assert run_directory(tmp_path) == run.FAILED


def test_missing_system_is_told_apart(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run, 'SYSTEMS', (*run.SYSTEMS, 'future'))
    np.savez(tmp_path / 'future_head.npz', a=np.zeros(1))
    assert run_directory(tmp_path) == run.NOT_IMPLEMENTED


def test_empty_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no recorded files'):
        run_directory(tmp_path)


def test_report_judges_nan_shape_and_size() -> None:
    report = Report()
    report.close('nan', torch.tensor([float('nan')]), np.zeros(1), atol=1.0)
    report.close('shape', torch.zeros(2), np.zeros(3), atol=1.0)
    report.close('large', torch.tensor([1.1]), np.ones(1), atol=0.05)
    report.exact('label', torch.tensor([1, 2]), np.array([1, 3]))
    report.close('same', torch.ones(1), np.ones(1), atol=1e-9)
    assert [row.passed for row in report.rows] == [False, False, False, False, True]
    assert not report.passed and not Report().passed


def test_settings_and_packed_booleans_are_decoded(tmp_path: Path) -> None:
    truth = np.arange(10).reshape(2, 5) % 3 == 0
    path = tmp_path / 'refinemask_x.npz'
    packed = {'m@packed': np.packbits(truth), 'm@shape': np.array(truth.shape)}
    np.savez(path, **packed, **{'meta/settings': np.array(json.dumps(dict(seed=3)))})
    golden = load_golden(path)
    assert (golden['m'] == truth).all() and golden.settings == dict(seed=3)


# The mutations below change one detail of the method each: a recording that still passes would
# prove nothing.


def test_wrong_boundary_rule_is_detected(monkeypatch) -> None:
    original = boundary.boundary_map

    def any_neighbour(masks: torch.Tensor, width: int) -> torch.Tensor:
        pooled = torch.nn.functional.max_pool2d
        x = torch.nn.functional.pad(masks.float(), (width,) * 4)
        return (pooled(x, 2 * width + 1, 1) != -pooled(-x, 2 * width + 1, 1)).bool()

    monkeypatch.setattr(refinemask, 'boundary_map', any_neighbour)
    assert run_file(RECORDED / 'refinemask_small_bar.npz', verbose=False)[0] == run.FAILED
    monkeypatch.setattr(refinemask, 'boundary_map', original)
    assert run_file(RECORDED / 'refinemask_small_bar.npz', verbose=False)[0] == run.PASSED


@pytest.mark.parametrize('mutation', ['no sigmoid', 'aligned features', 'fusion width', 'poolers'])
def test_wrong_heads_are_detected(monkeypatch, mutation: str) -> None:
    if mutation == 'no sigmoid':
        init = mask_head.RefineMaskHead.__init__
        monkeypatch.setattr(
            mask_head.RefineMaskHead,
            '__init__',
            lambda self, mask_use_sigmoid, **kw: init(self, mask_use_sigmoid=False, **kw),
        )
    elif mutation == 'aligned features':
        build = stages.build_upsampler
        monkeypatch.setattr(
            stages, 'build_upsampler', lambda cfg, c: build(dict(cfg, align_corners=True), c)
        )
    elif mutation == 'fusion width':
        monkeypatch.setattr(inference, 'FUSION_WIDTH', 2)
    else:
        monkeypatch.setattr(
            stages,
            'roi_align',
            lambda f, r, s, scale: stages.point_roi_align(f, r, s, round(1 / scale)),
        )
    status, _ = run_file(RECORDED / 'refinemask_small_head.npz', verbose=False)
    assert status == run.FAILED
