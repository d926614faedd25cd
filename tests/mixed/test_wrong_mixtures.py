"""Parts that do not fit are named, with what to type."""

from typing import Any

import pytest
from locations import ROOT
from mixed.batch import images, samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

REFINE = 'refinemask/refinemask_r50_fpn_1x_coco'
CASCADE = 'mixed/refinemask-cascade_r50_fpn_1x_coco'
SHARP = 'sharpmask/sharpmask-roi_r50_fpn_1x_coco'
SHARP_HTC = 'mixed/sharpmask-roi-htc_r50_fpn_1x_coco'
QUERY = 'mixed/refinemask-queryinst_r50_fpn_1x_coco'
SIP = 'mixed/sipmask_r50_pafpn_ms-90k_coco'
EMBED = 'mixed/embedmask_r50_pafpn_ms-90k_coco'
FCN = ConfigDict(type='FCNMaskHead', in_channels=16, num_classes=4)
PYRAMID = ConfigDict(type='PyramidRoIExtractor', out_channels=16)
SHARP_HEAD = ConfigDict(type='SharpMaskHead', in_channels=16, channels=32, num_classes=4)

WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    'stock RoI head': (REFINE, {'roi_head.type': 'StandardRoIHead'}, "type to 'RefineRoIHead'"),
    'stock mask head': (REFINE, {'roi_head.mask_head': FCN}, 'not FCNMaskHead'),
    'head of another paper': (REFINE, {'roi_head.mask_head': SHARP_HEAD}, 'not SharpMaskHead'),
    'one head per stage': (CASCADE, {'roi_head.mask_head': [FCN] * 3}, 'a list of 3'),
    'no extractor': (CASCADE, {'roi_head.mask_roi_extractor': None}, 'needs a mask_roi_extractor'),
    'width of the instance path': (
        REFINE,
        {'roi_head.mask_head.conv_in_channels_instance': 8},
        'conv_in_channels_instance=8.*gives 16: omit',
    ),
    'stride of the fine map': (
        REFINE,
        {'roi_head.mask_head.semantic_out_stride': 8},
        'semantic_out_stride=8.*gives 4: omit',
    ),
    'fine map that is not there': (REFINE, {'roi_head.fine_level': 7}, 'fine_level=7.*5 levels'),
    'width of the extractor': (
        REFINE,
        {'roi_head.mask_roi_extractor.out_channels': 8},
        'gives 16 channels, but mask_roi_extractor.out_channels is 8',
    ),
    'levels of the extractor': (
        REFINE,
        {'roi_head.mask_roi_extractor.featmap_strides': [4, 8, 16, 32, 64, 128]},
        'gives 5 levels.*names 6',
    ),
    'several pooled maps': (REFINE, {'roi_head.mask_roi_extractor': PYRAMID}, 'pools several maps'),
    'pooled grid': (
        REFINE,
        {'roi_head.mask_roi_extractor.roi_layer.output_size': 7},
        r'stage_sup_size\[0\]',
    ),
    'classes': (REFINE, {'roi_head.mask_head.num_classes': 9}, 'bbox_head.num_classes=4'),
    'grid of the coarsest map': (
        SHARP,
        {'roi_head.mask_roi_extractor.base_size': 5},
        'on a grid of 5',
    ),
    'levels of the pyramid': (
        SHARP,
        {'roi_head.mask_roi_extractor.featmap_strides': [4, 8, 16, 32, 64, 128]},
        'but the neck gives 5 of 16',
    ),
    'width of the pyramid': (
        SHARP,
        {'roi_head.mask_roi_extractor.out_channels': 8},
        'but the neck gives 4 of 16',
    ),
    'features between mask heads': (
        SHARP_HTC,
        {'roi_head.type': 'HybridTaskCascadeRoIHead', 'roi_head.semantic_fusion': ('bbox',)},
        'set roi_head.type to HTCSharpMaskRoIHead',
    ),
    'queries': (
        QUERY,
        {
            'roi_head.type': 'SparseRoIHead',
            'roi_head.mask_head': SHARP_HEAD,
            'roi_head.mask_roi_extractor': PYRAMID,
        },
        'query-based',
    ),
    'SipMask, first level': (
        SIP,
        {'neck.start_level': 0},
        'level 0 of the neck.*names a stride of 8',
    ),
    'SipMask, levels': (SIP, {'neck.num_outs': 4}, 'gives 4 levels, but the head has 5'),
    'SipMask, width': (SIP, {'neck.out_channels': 8}, 'has 8 channels.*expect 16'),
    'SipMask, basis maps': (SIP, {'mask_head.num_bases': 8}, 'bbox_head.num_bases=4'),
    'SipMask, levels of the basis': (SIP, {'mask_head.num_levels': 2}, 'gives 3 levels of 16'),
    'SipMask, finest stride': (
        SIP,
        {'bbox_head.strides': (4, 8, 16, 32, 64), 'neck.start_level': 0},
        'begins with 4',
    ),
    'SipMask, suppression': (SIP, {'test_cfg.nms.type': 'sort_nms'}, "nms type 'sort_nms'"),
    'EmbedMask, first level': (
        EMBED,
        {'neck.start_level': 0},
        'level 0 of the neck.*names a stride of 8',
    ),
    'EmbedMask, levels': (EMBED, {'neck.num_outs': 6}, 'gives 6 levels, but the head has 5'),
    'EmbedMask, width': (EMBED, {'mask_head.in_channels': 8}, 'mask head expects 8'),
    'EmbedMask, stride': (EMBED, {'mask_head.stride': 4}, 'stride 8.*set its in_channels'),
}


@pytest.mark.parametrize(('config', 'changes', 'words'), WRONG.values(), ids=list(WRONG))
def test_what_does_not_fit_is_named(config: str, changes: dict[str, Any], words: str) -> None:
    model = shrink(Config.fromfile(ROOT / 'configs' / f'{config}.py').model)
    for key, value in changes.items():
        *path, last = key.split('.')
        node = model
        for part in path:
            node = node[part]
        node[last] = value
    with pytest.raises(ValueError, match=words):
        detector = MODELS.build(model)
        detector.init_weights()
        detector.loss(images(), samples())
        detector.eval().predict(images(), samples())
