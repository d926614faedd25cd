"""Ratios are peer / ours, differences are found, memory is counted in bytes."""

import math
import time

import pytest
import torch
from benchmark import compare, peak_memory
from benchmark.harness import interleave


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_functions_are_called_in_turn() -> None:
    calls: list[str] = []
    times = interleave([lambda: calls.append('a'), lambda: calls.append('b')], 3, 'cpu')
    assert calls == ['a', 'b', 'a', 'b', 'a', 'b']
    assert [len(t) for t in times] == [3, 3]


def test_one_thread_is_timed_by_its_own_work() -> None:
    (times,) = interleave([lambda: time.sleep(0.05)], 1, 'cpu')
    assert times[0] < 0.05


def test_threads_are_timed_by_the_clock_on_the_wall() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (times,) = interleave([lambda: time.sleep(0.05)], 1, 'cpu')
    finally:
        torch.set_num_threads(before)
    assert times[0] >= 0.05


def test_ratio_is_peer_over_ours() -> None:
    row = compare('B0', 'x', lambda: spin(0.01), lambda: spin(0.05), memory=False)
    assert row.time_ratio == pytest.approx(5, rel=0.1)
    assert row.details['median_time_ratio'] == pytest.approx(5, rel=0.1)
    assert row.memory_ratio is None


@pytest.mark.parametrize(
    ('ours', 'peer', 'error'),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), 0.5),
        ([torch.zeros(2)], [torch.zeros(3)], math.inf),
        ({'a': 1.0}, {'b': 1.0}, math.inf),
        ({'a': [1, 2.0]}, {'a': [1, 2.25]}, 0.25),
        ('same', 'other', math.inf),
        (torch.zeros(0), torch.zeros(0), 0.0),
    ],
)
def test_differences_are_found(ours: object, peer: object, error: float) -> None:
    row = compare('B0', 'x', lambda: ours, lambda: peer, tolerance=0.25, repeats=1, memory=False)
    assert row.max_error == error
    assert row.equal == (error <= 0.25)


def test_peak_memory_counts_what_lives_at_the_same_time() -> None:
    def function() -> torch.Tensor:
        first = torch.empty(2**20, dtype=torch.uint8)
        del first
        return torch.cat([torch.empty(2**19, dtype=torch.uint8)] * 2)

    assert peak_memory(function, 'cpu') == 2**19 + 2**20
