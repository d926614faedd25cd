"""What is measured is chosen by name, kept part by part, and never mixed with other settings."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark import Row
from benchmark.runner import Part, Store, available, line, read_rows, run, select
from benchmark_rows import SETTINGS, row


class Counted:
    """A benchmark of one row that counts its runs."""

    def __init__(self, identifier: str) -> None:
        self.identifier, self.runs = identifier, 0

    def __call__(self, device: str, quick: bool = False) -> list[Row]:
        self.runs += 1
        return [row(self.identifier, f'{device} {quick}')]


def part(function: Counted) -> Part:
    return Part(function.identifier, f'{function.identifier}/x', function)


def quiet(_: str) -> None:
    pass


def test_every_benchmark_is_found_in_order() -> None:
    names = list(available())
    numbered = [f'B{n}' for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)]
    assert names[: len(numbered)] == numbered
    assert 'track' in names


def test_names_choose_benchmarks_and_parts() -> None:
    table = available()
    assert [p.id for p in select(table, ['B5', 'B1'])] == ['B1', 'B5']
    assert [p.name for p in select(table, ['B7/480x640-20'])] == ['B7/480x640-20']
    assert select(table, ['all']) == [p for parts in table.values() for p in parts]
    with pytest.raises(
        ValueError, match=r'unknown benchmark B99, x; known: all, B1, .*B7/800x1344'
    ):
        select(table, ['B1', 'B99', 'x'])


def test_finished_parts_are_not_measured_again(tmp_path: Path) -> None:
    first, second = Counted('B1'), Counted('B2')
    path = tmp_path / 'rows.json'
    run([part(first)], Store(SETTINGS, path), quiet)
    store = Store(SETTINGS, path)
    store.load()
    assert run([part(first), part(second)], store, quiet) == []
    assert (first.runs, second.runs) == (1, 1)
    rows = json.loads(path.read_text())
    assert [(r['id'], r['part']) for r in rows] == [('B1', 'B1/x'), ('B2', 'B2/x')]
    assert rows[0]['settings'] == SETTINGS


def test_an_interrupted_run_keeps_finished_parts_only(tmp_path: Path) -> None:
    done = Counted('B1')

    def interrupted(device: str) -> Iterator[Row]:
        yield row('B2')
        raise KeyboardInterrupt

    path = tmp_path / 'rows.json'
    with pytest.raises(KeyboardInterrupt):
        run([part(done), Part('B2', 'B2/x', interrupted)], Store(SETTINGS, path), quiet)
    assert [r['id'] for r in read_rows(path)] == ['B1']
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_part_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def failing(device: str) -> list[Row]:
        raise RuntimeError('no such kernel')

    last, store = Counted('B2'), Store(SETTINGS, tmp_path / 'rows.json')
    assert run([Part('B1', 'B1/x', failing), part(last)], store, quiet) == ['B1/x']
    assert last.runs == 1
    assert 'no such kernel' in capsys.readouterr().err


def test_quick_runs_need_a_quick_version() -> None:
    def slow(device: str) -> list[Row]:
        raise AssertionError

    said: list[str] = []
    store = Store({**SETTINGS, 'quick': True})
    assert run([Part('B1', 'B1/x', slow), part(Counted('B2'))], store, said.append) == []
    assert [r['case'] for r in store.rows] == ['cpu True']
    assert '[1/2] B1/x: left out, it has no quick version' in said


def test_rows_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'rows.json'
    run([part(Counted('B1'))], Store(SETTINGS, path), quiet)
    with pytest.raises(ValueError, match=r'threads=1 there, 2 now.*--fresh'):
        Store({**SETTINGS, 'threads': 2}, path).load()


@pytest.mark.parametrize('text', ['', '{"a": 1}', '[{"id": "B1"}]', '[3]', '[{"id": "B1", '])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'rows.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='not a file of benchmark rows'):
        Store(SETTINGS, path).load()


def test_lines_say_what_a_claim_is_worth() -> None:
    assert line(row(equal=False).as_dict()).endswith('DIFFERENT')
    assert line(row(claim='work').as_dict()).endswith('same work')
    assert line(row(claim='limit', equal=False).as_dict()).endswith('NOT within the limit')
