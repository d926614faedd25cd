"""EmbedMask: pixels find their object by the distance of embeddings.

``box_head`` predicts boxes with an embedding and a margin each, ``mask_head`` an embedding of every pixel, ``kernel``
the weighted distance of the two, ``losses`` and ``mask_loss`` teach it, ``output`` turns it into masks.
"""

from .box_head import EmbedMaskBBoxHead
from .detector import EmbedMask
from .mask_head import EmbedMaskHead

__all__ = ['EmbedMask', 'EmbedMaskBBoxHead', 'EmbedMaskHead']
