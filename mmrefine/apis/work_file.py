"""Boxes by image and the masks found so far, on disk: what an interrupted run goes on from."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmrefine.masks.rle import RLE

SCHEMA = """
CREATE TABLE run (settings TEXT, notes TEXT);
CREATE TABLE boxes (entry INTEGER PRIMARY KEY, image INTEGER, label INTEGER,
                    x REAL, y REAL, w REAL, h REAL);
CREATE INDEX boxes_of_image ON boxes (image);
CREATE TABLE masks (entry INTEGER PRIMARY KEY, h INTEGER, w INTEGER, counts BLOB);
CREATE TABLE done (image INTEGER PRIMARY KEY);
"""


class BoxRow(NamedTuple):
    """One entry of a result file.

    Attributes:
        entry: Its place in the file.
        image: Place of its image in the list of images.
        label: Class of the model.
        box: ``(x, y, w, h)`` in pixels of the image; None where no mask can be made.
    """

    entry: int
    image: int
    label: int
    box: tuple[float, float, float, float] | None


class WorkFile:
    """An SQLite file; images appear in it whole or not at all, also if the machine stops.

    It belongs to one process at a time.

    Args:
        path: The file.
        settings: What the masks depend on; a file of other settings is not continued.

    Raises:
        ValueError: The file belongs to another run, is in use, cannot be opened or is damaged.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._text = json.dumps(dict(settings), sort_keys=True)
        try:
            found = self._open(path)
        except sqlite3.OperationalError as error:
            hint = 'another process is at it' if 'locked' in str(error) else 'choose another --out'
            raise ValueError(f'cannot use {path}: {error}; {hint}') from None
        except sqlite3.DatabaseError as error:
            raise ValueError(f'{path} is damaged ({error}): remove it to start over') from None
        if found and found[0] != self._text:
            raise ValueError(
                f'{path} was begun by another run ({found[0]}): remove it to start over'
            )
        self.complete = bool(found)

    def _open(self, path: Path) -> tuple[str] | None:
        """Take the file; the settings it was begun with."""
        self._base = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        self._base.execute('PRAGMA locking_mode = EXCLUSIVE')
        self._base.execute('BEGIN EXCLUSIVE')  # the lock stays until the file is closed
        self._base.execute('COMMIT')
        tables = self._base.execute('SELECT name FROM sqlite_master').fetchall()
        if tables and ('run',) not in tables:
            raise sqlite3.DatabaseError('it holds something else')
        return self._base.execute('SELECT settings FROM run').fetchone() if tables else None

    def fill(self, rows: Iterable[BoxRow], notes: Callable[[], list[str]]) -> None:
        """Store all boxes, and what is to be told about them once they were read.

        If the rows end in an error nothing is stored.
        """
        self._base.execute('BEGIN')
        try:
            for command in SCHEMA.split(';')[:-1]:
                self._base.execute(command)
            self._base.executemany(
                'INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?)',
                ((r.entry, r.image, r.label, *(r.box or (None,) * 4)) for r in rows),
            )
            self._base.execute('INSERT INTO run VALUES (?, ?)', (self._text, json.dumps(notes())))
        except BaseException:
            self._base.execute('ROLLBACK')
            raise
        self._base.execute('COMMIT')
        self.complete = True

    def notes(self) -> list[str]:
        """What ``fill`` was told to keep."""
        return json.loads(self._base.execute('SELECT notes FROM run').fetchone()[0])

    def images(self, todo: bool = False) -> list[int]:
        """Images that have boxes, in the order of the file; ``todo`` leaves out the finished."""
        rest = 'WHERE image NOT IN (SELECT image FROM done)' if todo else ''
        query = f'SELECT image FROM boxes {rest} GROUP BY image ORDER BY MIN(entry)'
        return [image for (image,) in self._base.execute(query)]

    def rows(self, image: int) -> list[BoxRow]:
        """Boxes of an image, in the order of the file."""
        found = self._base.execute('SELECT * FROM boxes WHERE image = ? ORDER BY entry', (image,))
        return [BoxRow(e, i, label, None if b[0] is None else b) for e, i, label, *b in found]

    def add(self, image: int, rows: Iterable[BoxRow], masks: Iterable[RLE]) -> None:
        """Store the masks of an image for good."""
        self._base.execute('BEGIN')
        self._base.executemany(
            'INSERT INTO masks VALUES (?, ?, ?, ?)',
            ((row.entry, *mask['size'], mask['counts']) for row, mask in zip(rows, masks)),
        )
        self._base.execute('INSERT INTO done VALUES (?)', (image,))
        self._base.execute('COMMIT')

    def masks(self) -> Iterator[dict]:
        """All masks in the order of the file, counts as text."""
        for h, w, counts in self._base.execute('SELECT h, w, counts FROM masks ORDER BY entry'):
            yield {'size': [h, w], 'counts': counts.decode('ascii')}

    def close(self, remove: bool = False) -> None:
        """Close the file; ``remove`` it when its work is done."""
        self._base.close()
        if remove:
            self.path.unlink()
