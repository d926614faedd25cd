"""Write a data set folder that appears whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .png import encode_png

MARKER = 'shapes.json'


class ShapesFolder:
    """A folder under construction.

    Args:
        root: Where files go.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def write_image(self, name: str, image: np.ndarray) -> None:
        """Write one picture as PNG, see :func:`encode_png`."""
        self._write(name, encode_png(image))

    def write_json(self, name: str, content: Any) -> None:
        """Write compact JSON with a fixed layout."""
        text = json.dumps(content, sort_keys=True, separators=(',', ':'))
        self._write(name, text.encode() + b'\n')

    def write_text(self, name: str, text: str) -> None:
        """Write UTF-8 text."""
        self._write(name, text.encode())

    def _write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextmanager
def new_folder(out: Path, recipe: dict[str, Any]) -> Iterator[ShapesFolder]:
    """Fill a sibling folder and move it to ``out`` once everything is written.

    An interrupted run leaves no ``out`` behind; its remains are cleared by the next one.

    Args:
        out: New or empty folder.
        recipe: What was asked for, stored as ``shapes.json``; see :func:`find_shapes`.

    Raises:
        FileExistsError: ``out`` holds something else.
        PermissionError: ``out`` cannot be written, with the folder that refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} exists and is not empty: choose another folder or remove it')
    partial = out.parent / f'.{out.name}.partial'
    try:
        if partial.exists():
            _clear(partial)
        partial.mkdir(parents=True)
        folder = ShapesFolder(partial)
        folder.write_json(MARKER, recipe)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise PermissionError(
            f'cannot write to {out.parent.absolute()} ({error.strerror}): choose another folder'
        ) from error
    try:
        yield folder
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def find_shapes(out: Path, recipe: dict[str, Any]) -> bool:
    """Tell whether ``out`` already holds exactly this data set."""
    marker = out / MARKER
    if not marker.is_file():
        return False
    return json.loads(marker.read_text()) == json.loads(json.dumps(recipe))


def _clear(partial: Path) -> None:
    """Remove what an interrupted run left, and nothing else."""
    if not (partial / MARKER).is_file():
        raise FileExistsError(f'{partial} is in the way and was not written by this tool')
    shutil.rmtree(partial)
