"""Pictures of a test: the results of a dump beside the ground truth of its data set."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from mmrefine.masks.run_lengths import to_counts
from mmrefine.results.dumps import read_dump
from mmrefine.results.image_files import read_picture
from mmrefine.results.log import log_warning
from mmrefine.results.predictions import read_instances
from mmrefine.visualization.instances import Instances
from mmrefine.visualization.overlays import (
    SHEET_PANELS,
    SHEET_SIDE,
    contact_sheet,
    shrunk,
    truth_beside_prediction,
)
from mmrefine.visualization.picture_files import write_picture

from .load_model import read_config

SHEET = 'sheet'


def draw_dump(
    config: str,
    results: str,
    out: Path,
    num: int = 12,
    min_score: float = 0.5,
    scale: int | None = None,
) -> int:
    """Draw the first ``num`` pictures of a test with an object or a prediction, and a sheet of the
    first few of them.

    Args:
        config: The config that was tested.
        results: Pickle that the test wrote.
        out: Folder for the pictures.
        min_score: Lowest score drawn.
        scale: Enlargement; default: see ``truth_beside_prediction``.

    Returns:
        Number of pictures, without the sheet.
    """
    loader = read_config(config, 'test_dataloader').test_dataloader
    init_default_scope('mmdet')
    dataset = DATASETS.build(_without_steps(loader.dataset))
    samples = {sample['img_id']: sample for sample in read_dump(results)}
    listed = [dataset.get_data_info(index) for index in range(len(dataset))]
    if out.resolve() in {Path(info['img_path']).resolve().parent for info in listed}:
        raise ValueError(f'{out} holds pictures of the data set: name another folder')
    by_id = {info['img_id']: info for info in listed}
    if twice := [i for i in listed if i['img_path'] != by_id[i['img_id']]['img_path']]:
        raise ValueError(
            f'{config} tests two pictures of the id {twice[0]["img_id"]!r}: test one set'
        )
    infos = [
        info
        for i, info in by_id.items()
        if i in samples and (info['instances'] or _scored(samples[i], min_score))
    ][:num]
    if not infos:
        raise ValueError(
            f'{results} holds no picture that {config} tests with an object, or with a score of '
            f'{min_score:g} or more'
        )
    out.mkdir(parents=True, exist_ok=True)
    classes = dataset.metainfo['classes']
    sheet, drawn = [], 0
    for info, name in zip(infos, picture_names(infos)):
        image = read_picture(Path(info['img_path']))
        size = image.shape[:2]
        label = f'{results}: image {info["img_id"]!r}'
        pred = samples[info['img_id']].get('pred_instances', {})
        prediction = _predictions(pred, size, classes, label, min_score)
        rgb = np.ascontiguousarray(image[..., ::-1])
        panel = truth_beside_prediction(rgb, _truth(info, size), prediction, classes, scale)
        drawn += len(prediction)
        write_picture(out / name, panel)
        if len(sheet) < SHEET_PANELS:
            sheet.append(shrunk(panel, SHEET_SIDE))
    write_picture(out / f'{SHEET}.jpg', contact_sheet(sheet))
    if not drawn:
        log_warning(
            f'no prediction for these {len(infos)} pictures has a score of {min_score:g} or more: '
            'they show the ground truth alone (--score takes a lower one)'
        )
    return len(infos)


def _without_steps(dataset: dict) -> dict:
    """The config of a data set, or of one that wraps others, without pipelines."""
    if 'datasets' in dataset:
        return {**dataset, 'datasets': [_without_steps(part) for part in dataset['datasets']]}
    if 'dataset' in dataset:
        return {**dataset, 'dataset': _without_steps(dataset['dataset'])}
    return {**dataset, 'pipeline': []}


def _scored(sample: dict, min_score: float) -> bool:
    scores = sample.get('pred_instances', {}).get('scores', ())
    return bool((np.asarray(scores) >= min_score).any())


def _truth(info: dict, size: tuple[int, int]) -> Instances:
    """Objects of an entry of the data set that have a mask; crowds are left out."""
    rles, labels = [], []
    for instance in info['instances']:
        mask = instance.get('mask')
        if isinstance(mask, list):
            # LoadAnnotations leaves out such polygons, too.
            mask = [p for p in mask if not isinstance(p, list) or len(p) >= 6 and len(p) % 2 == 0]
        if not mask or instance['ignore_flag']:
            continue
        try:
            rles.append({'size': list(size), 'counts': to_counts(mask, size)})
        except ValueError as error:
            raise ValueError(f'{info["img_path"]}: {error}') from None
        labels.append(instance['bbox_label'])
    return Instances(rles, labels)


def _predictions(
    pred: dict, size: tuple[int, int], classes: Sequence[str], label: str, min_score: float
) -> Instances:
    """Predictions of a dump, checked; errors begin with ``label``."""
    missing = [key for key in ('bboxes', 'scores', 'labels', 'masks') if key not in pred]
    if missing:
        raise ValueError(
            f'{label} has no predicted {" and ".join(missing)}: draw the dump of a model that '
            'predicts masks'
        )
    found = read_instances(pred, size, label)
    wrong = [one for one in found['labels'].tolist() if not 0 <= one < len(classes)]
    if wrong:
        raise ValueError(
            f'{label} has the label {wrong[0]}, but the config has {len(classes)} classes: '
            'give the config that was tested'
        )
    kept = np.flatnonzero(found['scores'] >= min_score)
    rles = [{'size': list(size), 'counts': found['counts'][i]} for i in kept]
    return Instances(rles, found['labels'][kept].tolist(), found['scores'][kept])


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
        names.append(f'{name}.jpg')
    return names
