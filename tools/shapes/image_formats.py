"""Single pictures as COCO, LVIS and Cityscapes data sets."""

from typing import Any

import numpy as np

from mmrefine.results.progress import show_progress

from .folder import ShapesFolder
from .records import PALETTE, categories, mask_record
from .rng import Rng
from .scene import CLASSES, SceneSpec, make_picture

SPLITS = ('train', 'val')
"""A split's position is part of the random key, so train and val never share a picture."""

CITYSCAPES_CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
CITYSCAPES_IDS = (24, 25, 26, 27, 28, 31, 32, 33)
_STATIC = 4
"""Cityscapes label id of everything that is not one of the eight classes."""


def write_coco(folder: ShapesFolder, counts: dict[str, int], spec: SceneSpec, seed: int) -> None:
    """Write ``<split>/*.png`` and ``annotations/instances_<split>.json``."""
    for split, images, annotations in _coco_splits(folder, counts, spec, seed):
        content = {'images': images, 'annotations': annotations, 'categories': categories()}
        folder.write_json(f'annotations/instances_{split}.json', _with_info(content, 'COCO'))


def write_lvis(folder: ShapesFolder, counts: dict[str, int], spec: SceneSpec, seed: int) -> None:
    """Write LVIS v1 files ``annotations/lvis_v1_<split>.json`` and the same as v0.5.

    Federated rules as in LVIS: some classes of an image are listed as checked and absent, some as
    not annotated exhaustively (one of their objects is then left out), the others are unknown.
    LVIS calls a class rare below 11 and common below 101 training images of 100,000, which means
    nothing for a few hundred pictures: here it is below 25 % and below 45 % of the pictures.
    """
    frequency: list[dict[str, Any]] = []
    for split, images, annotations in _coco_splits(folder, counts, spec, seed):
        _federate(images, annotations, Rng(seed, SPLITS.index(split), 1 << 32))
        if not frequency:
            frequency = _frequencies(annotations, len(images))
        for image in images:
            # LVIS v1 has no file names; its readers take the path from the address.
            image['coco_url'] = f'http://images.cocodataset.org/{image["file_name"]}'
        content = {'images': images, 'annotations': annotations, 'categories': frequency}
        content = _with_info(content, 'LVIS')
        folder.write_json(f'annotations/lvis_v0.5_{split}.json', content)
        slim = [{k: v for k, v in image.items() if k != 'file_name'} for image in images]
        folder.write_json(f'annotations/lvis_v1_{split}.json', {**content, 'images': slim})


def write_cityscapes(
    folder: ShapesFolder, counts: dict[str, int], spec: SceneSpec, seed: int
) -> None:
    """Write the Cityscapes tree and the json that MMDetection reads beside it.

    The eight shapes go by the names and ids of the eight Cityscapes classes with instances.
    """
    for index, split in enumerate(SPLITS):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in show_progress(range(counts[split]), split):
            image, masks, labels = make_picture(Rng(seed, index, number), spec)
            stem = f'shapes/shapes_{number:06d}_000019'
            ids = _write_cityscapes_truth(folder, f'gtFine/{split}/{stem}_gtFine', masks, labels)
            name = f'{stem}_leftImg8bit.png'
            folder.write_image(f'leftImg8bit/{split}/{name}', image)
            record = _image_record(len(images) + 1, name, spec)
            images.append({**record, 'segm_file': f'{stem}_gtFine_instanceIds.png'})
            annotations += _annotations(masks, ids, len(images), len(annotations))
        names = [
            {'id': key, 'name': name}
            for key, name in zip(CITYSCAPES_IDS, CITYSCAPES_CLASSES, strict=True)
        ]
        content = {'images': images, 'annotations': annotations, 'categories': names}
        folder.write_json(f'annotations/instancesonly_filtered_gtFine_{split}.json', content)


def _coco_splits(
    folder: ShapesFolder, counts: dict[str, int], spec: SceneSpec, seed: int
) -> list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Write all pictures as ``<split>/<id>.png``; return records of images and annotations."""
    splits = []
    for index, split in enumerate(SPLITS):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in show_progress(range(counts[split]), split):
            image, masks, labels = make_picture(Rng(seed, index, number), spec)
            name = f'{split}/{number + 1:012d}.png'
            folder.write_image(name, image)
            images.append(_image_record(number + 1, name, spec))
            category_ids = [label + 1 for label in labels]
            annotations += _annotations(masks, category_ids, number + 1, len(annotations))
        splits.append((split, images, annotations))
    return splits


def _image_record(image_id: int, name: str, spec: SceneSpec) -> dict[str, Any]:
    return {'id': image_id, 'file_name': name, 'width': spec.width, 'height': spec.height}


def _annotations(
    masks: np.ndarray, category_ids: list[int], image_id: int, first: int
) -> list[dict[str, Any]]:
    return [
        {
            'id': first + k + 1,
            'image_id': image_id,
            'category_id': category_id,
            **mask_record(mask),
        }
        for k, (mask, category_id) in enumerate(zip(masks, category_ids, strict=True))
    ]


def _with_info(content: dict[str, Any], form: str) -> dict[str, Any]:
    info = {'description': f'Generated shapes, {form} format', 'version': '1.0'}
    return {'info': info, 'licenses': [], **content}


def _federate(images: list[dict[str, Any]], annotations: list[dict[str, Any]], rng: Rng) -> None:
    """Add the federated lists to ``images`` and drop objects that exhaustive labelling had."""
    present: dict[int, list[dict[str, Any]]] = {image['id']: [] for image in images}
    for annotation in annotations:
        present[annotation['image_id']].append(annotation)
    for image in images:
        objects = present[image['id']]
        found = {annotation['category_id'] for annotation in objects}
        absent = [k + 1 for k in range(len(CLASSES)) if k + 1 not in found]
        image['neg_category_ids'] = [key for key in absent if rng.chance(60)]
        image['not_exhaustive_category_ids'] = []
        for key in sorted(found):
            same = [annotation for annotation in objects if annotation['category_id'] == key]
            if len(same) > 2 and rng.chance(50):
                image['not_exhaustive_category_ids'].append(key)
                annotations.remove(same[-1])


def _frequencies(annotations: list[dict[str, Any]], images: int) -> list[dict[str, Any]]:
    """List LVIS categories with counts and frequency groups of the training split."""
    records = []
    for record in categories():
        of_class = [a for a in annotations if a['category_id'] == record['id']]
        seen = len({a['image_id'] for a in of_class})
        group = 'r' if seen * 100 < 25 * images else 'c' if seen * 100 < 45 * images else 'f'
        records.append(
            {
                'id': record['id'],
                'name': record['name'],
                'synset': f'{record["name"]}.n.01',
                'synonyms': [record['name']],
                'def': f'a generated {record["name"]}',
                'frequency': group,
                'image_count': seen,
                'instance_count': len(of_class),
            }
        )
    return records


def _write_cityscapes_truth(
    folder: ShapesFolder, stem: str, masks: np.ndarray, labels: list[int]
) -> list[int]:
    """Write id pictures and return the Cityscapes class id of every object."""
    height, width = masks.shape[1:]
    instances = np.full((height, width), _STATIC, np.uint16)
    colours = np.zeros((height, width, 3), np.uint8)
    class_ids = [CITYSCAPES_IDS[label] for label in labels]
    for k, (mask, class_id, label) in enumerate(zip(masks, class_ids, labels, strict=True)):
        instances[mask] = class_id * 1000 + class_ids[:k].count(class_id)
        colours[mask] = PALETTE[label]
    label_ids = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
    folder.write_image(f'{stem}_instanceIds.png', instances)
    folder.write_image(f'{stem}_labelIds.png', label_ids)
    folder.write_image(f'{stem}_color.png', colours)
    return class_ids
