"""The command measures everything, continues, and says in a sentence what it cannot do."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmark.report import write_markdown
from benchmark.runner import Part, Store
from benchmark_rows import SETTINGS, row


@pytest.fixture
def tool(root: Path) -> ModuleType:
    path = root / 'tools' / 'benchmark.py'
    spec = importlib.util.spec_from_file_location('benchmark_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_everything_runs_at_tiny_sizes(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, document = tmp_path / 'out.json', tmp_path / 'benchmarks.md'
    ids = [f'B{n}' for n in (1, 2, 3, 4, 5, 6, 7, 8, 10)]
    command = ['all', '--only', *ids, '--quick', '--json', str(out), '--markdown', str(document)]
    assert tool.main(command) == 0, capsys.readouterr()
    rows = json.loads(out.read_text())
    assert list(dict.fromkeys(r['id'] for r in rows)) == ids
    assert all(r['time_ratio'] > 0 and r['equal'] for r in rows)
    assert '### Training step' in document.read_text()

    capsys.readouterr()
    first = document.read_text()
    document.unlink()
    assert tool.main(command) == 0
    said = capsys.readouterr().out
    assert said.count(': kept from ') == len({r['part'] for r in rows}) and ' ...' not in said
    assert document.read_text() == first


@pytest.mark.parametrize(
    'name',
    ['B6', *(pytest.param(f'B{n}', marks=pytest.mark.slow) for n in (1, 2, 3, 4, 5, 7, 8, 10))],
)
def test_every_benchmark_runs_in_a_process_of_its_own(name: str, root: Path) -> None:
    command = [sys.executable, str(root / 'tools' / 'benchmark.py'), name, '--quick']
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['B99'], 'unknown benchmark B99; known: all, B1, '),
        (['all', '--only', 'B7/640'], 'unknown benchmark B7/640; known: all, B1, '),
        (['B1', '--only', 'B2'], '--only B2 leaves nothing of B1'),
        (['B1', '--threads', '0'], '--threads must be at least 1, got 0'),
    ],
)
def test_wrong_commands_are_explained(
    tool: ModuleType, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as error:
        tool.main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_an_absent_gpu_is_told(
    tool: ModuleType, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        tool.main(['B1', '--device', 'cuda'])
    assert 'torch sees no CUDA device' in capsys.readouterr().err


def unmeasured(device: str) -> list:
    raise AssertionError('measured although the result cannot be kept')


@pytest.mark.parametrize('name', ['missing/out.json', '.'])
def test_an_unwritable_file_is_told_before_measuring(
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(tool, 'available', lambda: {'B1': [Part('B1', 'B1/x', unmeasured)]})
    assert tool.main(['B1', '--json', str(tmp_path / name)]) == 2
    assert 'cannot use --json: ' in capsys.readouterr().err


def test_a_document_that_cannot_take_the_tables_is_told_before_measuring(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {name: [Part(name, f'{name}/x', unmeasured)] for name in ('B1', 'B2')}
    monkeypatch.setattr(tool, 'available', lambda: parts)
    document = tmp_path / 'benchmarks.md'
    write_markdown(document, [{**row(i).as_dict(), 'settings': SETTINGS} for i in ('B1', 'B2')])
    before = document.read_text()
    for path, told in (
        (tmp_path / 'missing/out.md', 'there is no folder'),
        (tmp_path, 'Is a directory'),
        (document, 'shows B2, of which nothing is measured here'),
    ):
        assert tool.main(['B1', '--markdown', str(path)]) == 2
        assert re.search(f'cannot use --markdown: .*{told}', capsys.readouterr().err)
    assert document.read_text() == before


def test_tables_stay_where_a_part_fails(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {
        'B1': [Part('B1', 'B1/x', unmeasured)],
        'B2': [Part('B2', 'B2/x', lambda device: [row('B2')])],
    }
    monkeypatch.setattr(tool, 'available', lambda: parts)
    document = tmp_path / 'benchmarks.md'
    write_markdown(document, [{**row(i).as_dict(), 'settings': SETTINGS} for i in ('B1', 'B2')])
    before = document.read_text()
    assert tool.main(['all', '--markdown', str(document)]) == 2
    assert 'shows B1, of which nothing' in capsys.readouterr().err
    assert document.read_text() == before


def test_a_broken_claim_fails_and_fresh_begins_anew(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / 'out.json'
    Store({**SETTINGS, 'threads': 8}, out, [row().as_dict()]).write()
    broken = Part('B1', 'B1/x', lambda device: [row(case='sizes', equal=False)])
    monkeypatch.setattr(tool, 'available', lambda: {'B1': [broken]})
    assert tool.main(['all', '--json', str(out)]) == 2
    capsys.readouterr()
    assert tool.main(['all', '--json', str(out), '--fresh']) == 1
    assert 'claim does not hold: B1  sizes' in capsys.readouterr().out
    assert [r['case'] for r in json.loads(out.read_text())] == ['sizes']
