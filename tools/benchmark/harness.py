"""Measure formulations of the same computation, interleaved, and compare their outputs."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


@dataclass
class Row:
    """One benchmark case."""

    id: str  # benchmark, e.g. ``B1``
    case: str  # sizes and variant
    time_ratio: float  # best time of the peer divided by ours
    memory_ratio: float | None  # peak extra memory of the peer divided by ours (None: not measured)
    max_error: float  # largest absolute difference of the outputs
    equal: bool  # whether the claim holds
    details: dict[str, Any] = field(default_factory=dict)  # medians and other figures of the run
    # what ``equal`` says: ``outputs`` agree within the benchmark's tolerance; both sides did the
    # same ``work`` (different models, as many results of the same size); or a ``limit`` named in
    # the case is kept
    claim: str = 'outputs'

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)


def _seconds(function: Callable[[], Any], device: str, wall: bool = False) -> float:
    if device == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    # Processor time of the whole process does not count, unlike the wall clock, what other programs
    # do; but it adds up the threads.
    single = torch.get_num_threads() == 1 and not wall
    clock = time.process_time if single else time.perf_counter
    begin = clock()
    function()
    return clock() - begin


def interleave(
    functions: Sequence[Callable[[], Any]], repeats: int, device: str, wall: bool = False
) -> list[list[float]]:
    """Seconds of ``repeats`` calls of each function, called in turn; nothing warms them up here."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, record in zip(functions, times):
            record.append(_seconds(function, device, wall))
    return times


def peak_memory(function: Callable[[], Any], device: str) -> int:
    """Highest number of bytes of tensors alive during ``function`` beyond those alive before it."""
    gc.collect()
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        kept = function()
    del kept
    alive = peak = 0
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == '[memory]']
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def _largest_difference(ours: Any, peer: Any) -> float:
    if isinstance(ours, Tensor):
        if ours.shape != peer.shape:
            return float('inf')
        return float((ours.double() - peer.double()).abs().max()) if ours.numel() else 0.0
    if isinstance(ours, dict):
        if ours.keys() != peer.keys():
            return float('inf')
        return max((_largest_difference(ours[k], peer[k]) for k in ours), default=0.0)
    if isinstance(ours, (list, tuple)):
        if len(ours) != len(peer):
            return float('inf')
        return max((_largest_difference(a, b) for a, b in zip(ours, peer)), default=0.0)
    if isinstance(ours, (int, float)):
        return abs(ours - peer)
    return 0.0 if ours == peer else float('inf')


def compare(
    benchmark: str,
    case: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    device: str = 'cpu',
    tolerance: float = 0.0,
    repeats: int = 3,
    memory: bool = True,
    details: dict[str, Any] | None = None,
    claim: str = 'outputs',
    wall: bool = False,
) -> Row:
    """Time ``ours`` and ``peer`` in turn, compare what they return, measure memory.

    Args:
        benchmark: Identifier, e.g. ``B1``.
        case: Description of sizes and variant.
        ours: The package's formulation; returns tensors, numbers, or nested lists and dicts of
            them.
        peer: The original's formulation of the same computation, returning the same structure.
        device: ``cpu`` or ``cuda``.
        tolerance: Largest absolute difference that still counts as equal.
        repeats: Timed runs of each; one untimed run goes before.
        memory: Whether to measure peak memory (one more run of each).
        details: More figures for the row.
        claim: See ``Row``.
        wall: Time by the wall clock, for work that other processes share.
    """
    error = _largest_difference(ours(), peer())
    times = interleave((ours, peer), repeats, device, wall)
    ratio = min(times[1]) / max(min(times[0]), 1e-9)
    medians = [statistics.median(t) for t in times]
    figures = dict(details or {}, median_time_ratio=medians[1] / max(medians[0], 1e-9))
    memory_ratio = None
    if memory:
        own, other = peak_memory(ours, device), peak_memory(peer, device)
        memory_ratio = other / max(own, 1)
        figures.update(memory_ours_mib=own / 2**20, memory_peer_mib=other / 2**20)
    return Row(benchmark, case, ratio, memory_ratio, error, error <= tolerance, figures, claim)
