"""What users are told beside results and errors."""

from logging import WARNING

from mmengine.logging import print_log


def log_warning(text: str) -> None:
    """Write a warning to the log of the run, or to the terminal where there is none."""
    print_log(text, logger='current', level=WARNING)
