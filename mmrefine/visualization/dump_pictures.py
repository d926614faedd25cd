"""Pictures of a test: the results of a dump beside the ground truth of its data set."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from mmrefine.apis.load_model import read_config
from mmrefine.masks.run_lengths import to_counts
from mmrefine.results.dumps import read_dump
from mmrefine.results.predictions import read_instances

from .overlays import Instances, contact_sheet, truth_beside_prediction

SHEET = 'sheet'
SHEET_PANELS = 6


def draw_dump(
    config: str, results: str, out: Path, num: int = 12, min_score: float = 0.5, scale: int = 2
) -> int:
    """Draw the first pictures of a test, and a sheet of the first few of them.

    Args:
        config: The config that was tested.
        results: Pickle that the test wrote.
        out: Folder for the pictures.
        num: How many.
        min_score: Lowest score drawn.
        scale: Enlargement.

    Returns:
        Number of pictures, without the sheet.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: Files do not belong together, or cannot be used.
    """
    dataset = open_dataset(config)
    samples = {sample['img_id']: sample for sample in read_dump(results)}
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    if out.resolve() in {Path(info['img_path']).resolve().parent for info in infos}:
        raise ValueError(f'{out} holds pictures of the data set: name another folder')
    infos = [info for info in infos if info['img_id'] in samples and info['instances']]
    if not infos:
        raise ValueError(f'{results} holds no picture of {dataset.ann_file}')
    infos = infos[:num]
    out.mkdir(parents=True, exist_ok=True)
    classes = dataset.metainfo['classes']
    sheet = []
    for info, name in zip(infos, picture_names(infos)):
        label = f'{results}: image {info["img_id"]!r}'
        pred = samples[info['img_id']].get('pred_instances', {})
        panel = draw_picture(info, pred, classes, label, min_score, scale)
        write(out / name, panel)
        if len(sheet) < SHEET_PANELS:
            sheet.append(panel)
    write(out / f'{SHEET}.png', contact_sheet(sheet))
    return len(infos)


def open_dataset(path: str) -> BaseDataset:
    """The data set that a config is tested on, without its pipeline.

    Raises:
        OSError: The config or a file of the data set is missing.
        ValueError: The file is no config, or tests nothing.
    """
    config = read_config(path, 'test_dataloader')
    init_default_scope('mmdet')
    return DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})


def draw_picture(
    info: dict, pred: dict, classes: Sequence[str], label: str, min_score: float, scale: int
) -> np.ndarray:
    """Draw one picture of the data set with its result.

    Args:
        info: Entry of the data set.
        pred: ``pred_instances`` of a dump.
        classes: Names, by label.
        label: Begins every error about ``pred``.
        min_score: Lowest score drawn.
        scale: Enlargement.

    Returns:
        uint8[h, w, 3] RGB.

    Raises:
        OSError: The picture cannot be read.
        ValueError: The results have no masks, or are not of this picture and these classes.
    """
    image = cv2.imread(info['img_path'])
    if image is None:
        raise OSError(f'cannot read {info["img_path"]}')
    size = image.shape[:2]
    missing = [key for key in ('bboxes', 'scores', 'labels', 'masks') if key not in pred]
    if missing:
        raise ValueError(
            f'{label} has no predicted {" and ".join(missing)}: draw the dump of a model that '
            'predicts masks'
        )
    things = [t for t in info['instances'] if not t['ignore_flag'] and t.get('mask')]
    truth = Instances(
        decode([thing['mask'] for thing in things], size, info['img_path']),
        [classes[thing['bbox_label']] for thing in things],
    )
    found = read_instances(pred, size, label)
    wrong = [one for one in found['labels'].tolist() if not 0 <= one < len(classes)]
    if wrong:
        raise ValueError(
            f'{label} has the label {wrong[0]}, but the config has {len(classes)} classes: '
            'give the config that was tested'
        )
    keep = np.flatnonzero(found['scores'] >= min_score)
    prediction = Instances(
        decode([{'size': size, 'counts': found['counts'][index]} for index in keep], size, label),
        [f'{classes[found["labels"][index]]} {found["scores"][index]:.2f}' for index in keep],
    )
    return truth_beside_prediction(image[..., ::-1].copy(), truth, prediction, scale)


def decode(segments: list, size: tuple[int, int], label: str) -> np.ndarray:
    """Decode RLEs or polygons to bool[N, height, width].

    Raises:
        ValueError: An RLE of another size, or no mask at all; begins with ``label``.
    """
    masks = np.zeros((len(segments), *size), bool)
    for mask, segment in zip(masks, segments):
        if isinstance(segment, list):
            # LoadAnnotations leaves such polygons out, too.
            segment = [p for p in segment if not isinstance(p, list) or _has_area(p)]
        if not segment:
            continue
        try:
            mask[:] = coco_mask.decode({'size': list(size), 'counts': to_counts(segment, size)})
        except ValueError as error:
            raise ValueError(f'{label}: {error}') from None
    return masks


def _has_area(polygon: list) -> bool:
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def picture_names(infos: list[dict]) -> list[str]:
    """Names of the drawn files: the picture's, with its id where several share it."""
    stems = [Path(info['img_path']).stem for info in infos]
    counts = Counter([*stems, SHEET])
    taken = {SHEET, *stems}
    names = []
    for stem, info in zip(stems, infos):
        name = stem
        if counts[stem] > 1:
            name = f'{stem}_{info["img_id"]}'
            while name in taken:
                name += '_'
            taken.add(name)
        names.append(f'{name}.png')
    return names


def write(file: Path, panel: np.ndarray) -> None:
    """Write uint8[H, W, 3] RGB.

    Raises:
        OSError: It cannot be written, which OpenCV says by its result alone.
    """
    if not cv2.imwrite(str(file), panel[..., ::-1]):
        raise OSError(f'cannot write {file}')
