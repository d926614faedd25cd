"""Instance masks on their way out of the model: crops and maps to COCO RLE, RLE to dense.

Plain functions of tensors; nothing here is a module or is registered.
"""

from .crops import boxed_masks_to_rle
from .formats import check_format, in_format, roi_masks
from .geometry import output_size, scale_factors
from .grids import GridGroup, MaskGrids
from .maps import map_masks, map_masks_to_rle
from .rle import encode, to_dense
from .rle_masks import RLEMask, RLEMasks
from .roi import roi_masks_to_rle

__all__ = [
    'GridGroup',
    'MaskGrids',
    'RLEMask',
    'RLEMasks',
    'boxed_masks_to_rle',
    'check_format',
    'encode',
    'in_format',
    'map_masks',
    'map_masks_to_rle',
    'output_size',
    'roi_masks',
    'roi_masks_to_rle',
    'scale_factors',
    'to_dense',
]
