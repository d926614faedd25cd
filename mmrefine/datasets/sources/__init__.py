"""Readers of annotations in other tools' formats; each gives pictures with their objects."""

from .recognise import FORMATS, read_source, require_distinct
from .records import Source, SourceImage, SourceObject

__all__ = ['FORMATS', 'Source', 'SourceImage', 'SourceObject', 'read_source', 'require_distinct']
