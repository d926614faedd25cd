"""Readers of annotations in other tools' formats; each gives pictures with their objects."""

from .recognise import FORMATS, read_source
from .records import SourceImage, SourceObject

__all__ = ['FORMATS', 'SourceImage', 'SourceObject', 'read_source']
