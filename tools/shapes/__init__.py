"""Generated shapes: small pictures with exact, difficult masks, the same on every machine."""

from .make import WRITERS, make_shapes
from .scene import CLASSES, SceneSpec, make_picture

__all__ = ['CLASSES', 'WRITERS', 'SceneSpec', 'make_picture', 'make_shapes']
