"""High-quality instance masks for MMDetection 3.x.

Importing the package makes every component known to MMDetection's own registries. The components
themselves are imported when one of them, or any other component, is first looked up, so the import
stays cheap; ``mmrefine.RefineMaskHead`` and the like import theirs on first use.
"""

from typing import Any

from .dependencies import require_dependencies

__version__ = '0.2.0'

require_dependencies()

from . import compat, registration  # noqa: E402  (both need the dependencies)

# Module -> the public classes it defines. A new component needs its name here and nothing else.
COMPONENTS: dict[str, tuple[str, ...]] = {
    # These define nothing: they mend or extend what the others meet at run time.
    'mmrefine.backbones.addresses': (),
    'mmrefine.evaluation.numpy_names': (),
    'mmrefine.loading_errors': (),
    'mmrefine.safetensors_file': (),
    'mmrefine.apis.tta': ('ViewsTTAModel',),
    'mmrefine.backbones.efficientnet_lite': ('EfficientNetLite',),
    'mmrefine.datasets.checked_coco': ('CheckedCocoDataset', 'CheckedYouTubeVISDataset'),
    'mmrefine.datasets.coco_by_id': ('CocoFirstImagesDataset',),
    'mmrefine.datasets.learnable': ('LearnableDataHook',),
    'mmrefine.datasets.load_masks': ('LoadMaskAnnotations', 'LoadTrackMaskAnnotations'),
    'mmrefine.embedmask.box_head': ('EmbedMaskBBoxHead',),
    'mmrefine.embedmask.detector': ('EmbedMask',),
    'mmrefine.embedmask.mask_head': ('EmbedMaskHead',),
    'mmrefine.embedmask.mixed_head': ('EmbeddedHead',),
    'mmrefine.evaluation.cityscapes_metric': ('CityscapesMaskAPMetric',),
    'mmrefine.evaluation.id_switch_metric': ('IdSwitchMetric',),
    'mmrefine.evaluation.mask_ap_metric': ('MaskAPMetric',),
    'mmrefine.evaluation.video_metric': ('VideoMaskAPMetric',),
    'mmrefine.layers.initial_weights': ('TorchDefaultInit',),
    'mmrefine.layers.layer_norm': ('LayerNorm2d',),
    'mmrefine.masks.stock_heads': (
        'MaskFormatHook',
        'RLECoarseMaskHead',
        'RLEDynamicMaskHead',
        'RLEFCNMaskHead',
        'RLEHTCMaskHead',
        'RLESCNetMaskHead',
    ),
    'mmrefine.hooks.quiet_runner': ('MaskLogProcessor', 'QuietRunner'),
    'mmrefine.hooks.resumable_randomness': ('ResumableRandomnessHook',),
    'mmrefine.hooks.training_summary': ('TrainingSummaryHook',),
    'mmrefine.refinemask.losses': ('BARCrossEntropyLoss', 'RefineCrossEntropyLoss'),
    'mmrefine.refinemask.mask_head': ('RefineMaskHead', 'SimpleRefineMaskHead'),
    'mmrefine.refinemask.roi_head': ('CascadeRefineRoIHead', 'RefineRoIHead'),
    'mmrefine.refinemask.roi_head_variants': (
        'DynamicRefineRoIHead',
        'HTCRefineRoIHead',
        'SparseRefineRoIHead',
    ),
    'mmrefine.refinemask.stages': ('MultiBranchFusion', 'MultiBranchFusionAvg'),
    'mmrefine.fcos.legacy': ('InclusiveBoxes', 'InclusiveFlip', 'TruncatedResize'),
    'mmrefine.fcos.losses': ('LtrbIoULoss',),
    'mmrefine.evaluation.proposal_ar': ('ProposalARMetric',),
    'mmrefine.sharpmask.coarse_head': ('DeepMaskHead',),
    'mmrefine.sharpmask.detector': ('DeepMask',),
    'mmrefine.sharpmask.neck': ('TopDownRefineNeck',),
    'mmrefine.sharpmask.patch_metric': ('PatchMaskMetric',),
    'mmrefine.sharpmask.refined_detector': ('SharpMask',),
    'mmrefine.sharpmask.roi_extractor': ('PyramidRoIExtractor',),
    'mmrefine.sharpmask.roi_head': (
        'CascadeSharpMaskRoIHead',
        'DynamicSharpMaskRoIHead',
        'HTCSharpMaskRoIHead',
        'SharpMaskRoIHead',
    ),
    'mmrefine.sharpmask.roi_mask_head': ('SharpMaskHead',),
    'mmrefine.sharpmask.patch_dataset': ('ConsecutiveSampler', 'ObjectPatchDataset'),
    'mmrefine.sharpmask.patch_transforms': ('CropObjectPatch', 'PackPatchInputs'),
    'mmrefine.sharpmask.refine_head': ('TopDownRefineHead',),
    'mmrefine.sharpmask.trunk': ('MirrorPadConv2d', 'StemResNet'),
    'mmrefine.sipmask.backbone': ('IntervalDCNResNet',),
    'mmrefine.sipmask.box_head': ('SipMaskBBoxHead',),
    'mmrefine.sipmask.detector': ('SipMask',),
    'mmrefine.sipmask.mask_head': ('SipMaskHead',),
    'mmrefine.sipmask.video.detector': ('SipMaskVIS',),
    'mmrefine.sipmask.video.track_head': ('SipMaskTrackHead',),
    'mmrefine.sipmask.video.tracker': ('SipMaskTracker',),
    'mmrefine.visualization.rle_visualizer': ('RLELocalVisualizer',),
}

# The same for functions, which no registry needs to know.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    'mmrefine.apis.given_boxes': ('predict_masks',),
    'mmrefine.apis.load_model': ('load_model',),
    'mmrefine.apis.predict': ('predict',),
    'mmrefine.apis.views': ('View',),
}

__all__ = [name for names in (COMPONENTS | FUNCTIONS).values() for name in names]

compat.allow_checkpoint_types()
registration.announce(__name__, COMPONENTS)


def __getattr__(name: str) -> Any:
    return registration.load_public(__name__, COMPONENTS | FUNCTIONS, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
