"""What more than one paper uses and that fits none of them alone."""

from .boundary import boundary_map, resize_band
from .checks import require_finite, require_labels, require_masks
from .class_logits import ClassLogits
from .conv_stack import ConvStack
from .finite_roi_head import FiniteRoIHead, poolable
from .initial_weights import TorchDefaultInit, loads_weights
from .precision import as_weights, autocast_to, without_autocast
from .roi_align import point_roi_align, roi_align

__all__ = [
    'ClassLogits',
    'ConvStack',
    'FiniteRoIHead',
    'TorchDefaultInit',
    'as_weights',
    'autocast_to',
    'boundary_map',
    'loads_weights',
    'point_roi_align',
    'poolable',
    'require_finite',
    'require_labels',
    'require_masks',
    'resize_band',
    'roi_align',
    'without_autocast',
]
