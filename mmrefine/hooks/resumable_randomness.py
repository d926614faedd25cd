"""Make an interrupted and resumed training repeat the unbroken one.

A checkpoint of mmengine does not hold the states of the random generators, so after ``--resume``
flips, crops and sampled proposals differ from those of a run that was never interrupted. Here every
generator is seeded from the run's seed and its position in the schedule, which a resumed run knows.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch import Tensor
from torch.utils.data import get_worker_info

from mmrefine.datasets.learnable import parts


@HOOKS.register_module()
class ResumableRandomnessHook(Hook):
    """Seed the generators by position: same seed, same losses, whether or not a run was resumed.

    The training step is seeded anew in every iteration, the data pipeline at the beginning of every
    epoch in every worker. Holds for the same number of processes and of workers, and for
    checkpoints at the end of an epoch (epoch-based loops) or anywhere (iteration-based loops, which
    replay the data they skip).
    """

    priority = 'LOW'  # after hooks that replace the pipeline

    def __init__(self) -> None:
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def before_train(self, runner: Any) -> None:
        """Give the pipeline its own random stream and the sampler the seed of the resumed run."""
        loop, loader = runner.train_loop, runner.train_dataloader
        _own_streams(loader.dataset, self._epoch, runner.seed)
        _restart(getattr(loader.batch_sampler, 'sampler', loader.sampler), runner.seed)
        if hasattr(loop, 'dataloader_iterator') and loader.num_workers > 0:
            # An iteration-based loop has forked workers and drawn batches before this hook runs.
            if hasattr(loader.batch_sampler, '_aspect_ratio_buckets'):
                loader.batch_sampler._aspect_ratio_buckets = [[], []]
            loader._iterator = None
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)

    def before_train_epoch(self, runner: Any) -> None:
        """Tell the workers, which may live through all epochs, that a new one begins."""
        self._epoch.fill_(runner.epoch)
        _own_streams(runner.train_dataloader.dataset, self._epoch, runner.seed)
        _seed(runner.seed, 0, runner.epoch, get_rank())

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the training step draws: proposals, dropout."""
        _seed(runner.seed, 1, runner.iter, get_rank())


class _OwnStream:
    """A data pipeline, or a step of one that mixes pictures, whose draws neither depend on other
    users of the generators nor disturb them.

    Args:
        pipeline: The pipeline proper.
        epoch: Tensor[], int64 in shared memory: the epoch that the main process is in.
        seed: Seed of the run.
        number: Number of the data set among those of the run, and of the step in its list.
    """

    def __init__(self, pipeline: Callable, epoch: Tensor, seed: int, *number: int) -> None:
        self.pipeline = pipeline
        self._epoch = epoch
        self._key = (seed, 2 + number[0], get_rank(), *number[1:])
        self._seeded_for: tuple[int, int] | None = None
        self._states: tuple | None = None

    def __call__(self, data: dict) -> Any:
        return self._draw(self.pipeline, data)

    def _draw(self, function: Callable, *arguments: Any) -> Any:
        """Call a function that draws from the stream."""
        worker = get_worker_info()
        place = (int(self._epoch), -1 if worker is None else worker.id)
        others = _get_states()
        if place == self._seeded_for and self._states is not None:
            _set_states(self._states)
        else:
            _seed(*self._key, place[0], place[1] + 1)
            self._seeded_for = place
        try:
            return function(*arguments)
        finally:
            self._states = _get_states()
            _set_states(others)

    def __getattr__(self, name: str) -> Any:
        if name == 'pipeline':  # not there yet while the object is unpickled in a spawned worker
            raise AttributeError(name)
        value = getattr(self.pipeline, name)
        return partial(self._draw, value) if name == 'get_indexes' else value  # of mixed pictures


def _restart(sampler: Any, seed: int) -> None:
    """Let a sampler begin anew with the seed of the run, which a resumed run has from its file."""
    if getattr(sampler, 'seed', None) is not None:
        sampler.seed = seed
    if hasattr(sampler, '_indices_of_rank'):  # an endless one
        sampler.indices = sampler._indices_of_rank()


def _own_streams(dataset: Any, epoch: Tensor, seed: int) -> None:
    def own(pipeline: Callable, *number: int) -> Callable:
        known = isinstance(pipeline, _OwnStream)
        return pipeline if known else _OwnStream(pipeline, epoch, seed, *number)

    for number, part in enumerate(parts(dataset)):
        pipeline = getattr(part, 'pipeline', None)
        if isinstance(pipeline, list):  # of a data set that mixes pictures
            part.pipeline = [own(step, number, place) for place, step in enumerate(pipeline)]
        elif callable(pipeline):
            part.pipeline = own(pipeline, number)


def _seed(*key: int) -> None:
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


def _get_states() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_states(states: tuple) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
