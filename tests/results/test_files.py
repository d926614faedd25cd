"""A tool never writes over what it reads."""

import os

import pytest

from mmrefine.results.files import refuse_overwriting


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
