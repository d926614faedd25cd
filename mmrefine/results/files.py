"""Files that tools write: whole or not at all, and never over what they read."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def refuse_overwriting(out: str | Path | None, **inputs: str | Path | None) -> None:
    """Make sure that an output is none of the inputs, whatever links lead there.

    Args:
        out: Where a tool will write; None if nowhere.
        inputs: Name of an argument -> the path it got, or None.

    Raises:
        ValueError: They are one file.
    """
    if out is None:
        return
    for name, path in inputs.items():
        if path is not None and _same(Path(out), Path(path)):
            option = name.replace('_', '-')
            raise ValueError(f'{out} is also --{option}, which is read: name another output')


@contextlib.contextmanager
def atomic_file(path: str | Path, mode: str = 'w') -> Iterator[IO]:
    """Open a file that takes its name only after it was written to the end.

    Args:
        path: Where it goes; missing folders are made.
        mode: ``'w'`` or ``'wb'``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.partial-{os.getpid()}')
    try:
        with open(partial, mode, encoding=None if 'b' in mode else 'utf-8') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    # Hard links, and letter case where the file system ignores it, resolve to different paths.
    both = one.exists() and other.exists()
    return one.resolve() == other.resolve() or (both and one.samefile(other))
