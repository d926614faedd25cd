"""Released SipMask weights of all three generations, renamed to this package's layers.

Origin:   JialeCao001/SipMask: ``SipMask-mmdetection`` (images), ``SipMask-VIS`` (videos),
          ``SipMask-benchmark``. The weights come without a licence statement.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from mmrefine.checkpoint import (
    BENCHMARK_EPS,
    BENCHMARK_RULES,
    Converter,
    Rule,
    StateDict,
    convert_layers,
    rename,
)

CLASS_KEYS = (r'bbox_head\.conv_cls\..*', r'mask_head\.conv_scoring\..*')

# Of all generations; the names of the detection head differ between them.
RULES: list[Rule] = [
    *BENCHMARK_RULES,
    (r'bbox_head\.fcos_', 'bbox_head.conv_'),
    (r'bbox_head\.feat_align\.conv_adaption\.bias', 'bbox_head.feat_align.adaption_bias'),
    (r'bbox_head\.sip_cof\.', 'bbox_head.conv_coeff.'),
    (r'bbox_head\.sip_mask_lat0\.', 'mask_head.conv_fuse.'),
    (r'bbox_head\.sip_mask_lat\.', 'mask_head.conv_basis.'),
    (r'bbox_head\.convs_scoring\.', 'mask_head.scoring_convs.'),
    (r'bbox_head\.mask_scoring\.', 'mask_head.conv_scoring.'),
    (r'bbox_head\.track_convs\.', 'track_head.convs.'),
    # The video head was called fovea_track before 2020-08-05.
    (r'bbox_head\.(?:sipmask|fovea)_track\.', 'track_head.conv_embed.'),
]


def convert_mmdet(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Rename the head of an mmdet-generation file (images or videos).

    Models without norm in the towers carry an alignment norm that they never use; it is dropped.
    """
    towers_have_norm = 'bbox_head.reg_convs.0.gn.weight' in state_dict
    return {
        rename(key, RULES): value
        for key, value in state_dict.items()
        if towers_have_norm or not key.startswith('bbox_head.feat_align.norm.')
    }


def convert_benchmark(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Rename a benchmark-generation file, see ``convert_layers``."""
    return convert_layers(state_dict, RULES, BENCHMARK_EPS)


def generation(state_dict: Mapping[str, Tensor]) -> str | None:
    """Which of the originals the keys are of; None for any other file."""
    if 'rpn.head.sip_cof.weight' in state_dict:
        return 'sipmask-benchmark'
    if 'bbox_head.sip_cof.weight' not in state_dict:
        return None
    heads = ('bbox_head.sipmask_track.weight', 'bbox_head.fovea_track.weight')
    return 'sipmask-vis' if any(head in state_dict for head in heads) else 'sipmask-mmdet'


def _converter(name: str, convert: Callable[[Mapping[str, Tensor]], StateDict]) -> Converter:
    return Converter(name, lambda weights: generation(weights) == name, convert, CLASS_KEYS)


CONVERTERS = [
    _converter('sipmask-mmdet', convert_mmdet),
    _converter('sipmask-vis', convert_mmdet),
    _converter('sipmask-benchmark', convert_benchmark),
]
