"""A made-up Cityscapes folder for the evaluation tests."""

import json
from pathlib import Path

import cv2
import numpy as np
from evaluation.scenes import blob, shaken, text_rle

from mmrefine.results.cityscapes import CITYSCAPES_IDS

H, W = 160, 240


def make_city(folder: Path, seed: int = 0, images: int = 5) -> tuple[dict, list[dict]]:
    """Instance maps with void and group regions, the json of the instances, and results."""
    rng = np.random.default_rng(seed)
    data: dict = {'images': [], 'annotations': []}
    data['categories'] = [{'id': i, 'name': name} for name, i in CITYSCAPES_IDS.items()]
    results = []
    for number in range(images):
        stem = f'town_{number:06d}_000019'
        canvas = np.full((H, W), 7, np.uint16)
        canvas[:20] = 0  # void
        canvas[-25:, :60] = 26  # a group of cars
        image = {'id': number + 1, 'height': H, 'width': W}
        data['images'].append({**image, 'file_name': f'town/{stem}_leftImg8bit.png'})
        for k in range(6):
            canvas[blob(rng, H, W) > 0] = 1000 * (24, 26, 33)[k % 3] + k
        for value in np.unique(canvas):
            if value < 1000 and value != 26:
                continue
            mask = (canvas == value).astype(np.uint8)
            label = int(value) // 1000 or 26
            _add(data, image, label, mask, crowd=value < 1000)
            for _ in range(int(rng.integers(0, 3))):
                moved = shaken(rng, mask)
                score = round(float(rng.uniform(0.05, 1)), 3)
                entry = {'image_id': image['id'], 'category_id': label, 'score': score}
                results.append({**entry, 'segmentation': text_rle(moved)})
        target = folder / 'gtFine' / 'val' / 'town' / f'{stem}_gtFine_instanceIds.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), canvas)
    (folder / 'annotations').mkdir()
    (folder / 'annotations' / 'val.json').write_text(json.dumps(data))
    (folder / 'results.json').write_text(json.dumps(results))
    return data, results


def _add(data: dict, image: dict, label: int, mask: np.ndarray, crowd: bool) -> None:
    data['annotations'].append(
        {
            'id': len(data['annotations']) + 1,
            'image_id': image['id'],
            'category_id': label,
            'iscrowd': int(crowd),
            'segmentation': text_rle(mask),
        }
    )
