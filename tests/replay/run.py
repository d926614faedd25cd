"""Find the reader of each recorded file, replay the file, print the verdicts."""

import importlib
import importlib.util
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from .golden import Golden, load_golden
from .report import Report

SYSTEMS = ('refinemask', 'sipmask', 'embedmask', 'sharpmask')
SUFFIXES = ('.npz', '.json', '.t7')

PASSED, FAILED, NOT_IMPLEMENTED = 0, 1, 2


@dataclass(frozen=True)
class Reader:
    """Replays one kind of recorded file.

    Attributes:
        kind: Name printed in the report.
        matches: Tells from the keys (never from the full file name) whether a file is of this kind.
        check: ``check(golden, report, device)`` compares everything the file records.
    """

    kind: str
    matches: Callable[[Golden], bool]
    check: Callable[[Golden, Report, torch.device], None]


def _readers(system: str) -> list[Reader] | None:
    name = f'{__package__}.{system}'
    if system not in SYSTEMS or importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name).READERS


def run_file(path: Path, device: str = 'cpu', verbose: bool = True) -> tuple[int, Report]:
    """Replay one file.

    Returns:
        ``(PASSED | FAILED | NOT_IMPLEMENTED, report)``.
    """
    report = Report() if device == 'cpu' else Report(scale=10.0, max_share=1e-3)
    try:
        golden = load_golden(path)
    except ValueError as error:
        print(f'{path.name}: FAILED, {error}')
        return FAILED, report
    if golden.system not in SYSTEMS:
        print(f'{path.name}: FAILED, unknown system {golden.system!r}; known: {", ".join(SYSTEMS)}')
        return FAILED, report
    readers = _readers(golden.system)
    if readers is None:
        print(f'{path.name}: not implemented ({golden.system})')
        return NOT_IMPLEMENTED, report
    reader = next((reader for reader in readers if reader.matches(golden)), None)
    if reader is None:
        kinds = ', '.join(reader.kind for reader in readers)
        print(f'{path.name}: FAILED, its keys fit no known kind ({kinds})')
        return FAILED, report
    try:
        reader.check(golden, report, torch.device(device))
    except Exception:  # a crash in one file must not hide the verdicts of the others
        print(f'{path.name}: FAILED, {reader.kind} stopped with\n{traceback.format_exc()}')
        return FAILED, report
    _print(path, reader.kind, report, verbose)
    return (PASSED if report.passed else FAILED), report


def _print(path: Path, kind: str, report: Report, verbose: bool) -> None:
    wrong = sum(not row.passed for row in report.rows)
    verdict = 'passed' if report.passed else f'FAILED ({wrong} quantities)'
    print(f'{path.name}: {kind}, {len(report.rows)} quantities, {verdict}')
    for row in report.rows:
        if verbose or not row.passed:
            mark = 'ok  ' if row.passed else 'FAIL'
            print(
                f'  {mark} {row.quantity:<52} error {row.error:9.2e}  tolerance '
                f'{row.tolerance:8.1e} {row.unit}'
            )


def run_directory(directory: str | Path, device: str = 'cpu', verbose: bool = True) -> int:
    """Replay every recorded file of a directory and print a summary.

    Returns:
        0 if all agree, 1 if any fails (an unknown or unreadable file fails), else 2 if any system
        is not implemented.

    Raises:
        FileNotFoundError: There is no such directory or it holds no recorded file.
    """
    directory = Path(directory)
    paths = sorted(p for p in directory.glob('*') if p.is_file() and p.suffix in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f'no recorded files ({", ".join(SUFFIXES)}) in {directory}')
    verdicts = [run_file(path, device, verbose)[0] for path in paths]
    print(
        f'{verdicts.count(PASSED)} files passed, {verdicts.count(FAILED)} failed, '
        f'{verdicts.count(NOT_IMPLEMENTED)} not implemented'
    )
    if FAILED in verdicts:
        return FAILED
    return NOT_IMPLEMENTED if NOT_IMPLEMENTED in verdicts else PASSED
