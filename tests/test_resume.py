"""A training that is killed and resumed repeats the unbroken one."""

from pathlib import Path

import pytest
from mmengine.runner import CheckpointLoader
from tiny_training import losses, train, write_config

# Ends the process as `kill -9` does, in the middle of an epoch.
KILLER = """
import os, signal
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

@HOOKS.register_module()
class Killer(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == int(os.environ.get('KILL_AT', -1)):
            os.kill(os.getpid(), signal.SIGKILL)
"""
HOOKS = """
custom_imports = dict(imports=['mmrefine', 'killer'], allow_failed_imports=False)
custom_hooks = [dict(type='ResumableRandomnessHook'), dict(type='Killer')]
"""
BY_ITERATION = """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=12, val_interval=100)
train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
default_hooks['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=3)
log_processor = dict(window_size=1, by_epoch=False)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10)]
"""


def assert_resume_repeats(folder: Path, kill_at: int, **config: object) -> None:
    (folder / 'killer.py').write_text(KILLER)
    path = write_config(folder, **config)
    extra = {'PYTHONPATH': str(folder)}
    train(path, folder / 'unbroken', **extra)
    train(path, folder / 'broken', killed=True, KILL_AT=str(kill_at), **extra)
    before = losses(folder / 'broken')
    assert max(before) == kill_at
    output = train(path, folder / 'broken', '--resume', **extra)
    assert 'resumed epoch' in output
    unbroken, resumed = losses(folder / 'unbroken'), losses(folder / 'broken')
    assert len(unbroken) == 12
    assert resumed == unbroken


def test_resume_after_kill_repeats_the_unbroken_run(tmp_path: Path) -> None:
    more = HOOKS + 'randomness = dict(seed=3)'
    assert_resume_repeats(tmp_path, kill_at=9, epochs=3, more=more)


@pytest.mark.slow
def test_resume_repeats_with_workers_and_a_seed_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / 'killer.py').write_text(KILLER)
    path = write_config(tmp_path, epochs=3, workers=2, more=HOOKS)
    extra = {'PYTHONPATH': str(tmp_path)}
    train(path, tmp_path / 'broken', killed=True, KILL_AT='9', **extra)
    train(path, tmp_path / 'broken', '--resume', **extra)
    checkpoint = CheckpointLoader.load_checkpoint(str(tmp_path / 'broken' / 'epoch_2.pth'))
    seed = checkpoint['meta']['seed']
    train(path, tmp_path / 'unbroken', '--cfg-options', f'randomness.seed={seed}', **extra)
    assert losses(tmp_path / 'broken') == losses(tmp_path / 'unbroken')


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_resume_repeats_by_iteration(tmp_path: Path, workers: int) -> None:
    more = HOOKS + BY_ITERATION + 'randomness = dict(seed=3)'
    assert_resume_repeats(tmp_path, kill_at=8, workers=workers, more=more)
