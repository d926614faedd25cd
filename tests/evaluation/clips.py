"""Made-up tracks and results for the evaluation tests."""

import numpy as np
from evaluation.scenes import NAMES, blob, shaken, text_rle

LENGTH = 4  # frames of a video


def make_clips(seed: int, videos: int = 5) -> tuple[dict, list[dict]]:
    """YouTube-VIS annotation file and results."""
    rng = np.random.default_rng(seed)
    categories = [{'id': i + 1, 'name': name} for i, name in enumerate(NAMES)]
    truth: dict = {'videos': [], 'annotations': [], 'categories': categories}
    results = []
    for video in range(1, videos + 1):
        h, w = int(rng.integers(30, 400)), int(rng.integers(30, 400))
        truth['videos'].append({'id': video, 'height': h, 'width': w, 'length': LENGTH})
        for _ in range(int(rng.integers(1, 5))):
            masks = [blob(rng, h, w) if rng.random() < 0.8 else None for _ in range(LENGTH)]
            if not any(m is not None for m in masks):
                continue
            category = int(rng.integers(1, 4))
            frames = [None if m is None else text_rle(m) for m in masks]
            truth['annotations'].append(
                {
                    'id': len(truth['annotations']) + 1,
                    'video_id': video,
                    'category_id': category,
                    'iscrowd': int(rng.random() < 0.15),
                    'segmentations': frames,
                    'areas': [None if m is None else int(m.sum()) for m in masks],
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = [None if m is None else text_rle(shaken(rng, m)) for m in masks]
                score = round(float(rng.uniform(0.01, 1)), 2)
                entry = {'video_id': video, 'category_id': category, 'score': score}
                results.append({**entry, 'segmentations': moved})
    return truth, results
