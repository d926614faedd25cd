"""``test_cfg`` of the proposal detectors: defaults and checks. ``DeepMask`` says what each is."""

from typing import Any

from mmdet.utils import ConfigType

from .paste import PASTE_RULES

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
    classes=('object',),
)


def checked_options(test_cfg: ConfigType) -> dict[str, Any]:
    """Fill in what is not given.

    Raises:
        ValueError: Unknown key or value.
    """
    unknown = set(test_cfg) - set(TEST_DEFAULTS)
    if unknown:
        raise ValueError(
            f'unknown test_cfg keys {sorted(unknown)}; known: {", ".join(TEST_DEFAULTS)}'
        )
    config: dict[str, Any] = TEST_DEFAULTS | dict(test_cfg)
    choices = dict(
        paste=PASTE_RULES,
        mask_format=('dense', 'rle'),
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
    return config
