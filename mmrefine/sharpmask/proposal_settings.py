"""Settings with which DeepMask and SharpMask propose masks: defaults and checks."""

from collections.abc import Mapping
from typing import Any

from mmdet.utils import ConfigType

from mmrefine.masks import check_format

from .windows import PASTE_RULES

TEST_DEFAULTS = dict(
    log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5),
    max_per_img=500,
    mask_thr=0.2,
    paste='official',
    size_rounding='half_up',
    index_quirk=False,
    mask_format='dense',
    chunk=32,
    strip='auto',
    trunk_dtype=None,
    nms=None,
)


def checked_test_cfg(test_cfg: ConfigType) -> dict[str, Any]:
    """``test_cfg`` with its defaults filled in; a ValueError names an unknown key or value."""
    unknown = set(test_cfg) - set(TEST_DEFAULTS)
    if unknown:
        raise ValueError(
            f'unknown test_cfg keys {sorted(unknown)}; known: {", ".join(TEST_DEFAULTS)}'
        )
    config: dict[str, Any] = TEST_DEFAULTS | dict(test_cfg)
    check_format(config['mask_format'])
    choices = dict(
        paste=PASTE_RULES,
        size_rounding=('half_up', 'floor'),
        trunk_dtype=(None, 'bfloat16', 'float16'),
    )
    for key, values in choices.items():
        if config[key] not in values:
            raise ValueError(f'test_cfg.{key} must be one of {values}, got {config[key]!r}')
    if config['max_per_img'] < 1 or config['chunk'] < 1 or not len(config['log2_scales']):
        raise ValueError('test_cfg needs max_per_img >= 1, chunk >= 1 and at least one scale')
    strip = config['strip']
    if not (strip in (None, 'auto') or (isinstance(strip, int) and strip >= 1)):
        raise ValueError(
            f"test_cfg.strip must be 'auto', None or a number of pixels, got {strip!r}"
        )
    if not 0 < config['mask_thr'] < 1:
        raise ValueError(f'test_cfg.mask_thr must lie in (0, 1), got {config["mask_thr"]}')
    config['nms'] = nms_settings(config['nms'])
    return config


def nms_settings(nms: float | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """``test_cfg.nms`` as ``mmcv.ops.batched_nms`` takes it."""
    if nms is None or isinstance(nms, Mapping):
        return nms
    if isinstance(nms, (int, float)) and 0 < nms <= 1:
        return dict(type='nms', iou_threshold=float(nms))
    raise ValueError(
        'test_cfg.nms must be None, an IoU threshold in (0, 1] or settings as '
        f"dict(type='nms', iou_threshold=0.7), got {nms!r}"
    )
