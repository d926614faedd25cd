"""Progress on the terminal; silent where stderr is a file."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar('Item')


@contextlib.contextmanager
def progress_bar(title: str, total: int | None, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Draw a bar on stderr while the block runs; yield a function to call after every step.

    ``total`` is the number of steps, None where nobody knows; ``shown=False`` draws nothing.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def show_progress(items: Sequence[Item], title: str) -> Iterator[Item]:
    """Pass items on while a bar shows how many are done."""
    with progress_bar(title, len(items)) as step:
        for item in items:
            yield item
            step()
