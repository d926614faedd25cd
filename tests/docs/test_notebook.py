"""The notebook of the documentation runs top to bottom, and is stored without results."""

import json
from pathlib import Path

import pytest
from locations import ROOT

NOTEBOOK = ROOT / 'docs' / 'tour.ipynb'


def test_it_is_stored_without_results() -> None:
    cells = [c for c in json.loads(NOTEBOOK.read_text())['cells'] if c['cell_type'] == 'code']
    assert len(cells) > 5
    assert all(not cell['outputs'] and cell['execution_count'] is None for cell in cells)
    for cell in cells:
        compile(''.join(cell['source']), 'cell', 'exec')


@pytest.mark.slow
def test_it_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip('nbformat')
    nbclient = pytest.importorskip('nbclient')
    pytest.importorskip('ipykernel')
    monkeypatch.setenv('MMREFINE_TOUR', str(tmp_path))
    monkeypatch.setenv('MMREFINE_TOUR_PICTURES', '16')
    monkeypatch.setenv('MMREFINE_TOUR_ITERATIONS', '10')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = {'kernel_name': 'python3', 'resources': {'metadata': {'path': str(NOTEBOOK.parent)}}}
    nbclient.NotebookClient(notebook, timeout=600, **settings).execute()
    outputs = [out for cell in notebook.cells for out in cell.get('outputs', ())]
    assert sum('image/png' in out.get('data', {}) for out in outputs) >= 4
    assert {path.name for path in tmp_path.iterdir()} == {'shapes', 'train'}
