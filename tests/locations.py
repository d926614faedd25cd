"""Where the tests find recordings of the original implementations and real data."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def golden_directories() -> list[Path]:
    """The small recordings in the repository and, where present, the complete ones."""
    complete = Path(os.environ.get('MMREFINE_GOLDEN', ROOT.parent / 'shared' / 'golden'))
    return [path for path in (ROOT / 'tests' / 'data' / 'golden', complete) if path.is_dir()]


def golden_files(prefix: str) -> list[Path]:
    """Recordings whose name begins with ``prefix``; a complete recording replaces the small one of
    its name."""
    found: dict[str, Path] = {}
    for directory in golden_directories():
        found.update(
            {
                path.name: path
                for path in sorted(directory.glob(f'{prefix}*'))
                if path.suffix != '.md'
            }
        )
    return list(found.values())


def data_directory() -> Path | None:
    """Folder of small real data sets, if this machine has it."""
    path = Path(os.environ.get('MMREFINE_DATA', ROOT.parent / 'shared' / 'data'))
    return path if path.is_dir() else None
