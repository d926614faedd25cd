"""The document gets its tables between marks; the rest of it stays."""

from pathlib import Path

import pytest
from benchmark.report import tables, write_markdown
from benchmark.runner import Part, Store, read_rows, run
from benchmark_rows import SETTINGS, row


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file as a run writes it."""
    scene = dict(scene='480x640, N=20', parameters=44_000_000, flops=2e11)
    base = dict(latency_ratio=1.0, median_time_ratio=1.0, memory_ours_mib=100, model='Mask R-CNN')
    ours = dict(latency_ratio=1.25, median_time_ratio=0.75, memory_ours_mib=250.4, model='Ours')
    rows = [
        row('B1', 'sizes a|b', max_error=2e-5, details=dict(median_time_ratio=1.9)),
        row(
            'B10',
            'import',
            time_ratio=0.98,
            memory_ratio=None,
            equal=False,
            claim='limit',
            details=dict(figure='0.4 s'),
        ),
        row('B7', 's: Mask R-CNN', memory_ratio=1.0, claim='work', details={**scene, **base}),
        row('B7', 's: Ours', memory_ratio=0.4, claim='work', details={**scene, **ours}),
        row('B7', 's: Ours against Mask R-CNN', time_ratio=123.4, claim='work'),
    ]
    path = tmp_path / 'rows.json'
    parts = [Part('B1', f'B1/{i}', lambda device, r=r: [r]) for i, r in enumerate(rows)]
    run(parts, Store(SETTINGS, path), lambda _: None)
    return path


def test_tables_hold_every_figure(saved: Path) -> None:
    text = tables(read_rows(saved))
    machine = ' '.join(text.partition('###')[0].split())  # it wraps like all prose
    assert '(AVX512), 2 cores, 24 GiB, frequency governor not readable; 1 thread;' in machine
    assert 'torch 2.13.0, mmcv 2.1.0' in machine and 'commit abc1234, 2026-01-31.' in machine
    assert '| B1 | sizes a\\|b | 2.00 | 1.90 | 3.00 | 2e-05 | equal |' in text
    assert '| B10 | import | 0.98 |  |  |  | **not kept**: 0.4 s |' in text
    assert '### 480x640, N=20' in text
    assert '| Mask R-CNN | 1.00 | 1.00 | 100 | 1.00 | 44.0 | 200 |' in text
    assert '| Ours | 1.25 | 1.33 | 250 | 2.50 | 44.0 | 200 |' in text
    assert '| B7 | s: Ours against Mask R-CNN | 123 |  | 3.00 |  | same work |' in text


def test_a_new_document_begins_with_a_title(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / 'benchmarks.md'
    write_markdown(path, read_rows(saved))
    assert path.read_text().startswith('# Benchmarks\n\n<!-- measured on cpu: begin')


def test_writing_again_replaces_the_section_alone(saved: Path, tmp_path: Path) -> None:
    path, rows = tmp_path / 'benchmarks.md', read_rows(saved)
    path.write_text('# Title\n\nWords.\n')
    write_markdown(path, rows[:1])
    path.write_text(path.read_text() + '\nMore words.\n')
    write_markdown(path, rows)
    once = path.read_text()
    write_markdown(path, rows)
    assert path.read_text() == once
    assert once.startswith('# Title\n\nWords.\n\n<!-- ')
    assert once.endswith('-->\n\nMore words.\n')
    assert once.count('sizes a') == 1 and '### 480x640' in once


def test_devices_have_sections_of_their_own(saved: Path, tmp_path: Path) -> None:
    path, rows = tmp_path / 'benchmarks.md', read_rows(saved)
    write_markdown(path, rows)
    cuda = {**SETTINGS, 'device': 'cuda', 'gpu': 'Some GPU'}
    write_markdown(path, [{**r, 'settings': cuda} for r in rows])
    text = path.read_text()
    assert text.count('Some CPU (AVX512)') == 1 and text.count('Some GPU; host Some CPU') == 1


def test_a_lost_mark_and_empty_rows_are_told(saved: Path, tmp_path: Path) -> None:
    path, rows = tmp_path / 'benchmarks.md', read_rows(saved)
    write_markdown(path, rows)
    path.write_text(path.read_text().replace('<!-- measured on cpu: end -->', ''))
    with pytest.raises(ValueError, match='has no line'):
        write_markdown(path, rows)
    with pytest.raises(ValueError, match='nothing measured'):
        write_markdown(path, [])


def test_smoke_figures_are_marked(saved: Path) -> None:
    quick = {**SETTINGS, 'quick': True}
    assert 'too small to mean anything' in tables([{**read_rows(saved)[0], 'settings': quick}])
