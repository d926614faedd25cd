"""Store finished images on disk, so that an interrupted run goes on with the next one."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .json_files import json_text

SCHEMA = (
    'CREATE TABLE run (settings TEXT, notes TEXT)',
    'CREATE TABLE tasks (number INTEGER PRIMARY KEY, image INTEGER, content TEXT)',
    'CREATE INDEX tasks_of_image ON tasks (image)',
    'CREATE TABLE results (number INTEGER PRIMARY KEY, content TEXT)',
    'CREATE TABLE done (image INTEGER PRIMARY KEY)',
)


class ResumeLog:
    """An SQLite file; each image is stored completely or not at all, also after a power failure.

    Images are integers. A run may first store its tasks by image (``fill``), in whatever order they
    arrive, so that memory does not grow with their number. One process uses the file at a time.

    Args:
        path: The file.
        run: What the results depend on; the log of another run is not continued.

    Attributes:
        filled: Whether the tasks are stored.

    Raises:
        ValueError: The file belongs to another run, is in use, cannot be opened or is damaged.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._run = json.dumps(dict(run), sort_keys=True)
        try:
            found = self._open()
        except sqlite3.OperationalError as error:
            hint = 'another process is at it' if 'locked' in str(error) else 'choose another --out'
            raise ValueError(f'cannot use {path}: {error}; {hint}') from None
        except sqlite3.DatabaseError as error:
            raise ValueError(f'{path} is damaged ({error}): remove it to start over') from None
        if found and found[0] != self._run:
            self.close()
            raise ValueError(
                f'{path} was begun by another run ({found[0]}): remove it to start over'
            )
        self._begun = found is not None
        self.filled = found is not None and found[1] is not None

    def _open(self) -> tuple[str, str | None] | None:
        """Lock the file; return the settings and notes in it, if there are any."""
        self._base = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
        self._base.execute('PRAGMA locking_mode = EXCLUSIVE')
        self._base.execute('BEGIN EXCLUSIVE')  # the lock stays until the file is closed
        self._base.execute('COMMIT')
        tables = self._base.execute('SELECT name FROM sqlite_master').fetchall()
        if tables and ('run',) not in tables:
            raise sqlite3.DatabaseError('it holds something else')
        return self._base.execute('SELECT settings, notes FROM run').fetchone() if tables else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Store what the block executes at once; an error in it stores nothing."""
        self._base.execute('BEGIN')
        try:
            if not self._begun:
                for command in SCHEMA:
                    self._base.execute(command)
                self._base.execute('INSERT INTO run VALUES (?, NULL)', (self._run,))
            yield
        except BaseException:
            self._base.execute('ROLLBACK')
            raise
        self._base.execute('COMMIT')
        self._begun = True

    def fill(self, tasks: Iterable[tuple[int, Any]], notes: Callable[[], list[str]]) -> None:
        """Store all tasks, image and json value; if they end in an error nothing is stored.

        ``notes`` is called after the last task and returns what to tell the user at the end.
        """
        with self._transaction():
            rows = ((n, image, json_text(task)) for n, (image, task) in enumerate(tasks))
            self._base.executemany('INSERT INTO tasks VALUES (?, ?, ?)', rows)
            self._base.execute('UPDATE run SET notes = ?', (json_text(notes()),))
        self.filled = True

    def notes(self) -> list[str]:
        """Return the notes that ``fill`` stored."""
        return json.loads(self._base.execute('SELECT notes FROM run').fetchone()[0])

    def images(self) -> list[int]:
        """Images that have tasks, in the order of their first task."""
        query = 'SELECT image FROM tasks GROUP BY image ORDER BY MIN(number)'
        return [image for (image,) in self._base.execute(query)]

    def tasks(self, image: int) -> list[tuple[int, Any]]:
        """Number and value of the tasks of an image, in order."""
        query = 'SELECT number, content FROM tasks WHERE image = ? ORDER BY number'
        return [(n, json.loads(text)) for n, text in self._base.execute(query, (image,))]

    def done(self) -> set[int]:
        """Finished images."""
        if not self._begun:
            return set()
        return {image for (image,) in self._base.execute('SELECT image FROM done')}

    def add(self, image: int, results: Iterable[tuple[int | None, Any]]) -> None:
        """Store the results of a finished image: position among all results (None: after the last),
        json value."""
        with self._transaction():
            rows = ((number, json_text(result)) for number, result in results)
            self._base.executemany('INSERT INTO results VALUES (?, ?)', rows)
            self._base.execute('INSERT INTO done VALUES (?)', (image,))

    def results(self) -> Iterator[Any]:
        """Yield all results in order."""
        if self._begun:
            for (text,) in self._base.execute('SELECT content FROM results ORDER BY number'):
                yield json.loads(text)

    def close(self) -> None:
        """Close the file; who needs it no longer removes it."""
        self._base.close()
