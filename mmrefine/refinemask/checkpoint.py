"""Released RefineMask checkpoints.

Parameter names here are those of the authors' files and of MMDetection, so they load by identity.
Nothing is dropped or renamed; the reader only learns which model a file is for.
"""

from collections.abc import Mapping

from torch import Tensor

from mmrefine.checkpoint import Converter, StateDict

_HEAD = 'roi_head.mask_head.'
_CLASS_KEYS = (
    r'roi_head\.bbox_head\.fc_(cls|reg)\.(weight|bias)',
    r'roi_head\.mask_head\.stages\.\d+\.instance_logits\.(weight|bias)',
    r'roi_head\.mask_head\.final_instance_logits\.(weight|bias)',
    r'roi_head\.mask_head\.stage_instance_logits\.\d+\.(weight|bias)',
)


def _is_published(state_dict: Mapping[str, Tensor]) -> bool:
    return f'{_HEAD}final_instance_logits.weight' in state_dict


def _is_simple(state_dict: Mapping[str, Tensor]) -> bool:
    return f'{_HEAD}stage_instance_logits.0.weight' in state_dict


def _identity(state_dict: Mapping[str, Tensor]) -> StateDict:
    return dict(state_dict)


CONVERTERS = [
    Converter('refinemask', _is_published, _identity, _CLASS_KEYS),
    Converter('refinemask-simple', _is_simple, _identity, _CLASS_KEYS),
]
