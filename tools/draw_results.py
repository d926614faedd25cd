"""Draw ground truth beside prediction from the results of ``tools/test.py --out FILE.pkl``."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.evaluation.dumps import read_dump
from mmrefine.evaluation.predictions import read_instances
from mmrefine.evaluation.runs import to_counts
from mmrefine.load_model import read_config
from mmrefine.visualization.overlays import Instances, contact_sheet, truth_beside_prediction

SHEET = 'sheet'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config that was tested')
    parser.add_argument('results', help='the pickle that the test wrote')
    parser.add_argument('out', type=Path, help='folder for the pictures')
    parser.add_argument('--num', type=int, default=12, help='pictures to draw')
    parser.add_argument('--score', type=float, default=0.5, help='lowest score drawn')
    parser.add_argument('--scale', type=int, default=2, help='enlargement')
    return parser.parse_args(argv)


def open_dataset(path: str) -> BaseDataset:
    """The data set that a config is tested on, without its pipeline.

    Raises:
        OSError: The config or a file of the data set is missing.
        ValueError: The file is no config, or tests nothing.
    """
    config = read_config(path, 'test_dataloader')
    init_default_scope('mmdet')
    return DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})


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


def draw(info: dict, result: dict, names: tuple[str, ...], args: argparse.Namespace) -> np.ndarray:
    """Draw one picture of the data set with its result.

    Raises:
        OSError: The picture cannot be read.
        ValueError: The results have no masks, or are not of this picture and these classes.
    """
    pred = result.get('pred_instances', {})
    label = f'{args.results}: image {info["img_id"]!r}'
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
        [names[thing['bbox_label']] for thing in things],
    )
    found = read_instances(pred, size, label)
    wrong = [one for one in found['labels'].tolist() if not 0 <= one < len(names)]
    if wrong:
        raise ValueError(
            f'{label} has the label {wrong[0]}, but the config has {len(names)} classes: '
            'give the config that was tested'
        )
    keep = np.flatnonzero(found['scores'] >= args.score)
    prediction = Instances(
        decode([{'size': size, 'counts': found['counts'][index]} for index in keep], size, label),
        [f'{names[found["labels"][index]]} {found["scores"][index]:.2f}' for index in keep],
    )
    return truth_beside_prediction(image[..., ::-1].copy(), truth, prediction, args.scale)


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


def draw_all(args: argparse.Namespace) -> int:
    """Draw every picture and a sheet of the first few; returns their number.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: Files do not belong together, or cannot be used.
    """
    if min(args.num, args.scale) < 1:
        raise ValueError('--num and --scale take 1 or more')
    dataset = open_dataset(args.config)
    results = {result['img_id']: result for result in read_dump(args.results)}
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    if args.out.resolve() in {Path(info['img_path']).resolve().parent for info in infos}:
        raise ValueError(f'{args.out} holds pictures of the data set: name another folder')
    infos = [info for info in infos if info['img_id'] in results and info['instances']]
    if not infos:
        raise ValueError(f'{args.results} holds no picture of {dataset.ann_file}')
    infos = infos[: args.num]
    args.out.mkdir(parents=True, exist_ok=True)
    panels = []
    for info, name in zip(infos, picture_names(infos)):
        panels.append(draw(info, results[info['img_id']], dataset.metainfo['classes'], args))
        write(args.out / name, panels[-1])
    write(args.out / f'{SHEET}.png', contact_sheet(panels[:6]))
    return len(panels)


def main(argv: list[str] | None = None) -> int:
    """Draw; exit status 1 with one sentence if something cannot be drawn."""
    args = parse_args(argv)
    try:
        count = draw_all(args)
    except (OSError, ValueError) as error:
        print(f'draw_results: {error}', file=sys.stderr)
        return 1
    print(f'{count} pictures and {SHEET}.png in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
