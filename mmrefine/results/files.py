"""Write files completely or not at all, never over an input; name inputs; tell contents apart."""

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any


def refuse_overwriting(out: str | Path | None, **inputs: str | Path | None) -> None:
    """Raise ValueError if a tool would write over one of its inputs, also through links.

    Args:
        out: Where it will write; None if nowhere.
        inputs: Name of an argument -> the path it got, or None.
    """
    if out is None:
        return
    for name, path in inputs.items():
        if path is not None and _same(Path(out), Path(path)):
            option = name.replace('_', '-')
            raise ValueError(f'{out} is also --{option}, which is read: name another output')


def named_files(texts: Iterable[str]) -> dict[str, str]:
    """Split ``NAME=FILE``; without NAME, the stem of the file is taken.

    Raises:
        ValueError: Two files have the same name, or one does not exist.
    """
    files: dict[str, str] = {}
    for name, path, _ in map(_named, texts):
        if name in files:
            raise ValueError(f'two result files are called {name!r}: name them, A={path}')
        files[name] = path
    return files


def grouped_files(texts: Iterable[str]) -> dict[str, list[str]]:
    """``named_files`` in which files of one NAME belong together, if all of them are given it."""
    groups: dict[str, list[str]] = {}
    unnamed = set()
    for name, path, given in map(_named, texts):
        unnamed |= set() if given else {name}
        if name in groups and name in unnamed:
            raise ValueError(
                f'two result files are called {name!r}: name them, A={path}, with one name for '
                'trainings of one model'
            )
        groups.setdefault(name, []).append(path)
    return groups


def _named(text: str) -> tuple[str, str, bool]:
    """Name and path of ``NAME=FILE`` or ``FILE``, and whether there was a NAME."""
    name, given, path = text.partition('=')
    if not given or Path(text).exists():
        name, given, path = Path(text).stem, '', text
    if not Path(path).is_file():
        raise ValueError(f'{path} does not exist')
    return name, path, bool(given)


@contextlib.contextmanager
def atomic_file(path: str | Path, mode: str = 'w') -> Iterator[IO]:
    """Open a file that gets its name only after everything is written; missing folders are made."""
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


def write_zip(path: str | Path, files: Mapping[str, Path]) -> None:
    """Pack files, name inside the archive -> file."""
    with (
        atomic_file(path, 'wb') as file,
        zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, source in files.items():
            archive.write(source, name)


def file_digest(path: str | Path) -> str:
    """First 16 digits of the SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()[:16]


def value_digest(value: Any) -> str:
    """First 16 digits of the SHA-256 of a value written as json."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _same(one: Path, other: Path) -> bool:
    # Hard links, and letter case where the file system ignores it, resolve to different paths.
    both = one.exists() and other.exists()
    return one.resolve() == other.resolve() or (both and one.samefile(other))
