"""Walk through a json list of any length, one entry at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

CHUNK = 1 << 22  # characters read at once
_SPACE = ' \t\r\n'


def iterate_json_list(path: str | Path, chunk: int = CHUNK) -> Iterator[Any]:
    """Yield the entries of a file that holds one json list; one chunk is in memory at a time.

    Args:
        path: The file.
        chunk: Characters read at once.

    Raises:
        ValueError: The file holds no list, is damaged (the entry is named), or goes on after the
            list.
    """
    with open(path, encoding='utf-8') as file:
        text, more = '', True
        while not text and more:
            text, more = _refill(file, '', 0, chunk)
        if not text.startswith('['):
            what = 'is empty' if not text else f'begins with {text[0]!r}'
            raise ValueError(f'{path} {what}: expected a json list of results')
        decoder = json.JSONDecoder()
        position, count = 1, 0
        while True:
            position = _skip(text, position)
            while position == len(text) and more:
                text, more = _refill(file, text, position, chunk)
                position = _skip(text, 0)
            if text[position : position + 1] == ']':
                break
            try:
                entry, end = decoder.raw_decode(text, position)
                if end == len(text) and more:  # a number may go on in the next chunk
                    raise json.JSONDecodeError('incomplete', text, end)
            except json.JSONDecodeError as error:
                if not more:
                    raise _damaged(path, count, text, error) from None
                text, more = _refill(file, text, position, max(chunk, len(text)))
                position = 0
                continue
            yield entry
            count += 1
            position = _skip(text, end)
            while position == len(text) and more:
                text, more = _refill(file, text, position, chunk)
                position = _skip(text, 0)
            mark = text[position : position + 1]
            if mark == ',':
                position += 1
            elif mark != ']':
                raise _damaged(path, count, text, json.JSONDecodeError('', text, position))
        if text[position + 1 :].strip() or file.read().strip():
            raise ValueError(f'{path} goes on after the list of {count} entries')


def _refill(file: TextIO, text: str, position: int, chunk: int) -> tuple[str, bool]:
    new = file.read(chunk)
    text = text[position:] + new
    return (text if position else text.lstrip()), len(new) == chunk


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _damaged(path: str | Path, count: int, text: str, error: json.JSONDecodeError) -> ValueError:
    rest = text[error.pos :].strip()
    if not rest or error.msg.startswith('Unterminated'):
        return ValueError(
            f'{path} ends in the middle of entry {count}: the file was cut off, copy or write it '
            'again'
        )
    return ValueError(
        f'{path}: entry {count} is no json ({error.msg or "a comma is missing"} at {rest[:30]!r})'
    )
