"""What more than one paper uses and that fits none of them alone."""

from .boundary import boundary_map, resize_band
from .class_logits import ClassLogits
from .pointwise import conv1x1
from .roi_align import RowRoIAlign, point_roi_align, roi_align

__all__ = [
    'ClassLogits',
    'RowRoIAlign',
    'boundary_map',
    'conv1x1',
    'point_roi_align',
    'resize_band',
    'roi_align',
]
