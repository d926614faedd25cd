"""What users are told beside results."""

import sqlite3
from logging import WARNING

from mmengine.logging import print_log

# errors that tools tell in a sentence: files, values, weights that give NaN, packages, resume logs
EXPECTED_ERRORS = (OSError, ValueError, FloatingPointError, ModuleNotFoundError, sqlite3.Error)


def log_warning(text: str) -> None:
    """Write a warning to the log of the run, or to the terminal where there is none."""
    print_log(text, logger='current', level=WARNING)
