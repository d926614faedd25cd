"""Released RefineMask checkpoints.

Parameter names here are those of the authors' files and of MMDetection, so they load by identity.
Nothing is dropped or renamed; the reader only learns which model a file is for.
"""

from mmrefine.checkpoint import Converter

_HEAD = 'roi_head.mask_head.'
_CLASS_KEYS = (
    r'roi_head\.bbox_head\.fc_(cls|reg)\.(weight|bias)',
    r'roi_head\.mask_head\.stages\.\d+\.instance_logits\.(weight|bias)',
    r'roi_head\.mask_head\.final_instance_logits\.(weight|bias)',
    r'roi_head\.mask_head\.stage_instance_logits\.\d+\.(weight|bias)',
)


def _converter(name: str, layer: str) -> Converter:
    key = f'{_HEAD}{layer}.weight'
    return Converter(name, lambda weights: key in weights, dict, _CLASS_KEYS)


CONVERTERS = [
    _converter('refinemask', 'final_instance_logits'),
    _converter('refinemask-simple', 'stage_instance_logits.0'),
]
