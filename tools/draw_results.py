"""Draw ground truth beside prediction from the results of ``tools/test.py --out FILE.pkl``."""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from mmrefine.visualization.overlays import Instances, contact_sheet, truth_beside_prediction


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config that was tested')
    parser.add_argument('results', help='the pickle that the test wrote')
    parser.add_argument('out', type=Path, help='folder for the pictures')
    parser.add_argument('--num', type=int, default=12, help='pictures to draw')
    parser.add_argument('--score', type=float, default=0.5, help='lowest score drawn')
    parser.add_argument('--scale', type=int, default=2, help='enlargement')
    return parser.parse_args()


def decode(segments: list, height: int, width: int) -> np.ndarray:
    """Decode RLEs or polygons to bool[N, height, width]."""
    masks = np.zeros((len(segments), height, width), bool)
    for mask, segment in zip(masks, segments):
        if isinstance(segment, list) or isinstance(segment['counts'], list):
            segment = coco_mask.frPyObjects(segment, height, width)
        decoded = coco_mask.decode(segment)
        mask |= (decoded if decoded.ndim == 2 else decoded.any(2)) > 0
    return masks


def draw(info: dict, result: dict, names: tuple[str, ...], args: argparse.Namespace) -> np.ndarray:
    """Draw one picture of the data set with its result."""
    image = cv2.imread(info['img_path'])
    if image is None:
        raise FileNotFoundError(f'cannot read {info["img_path"]}')
    size = image.shape[:2]
    things = [thing for thing in info['instances'] if not thing['ignore_flag']]
    truth = Instances(
        decode([thing['mask'] for thing in things], *size),
        [names[thing['bbox_label']] for thing in things],
    )
    found = result['pred_instances']
    keep = [index for index, score in enumerate(found['scores']) if score >= args.score]
    prediction = Instances(
        decode([found['masks'][index] for index in keep], *size),
        [f'{names[found["labels"][index]]} {found["scores"][index]:.2f}' for index in keep],
    )
    return truth_beside_prediction(image[..., ::-1].copy(), truth, prediction, args.scale)


def main() -> None:
    """Draw every picture and a sheet of the first few."""
    args = parse_args()
    config = Config.fromfile(args.config)
    init_default_scope('mmdet')
    dataset = DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})
    results = {result['img_id']: result for result in load(args.results)}
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    infos = [info for info in infos if info['img_id'] in results and info['instances']]
    if not infos:
        sys.exit(f'draw_results: {args.results} holds no picture of {dataset.ann_file}')
    args.out.mkdir(parents=True, exist_ok=True)
    panels = []
    for info in infos[: args.num]:
        panels.append(draw(info, results[info['img_id']], dataset.metainfo['classes'], args))
        cv2.imwrite(str(args.out / f'{Path(info["img_path"]).stem}.png'), panels[-1][..., ::-1])
    cv2.imwrite(str(args.out / 'sheet.png'), contact_sheet(panels[:6])[..., ::-1])
    print(f'{len(panels)} pictures and sheet.png in {args.out}')


if __name__ == '__main__':
    main()
