"""Progress on the terminal; silent where stderr is a file."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress


@contextlib.contextmanager
def progress_bar(title: str, total: int | None, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Draw a bar on stderr while the block runs.

    Args:
        title: Stands before the bar.
        total: Number of steps; None where nobody knows.
        shown: False draws nothing.

    Yields:
        A function to call after every step.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
