"""Outputs appear completely or not at all, and never replace inputs; runs go on after a stop."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmrefine.results.files import atomic_file, refuse_overwriting
from mmrefine.results.image_files import existing_files
from mmrefine.results.json_files import json_text
from mmrefine.results.resume_log import ResumeLog


def test_a_picture_stands_for_one_name(tmp_path):
    images = [{'id': i, 'file_name': f'{i}/a.jpg'} for i in ('train', 'val')]
    (tmp_path / 'a.jpg').touch()
    assert existing_files(images[:1], tmp_path) == {'train': tmp_path / 'a.jpg'}
    with pytest.raises(ValueError, match=r'val/a.jpg and train/a.jpg would both be .*/a.jpg'):
        existing_files(images, tmp_path)
    (tmp_path / 'val').mkdir()
    (tmp_path / 'val' / 'a.jpg').touch()
    assert existing_files(images, tmp_path)['val'] == tmp_path / 'val' / 'a.jpg'


def test_other_files_and_absent_ones_pass(tmp_path):
    (tmp_path / 'in.json').write_text('kept')
    refuse_overwriting(tmp_path / 'out.json', results=tmp_path / 'in.json', masks=None)
    refuse_overwriting(tmp_path / 'out.json', results=tmp_path / 'missing.json')
    refuse_overwriting(None, results=tmp_path / 'in.json')


def test_names_the_output_and_the_option(tmp_path):
    file = tmp_path / 'a.json'
    with pytest.raises(ValueError, match=r'a\.json is also --ground-truth.*name another output'):
        refuse_overwriting(file, results=tmp_path / 'b.json', ground_truth=str(file))


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_links_lead_to_the_same_file(tmp_path, link):
    (tmp_path / 'a.json').write_text('kept')
    link(tmp_path / 'a.json', tmp_path / 'b.json')
    with pytest.raises(ValueError, match='--results'):
        refuse_overwriting(tmp_path / 'b.json', results=tmp_path / 'a.json')


def test_other_spellings_of_a_path(tmp_path, monkeypatch):
    (tmp_path / 'sub').mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='--results'):
        refuse_overwriting('sub/../a.json', results=tmp_path / 'a.json')


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'file.txt'
    path.write_text('old')
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write('new')
        raise KeyboardInterrupt
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from mmrefine.results.resume_log import ResumeLog
log = ResumeLog(Path(sys.argv[1]), {'config': 'a'})
log.add(4, [(None, {'image_id': 'x'})])
log.add(5, [])
def results():
    yield None, {'image_id': 'y'}
    os.kill(os.getpid(), signal.SIGKILL)
log.add(6, results())
"""


def test_a_killed_run_keeps_finished_images_only(tmp_path: Path) -> None:
    path = tmp_path / 'log'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', KILLED, str(path)])
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match=r'begun by another run \(.*"a"'):
        ResumeLog(path, {'config': 'b'})
    log = ResumeLog(path, {'config': 'a'})
    assert log.done() == {4, 5} and list(log.results()) == [{'image_id': 'x'}]
    log.add(6, [(None, {'image_id': 'y'})])
    assert list(log.results()) == [{'image_id': 'x'}, {'image_id': 'y'}]
    log.close()
    path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_tasks_are_stored_completely_or_not_at_all(tmp_path: Path) -> None:
    def cut_off():
        yield 7, 'first'
        raise KeyError

    log = ResumeLog(tmp_path / 'log', {})
    with pytest.raises(KeyError):
        log.fill(cut_off(), list)
    assert not log.filled and log.done() == set() and list(log.results()) == []
    log.fill([(7, 'first'), (3, 'second'), (7, 'third')], lambda: ['note'])
    log.add(7, [(2, 'C'), (0, 'A')])
    log.close()
    log = ResumeLog(tmp_path / 'log', {})
    assert log.filled and log.notes() == ['note'] and log.images() == [7, 3]
    assert log.tasks(7) == [(0, 'first'), (2, 'third')] and log.done() == {7}
    log.add(3, [(1, 'B')])
    assert list(log.results()) == ['A', 'B', 'C']


def test_numbers_of_numpy_are_written_and_tensors_named():
    assert json_text([np.float32(0.5), np.int64(3), np.bool_(True)]) == '[0.5,3,true]'
    with pytest.raises(TypeError, match='Tensor .* cannot be written as json'):
        json_text(torch.ones(2))
