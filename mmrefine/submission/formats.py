"""Write results the way the evaluation servers ask for them; files appear whole or not at all."""

import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmrefine.masks import to_dense
from mmrefine.results.coco_files import write_json_list
from mmrefine.results.detections import Detections
from mmrefine.results.files import atomic_file
from mmrefine.results.ground_truth import GroundTruth, Id

# Ids of the Cityscapes classes that are scored as instances (cityscapesscripts.helpers.labels).
CITYSCAPES_IDS = {
    'person': 24,
    'rider': 25,
    'car': 26,
    'truck': 27,
    'bus': 28,
    'train': 31,
    'motorcycle': 32,
    'bicycle': 33,
}
MAX_PER_IMAGE = {'coco': 100, 'lvis': 300}


def coco_name(split: str, algorithm: str) -> str:
    """File name (without suffix) that COCO's server expects.

    Args:
        split: E.g. ``'test-dev2017'``.
        algorithm: Name of the method; letters, digits, ``-``, ``_``.

    Raises:
        ValueError: The name has other characters.
    """
    for name, value in (('split', split), ('algorithm', algorithm)):
        if not re.fullmatch(r'[\w-]+', value):
            raise ValueError(f'{name} may have letters, digits, - and _ only; got {value!r}')
    return f'detections_{split}_{algorithm}_results'


def best_per_image(entries: Iterable[Mapping], most: int | None) -> Iterator[Mapping]:
    """Keep the ``most`` best entries of an image (the earlier of equal scores); drop scores of 0.

    Args:
        entries: COCO result entries.
        most: Entries an image; None keeps all.
    """
    images: dict[Id, list[Mapping]] = defaultdict(list)
    for entry in entries:
        if entry['score'] != 0:
            images[entry['image_id']].append(entry)
    for rows in images.values():
        yield from sorted(rows, key=lambda row: -row['score'])[:most]


def write_zip(path: str | Path, files: Mapping[str, Path]) -> None:
    """Pack files.

    Args:
        path: The archive.
        files: Name inside -> file.
    """
    with (
        atomic_file(path, 'wb') as file,
        zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, source in files.items():
            archive.write(source, name)


def write_coco_submission(
    entries: Iterable[Mapping], folder: str | Path, split: str, algorithm: str, most: int = 100
) -> list[str]:
    """Write ``detections_<split>_<algorithm>_results.json`` and its zip.

    Returns:
        The two paths.
    """
    name = coco_name(split, algorithm)
    json_path = Path(folder) / f'{name}.json'
    write_json_list(json_path, best_per_image(entries, most))
    write_zip(json_path.with_suffix('.zip'), {json_path.name: json_path})
    return [str(json_path), str(json_path.with_suffix('.zip'))]


def write_lvis_submission(
    entries: Iterable[Mapping], path: str | Path, most: int = 300
) -> list[str]:
    """Write an LVIS result list, at most 300 an image.

    Returns:
        The path.
    """
    write_json_list(path, best_per_image(entries, most))
    return [str(path)]


def write_video_results(tracks: Iterable[Mapping], prefix: str | Path) -> list[str]:
    """Write ``PREFIX.json`` and ``PREFIX.submission_file.zip``, which holds it as ``results.json``.

    Args:
        tracks: YouTube-VIS result entries.
        prefix: Path without suffix.

    Returns:
        The two paths.
    """
    json_path = Path(f'{prefix}.json')
    write_json_list(json_path, iter(tracks))
    archive = Path(f'{prefix}.submission_file.zip')
    write_zip(archive, {'results.json': json_path})
    return [str(json_path), str(archive)]


def cityscapes_stem(file_name: str) -> str:
    """``<city>_<sequence>_<frame>_leftImg8bit`` of an image path.

    Raises:
        ValueError: Another kind of name.
    """
    stem = Path(file_name).stem
    match = re.match(r'(.+_\d+_\d+)(_leftImg8bit|_gtFine_\w+)?$', stem)
    if match is None:
        raise ValueError(
            f'{file_name!r} is no Cityscapes image: expected '
            '<city>_<sequence>_<frame>_leftImg8bit.png'
        )
    return f'{match[1]}_leftImg8bit'


def write_cityscapes_image(
    folder: Path, file_name: str, masks: list[dict], labels: list[int], scores: list[float]
) -> Path:
    """Write one image's instances: a PNG each and the text file that lists them.

    Args:
        folder: Root of the tree.
        file_name: Of the image.
        masks: N RLEs, decoded one at a time.
        labels: N Cityscapes label ids.
        scores: N scores.

    Returns:
        The text file ``<image>_pred.txt``; it is written last, so it never names a missing PNG.
    """
    stem = cityscapes_stem(file_name)
    lines = []
    for i, (mask, label, score) in enumerate(zip(masks, labels, scores)):
        name = f'{stem}_{i}_{label}.png'
        ok, data = cv2.imencode('.png', to_dense([mask])[0].numpy().astype(np.uint8) * 255)
        if not ok:
            raise OSError(f'could not encode {name}')
        with atomic_file(folder / name, 'wb') as file:
            file.write(data.tobytes())
        lines.append(f'{name} {label} {score:.9g}\n')
    text = folder / f'{stem}_pred.txt'
    with atomic_file(text) as file:
        file.writelines(lines)
    return text


def cityscapes_labels(gt: GroundTruth) -> dict[Id, int]:
    """Cityscapes label id of every category, by name.

    Raises:
        ValueError: A category is none of the eight with instances.
    """
    table = {}
    for category, name in gt.categories.items():
        if name not in CITYSCAPES_IDS:
            raise ValueError(
                f'category {name!r} is none of the Cityscapes classes with instances: '
                f'{", ".join(CITYSCAPES_IDS)}'
            )
        table[category] = CITYSCAPES_IDS[name]
    return table


def write_cityscapes_tree(
    dt: Detections, gt: GroundTruth, file_names: Mapping[Id, str], folder: str | Path
) -> dict[Id, Path]:
    """Write the txt + png tree for all images, also those without detections.

    Args:
        dt: With masks.
        gt: For sizes and categories.
        file_names: Image id -> path of the image.
        folder: Root of the tree.

    Returns:
        Image id -> text file.
    """
    labels = cityscapes_labels(gt)
    rows: dict[Id, list[int]] = defaultdict(list)
    for i, image in enumerate(dt.image_ids):
        rows[image].append(i)
    scores = dt.scores if dt.mask_scores is None else dt.mask_scores
    texts = {}
    for image, file_name in file_names.items():
        chosen = rows.get(image, [])
        texts[image] = write_cityscapes_image(
            Path(folder),
            file_name,
            [{'size': list(gt.sizes[image]), 'counts': dt.counts[i]} for i in chosen],
            [labels[dt.category_ids[i]] for i in chosen],
            [float(scores[i]) for i in chosen],
        )
    return texts


def zip_tree(folder: str | Path, path: str | Path) -> str:
    """Pack a txt + png tree."""
    folder = Path(folder)
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob('*')) if p.is_file()}
    write_zip(path, {name: p for name, p in files.items() if p.suffix in ('.txt', '.png')})
    return str(path)


def json_text(value: Any) -> str:
    """One line of json."""
    return json.dumps(value, separators=(',', ':'))
