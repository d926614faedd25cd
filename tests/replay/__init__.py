"""Proof that the package computes what the original code computes.

Every recorded file ("golden file") holds weights, inputs and outputs of an original implementation
together with the settings that produced them. One module per system knows how to replay its files;
``run_directory`` picks the reader by the system prefix of the file name and by the keys inside, and
reports error, tolerance and verdict of every quantity.
"""

from .golden import Golden, load_golden
from .report import Report, Row
from .run import Reader, run_directory, run_file

__all__ = ['Golden', 'Reader', 'Report', 'Row', 'load_golden', 'run_directory', 'run_file']
