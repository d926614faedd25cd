"""What more than one paper uses and that fits none of them alone."""

from .boundary import boundary_map, resize_band
from .class_logits import ClassLogits
from .graphs import makes_graph
from .joining import join_channels
from .pointwise import conv1x1
from .roi_align import RowRoIAlign, point_roi_align, roi_align
from .tower import ConvTower
from .winograd import WinogradConv2d

__all__ = [
    'ClassLogits',
    'ConvTower',
    'RowRoIAlign',
    'WinogradConv2d',
    'boundary_map',
    'conv1x1',
    'join_channels',
    'makes_graph',
    'point_roi_align',
    'resize_band',
    'roi_align',
]
