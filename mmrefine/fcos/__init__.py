"""What detectors on point grids share: points, targets, towers, losses, candidate selection.

Everything is a pure function of tensors except ``FCOSHeadBase`` (layers and detection losses of an
FCOS head) and ``LtrbIoULoss``. Nothing here knows about masks.

Units: ``ltrb`` are the distances from a point to the left, top, right and bottom side of a box, in
pixels of the network input unless a name says ``stride``; boxes are exclusive (x1, y1, x2, y2).
"""

from .boxes import clip_boxes, decode_ltrb, encode_ltrb, paired_iou, pairwise_iou
from .candidates import best_points, class_candidates, select_detections
from .grid import PointGrid, flatten_levels, make_grid, require_pyramid
from .head import FCOSHeadBase, PointOutputs
from .legacy import InclusiveBoxes, InclusiveFlip
from .losses import LtrbIoULoss
from .nms import suppress
from .targets import PointTargets, assign_points, centerness_targets, points_on_masks

__all__ = [
    'InclusiveBoxes',
    'InclusiveFlip',
    'LtrbIoULoss',
    'PointGrid',
    'FCOSHeadBase',
    'PointOutputs',
    'PointTargets',
    'assign_points',
    'best_points',
    'centerness_targets',
    'class_candidates',
    'clip_boxes',
    'decode_ltrb',
    'encode_ltrb',
    'flatten_levels',
    'make_grid',
    'paired_iou',
    'pairwise_iou',
    'points_on_masks',
    'require_pyramid',
    'select_detections',
    'suppress',
]
