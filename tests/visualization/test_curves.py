"""Reading and plotting of training logs."""

import json
from pathlib import Path

import cv2
import pytest

from mmrefine.visualization.curves import Run, find_scalars, plot_run, read_run
from tools.plot_training import main

LINES = [
    {'lr': 0.1, 'loss': 3.0, 'loss_mask': 1.0, 'iter': 20, 'step': 20},
    {'coco/bbox_mAP': 0.2, 'coco/segm_mAP': 0.1, 'step': 20},
    {'lr': 0.1, 'loss': 2.0, 'loss_mask': 0.5, 'iter': 40, 'step': 40},
    {'coco/bbox_AP': 0.4, 'coco/segm_AP': 0.3, 'coco/segm_AP50': 0.5, 'step': 1},
]


def log(folder: Path, day: str = '20260101_000000') -> Path:
    path = folder / day / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, LINES)))
    return path


def test_losses_and_ap_are_read_with_their_steps(tmp_path) -> None:
    run = read_run([log(tmp_path)])
    assert run.losses == {'loss': [(20, 3.0), (40, 2.0)], 'loss_mask': [(20, 1.0), (40, 0.5)]}
    assert run.aps == [(20, 0.1), (40, 0.3)]


def test_losses_of_stages_and_layers_are_read(tmp_path) -> None:
    path = log(tmp_path)
    names = ('s0.loss_mask', 'd0.loss_dice', 'enc_loss_cls', 's0.acc')
    path.write_text(json.dumps({'loss': 3.0, 'step': 20} | dict.fromkeys(names, 1.0)))
    assert list(read_run([path]).losses) == ['loss', *names[:3]]


def test_a_line_cut_off_by_an_interruption_is_left_out(tmp_path) -> None:
    path = log(tmp_path)
    path.write_text(path.read_text()[:-12])
    assert read_run([path]).aps == [(20, 0.1)]


def test_the_newest_run_is_found(tmp_path) -> None:
    older = log(tmp_path, '20260101_000000')
    newest = log(tmp_path, '20260102_000000')
    test = tmp_path / '20260103_000000/vis_data/scalars.json'
    test.parent.mkdir(parents=True)
    test.write_text(json.dumps({'coco/segm_AP': 0.4, 'step': 0}))
    assert find_scalars(tmp_path) == [older, newest]
    with pytest.raises(FileNotFoundError, match='empty'):
        find_scalars(tmp_path / 'empty')


def test_the_newest_run_is_found_in_folders_of_any_name(tmp_path) -> None:
    newest = log(tmp_path / 'a', '20260101_000000')
    older = log(tmp_path / 'b', '20250101_000000')
    assert find_scalars(tmp_path) == [older, newest]


def test_a_resumed_run_is_shown_from_the_beginning(tmp_path) -> None:
    """Stopped at 45, resumed at 20: the steps after it are those of the second part."""
    older = log(tmp_path, '20260101_000000')
    newest = log(tmp_path, '20260102_000000')
    resumed = [{'loss': 1.0, 'step': s} for s in (40, 60)] + [{'coco/segm_mAP': 0.6, 'step': 60}]
    newest.write_text('\n'.join(map(json.dumps, resumed)))
    run = read_run([older, newest])
    assert run.losses == {'loss': [(20, 3.0), (40, 1.0), (60, 1.0)], 'loss_mask': [(20, 1.0)]}
    assert run.aps == [(20, 0.1), (60, 0.6)]
    # A training from the beginning in the same folder is another one.
    newest.write_text(older.read_text())
    assert read_run([older, newest]) == read_run([older])


@pytest.mark.parametrize('aps', [[], [(40, 0.3)]])
def test_plots_are_written(aps, tmp_path) -> None:
    run = Run({'loss': [(20, 3.0), (40, 2.0)], 'loss_mask': [(20, 1.0), (40, 0.5)]}, aps)
    plot_run(run, tmp_path / 'deep/plot.png', 'title')
    assert cv2.imread(str(tmp_path / 'deep/plot.png')).std() > 5


def test_a_run_without_losses_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match='no training loss'):
        plot_run(Run(), tmp_path / 'plot.png')


def test_what_names_no_picture_file_is_refused(tmp_path) -> None:
    run = Run({'loss': [(20, 3.0), (40, 2.0)]})
    (tmp_path / 'folder.png').mkdir()
    for name in ('plot', 'folder.png', '.'):
        with pytest.raises(ValueError, match='names no picture file'):
            plot_run(run, tmp_path / name)
    with pytest.raises(ValueError, match='xyz'):
        plot_run(run, tmp_path / 'plot.xyz')
    assert [path.name for path in tmp_path.iterdir()] == ['folder.png']


def test_the_command_says_what_is_missing(tmp_path, command) -> None:
    result = command('plot_training', tmp_path, tmp_path / 'plot.png')
    assert result.status == 1
    assert 'no training log' in result.err.splitlines()[-1]


def test_the_command_says_what_it_cannot_write(tmp_path, capsys) -> None:
    file = log(tmp_path)
    for out, reason in (
        (tmp_path / 'plot', 'names no picture file'),
        (file / 'plot.png', str(file)),
    ):
        with pytest.raises(SystemExit, match=f'^plot_training: .*{reason}'):
            main([str(tmp_path), str(out)])
    main([str(tmp_path), str(tmp_path / 'plot.png')])
    assert capsys.readouterr().out == f'{tmp_path}/plot.png written\n'
    assert (tmp_path / 'plot.png').is_file()
