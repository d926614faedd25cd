"""Readers of all SipMask recordings: images and videos."""

from .sipmask_images import READERS as IMAGE_READERS
from .sipmask_video import READERS as VIDEO_READERS

READERS = [*IMAGE_READERS, *VIDEO_READERS]
