"""Where patches lie: scales of objects, crops around them, and places far from all of them.

Origin:   facebookresearch/deepmask (DataSampler.lua)

Shapes:   N objects, M candidates.
Units:    boxes are (x, y, width, height) in image pixels; a scale key k stands for the image
          scaled by 2**k.
"""

import numpy as np

NEGATIVE_RULES = ('one_frame', 'official', 'port')
KEY_STEP = 0.25
NEGATIVE_KEYS = np.arange(-3, 2 + KEY_STEP, KEY_STEP)
# An object of the canonical size in a 224 px window is 128 px long.
OBJECT_SHARE = 128 / 224
# Shift of mask samples and least distance of negatives, in pixels of the network input.
JITTER_PX = 16.0
JITTER_LOG2 = 0.25
NEGATIVE_DISTANCE_PX = 48.0
MIN_CROP_PX = 10.0
_NEAR_KEYS = 10


def object_size(patch: int) -> int:
    """Canonical length of an object in a window of ``patch`` pixels: 92 for 160."""
    return int(np.ceil(patch * OBJECT_SHARE))


def scale_keys(boxes: np.ndarray, canonical: float) -> np.ndarray:
    """Scale key of each object, array[N, 4] -> multiples of 0.25, array[N]: scaled by 2**key its
    longer side lies in (canonical, canonical * 2**.25]."""
    longer = boxes[:, 2:].max(1, initial=0.0)  # (N,)
    return -KEY_STEP * (np.ceil(np.log2(longer / canonical) / KEY_STEP) - 1)


def centres(boxes: np.ndarray) -> np.ndarray:
    """Centres array[N, 2] of boxes array[N, 4]."""
    return boxes[:, :2] + boxes[:, 2:] / 2


def jittered_crops(
    boxes: np.ndarray, draws: np.ndarray, canonical: float, side: float
) -> np.ndarray:
    """Square crops array[N, 4] around objects in boxes array[N, 4], of jittered scale and position.

    Args:
        draws: array[N, 3] in [-1, 1]: log2 scale, horizontal and vertical shift, relative to the
            jitter's range.
        canonical: Canonical object length in network pixels.
        side: Side of the crop in network pixels.
    """
    longer = boxes[:, 2:].max(1, initial=0.0)
    scale = longer / canonical * 2.0 ** (JITTER_LOG2 * draws[:, 0])  # (N,), image px per network px
    middle = centres(boxes) + JITTER_PX * draws[:, 1:] * scale[:, None]  # (N, 2)
    extent = (side * scale)[:, None]  # (N, 1)
    return np.concatenate([middle - extent / 2, extent, extent], 1)


def inner_box(crop: np.ndarray, share: float) -> np.ndarray:
    """Central part of a square crop (x, y, side, side) with ``share`` of its side."""
    margin = crop[2] * (1 - share) / 2
    return np.array([crop[0] + margin, crop[1] + margin, crop[2] * share, crop[3] * share])


def centred_crop(middle: np.ndarray, key: float, side: float) -> np.ndarray:
    """Square crop (x, y, side, side) in image pixels around an image point at scale key ``key``."""
    extent = max(side * 2.0**-key, MIN_CROP_PX)
    return np.array([middle[0] - extent / 2, middle[1] - extent / 2, extent, extent])


def far_from_objects(
    candidates: np.ndarray, boxes: np.ndarray, canonical: float, rule: str = 'one_frame'
) -> np.ndarray:
    """Tell which negative candidates keep their distance from objects of similar scale: bool
    array[M].

    Args:
        candidates: array[M, 3]: x and y in the image scaled by 2**key, and the key.
        boxes: array[N, 4] of the objects.
        canonical: Canonical object length in pixels.
        rule: ``one_frame`` measures in the candidate's scale. Parity: ``official`` compares the
            candidate in its own scale with centres in theirs; ``port`` also leaves out objects of
            key 0.
    """
    keys = scale_keys(boxes, canonical)
    if rule == 'one_frame':
        positions = centres(boxes)[None] * 2.0 ** candidates[:, 2, None, None]  # (M, N, 2)
    else:
        positions = (centres(boxes) * 2.0 ** keys[:, None])[None]  # (1, N, 2)
    distance = np.linalg.norm(candidates[:, None, :2] - positions, axis=2)  # (M, N)
    steps = np.abs(candidates[:, 2, None] - keys[None]) / KEY_STEP  # (M, N)
    near = (distance < NEGATIVE_DISTANCE_PX) & (steps <= _NEAR_KEYS + 1e-6)
    if rule == 'port':
        near &= (keys != 0)[None]
    return ~near.any(1)
