"""Read and write json: complete files, and lists of any length one entry at a time."""

import codecs
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .files import atomic_file

CHUNK = 1 << 22  # characters read at once
_SPACE = re.compile(r'[ \t\r\n]*')
_DECODER = json.JSONDecoder()


def load_json(path: str | Path) -> Any:
    """Read a json file; a ValueError says that it is cut off or no json."""
    with _opened(path) as file:
        text = file.read()
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if _is_cut_off(text, error):
                raise ValueError(
                    f'{path} ends in the middle of an entry (character {error.pos}): the file was '
                    'cut off, copy or write it again'
                ) from None
            raise


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[TextIO]:
    """Open a json file; a ValueError about its text (no UTF-8, nested too deep, a number of too
    many digits) names it."""
    with open(path, 'rb') as raw:
        start = raw.read(4)
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if start.startswith(marks) or b'\0' in start:
        raise ValueError(
            f'{path} is written as UTF-16 or with a byte order mark, which no json reader takes: '
            "save it as UTF-8 (Python: open(path, 'w', encoding='utf-8'))"
        )
    try:
        with open(path, encoding='utf-8') as file:
            yield file
    except RecursionError:
        raise ValueError(
            f'{path} is nested too deep: expected COCO annotations or results'
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no json: {error}; save it as UTF-8') from None
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no json: {error}') from None
    except ValueError as error:
        if str(path) in str(error):
            raise
        # Python's own text advises to lift its limit on the digits of a number.
        reason = str(error).partition(';')[0]
        raise ValueError(f'{path} is no json: {reason}') from None


def json_text(value: Any) -> str:
    """Write a value as one line of json; NumPy's numbers are numbers."""
    return json.dumps(value, separators=(',', ':'), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f'{type(value).__name__} {value!r:.80} cannot be written as json')


def write_json_list(path: str | Path, entries: Iterable[Any]) -> None:
    """Write a json list entry by entry; the file appears when it is complete."""
    with atomic_file(path) as file:
        file.write('[')
        for i, entry in enumerate(entries):
            file.write((',\n' if i else '\n') + json_text(entry))
        file.write('\n]\n')


def iterate_json_list(path: str | Path, chunk: int = CHUNK) -> Iterator[Any]:
    """Yield the entries of a file that holds one json list, of which ``chunk`` characters are in
    memory.

    Raises:
        ValueError: The file holds no list, is damaged (the entry is named), or goes on after the
            list.
    """
    with _opened(path) as file:
        window = _Window(file, chunk)
        first = window.peek()
        if first != '[':
            found = f'begins with {first!r}' if first else 'is empty'
            raise ValueError(f'{path} {found}: expected a json list of results')
        window.position += 1
        count = 0
        while window.peek() != ']':
            try:
                entry = window.decode()
            except json.JSONDecodeError as error:
                raise _damaged(path, count, window.text, error) from None
            yield entry
            count += 1
            mark = window.peek()
            if mark == ',':
                window.position += 1
            elif mark != ']':
                missing = json.JSONDecodeError('a comma is missing', window.text, window.position)
                raise _damaged(path, count, window.text, missing)
        window.position += 1
        if window.peek():
            raise ValueError(f'{path} goes on after the list of {count} entries')


class _Window:
    """The part of a text file that is in memory, and the position reached in it."""

    def __init__(self, file: TextIO, chunk: int) -> None:
        self.file = file
        self.chunk = chunk
        self.text = ''
        self.position = 0
        self.more = True

    def _refill(self, least: int = 0) -> None:
        new = self.file.read(max(self.chunk, least))
        self.more = bool(new)
        self.text = self.text[self.position :] + new
        self.position = 0

    def peek(self) -> str:
        """Skip spaces and return the next character, an empty string at the end."""
        while True:
            self.position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.text) or not self.more:
                return self.text[self.position : self.position + 1]
            self._refill()

    def decode(self) -> Any:
        """Read one value, or raise ``json.JSONDecodeError``."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.position)
                if end < len(self.text) or not self.more:  # a number may go on in the next chunk
                    self.position = end
                    return value
            except json.JSONDecodeError:
                if not self.more:
                    raise
            # At least as much again: a long entry is decoded a few times, not once a chunk.
            self._refill(len(self.text))


def _damaged(path: str | Path, count: int, text: str, error: json.JSONDecodeError) -> ValueError:
    if _is_cut_off(text, error):
        return ValueError(
            f'{path} ends in the middle of entry {count}: the file was cut off, copy or write it '
            'again'
        )
    rest = text[error.pos :].strip()
    return ValueError(f'{path}: entry {count} is no json ({error.msg} at {rest[:30]!r})')


def _is_cut_off(text: str, error: json.JSONDecodeError) -> bool:
    return not text[error.pos :].strip() or error.msg.startswith('Unterminated')
