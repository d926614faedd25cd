"""Instance masks on their way out of the model: crops and maps to COCO RLE, RLE to dense.

A RoI mask goes through ``roi.py`` and ``trace.py``, a map through ``maps.py`` and ``trace.py``;
``rle.py`` writes the strings, ``run_lengths.py`` reads them and whatever COCO calls a segmentation.
"""

from .formats import RLEMask, RLEMasks, check_format, in_format
from .geometry import output_size, scale_factors
from .maps import map_masks
from .rle import boxed_masks_to_rle, encode
from .roi import GridGroup, MaskGrids, roi_masks, roi_masks_to_rle
from .run_lengths import to_dense

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
    'output_size',
    'roi_masks',
    'roi_masks_to_rle',
    'scale_factors',
    'to_dense',
]
