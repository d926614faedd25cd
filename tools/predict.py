#!/usr/bin/env python
"""Put masks on photos, folders of photos and videos, with any MMDetection model that has masks.

python tools/predict.py photo.jpg folder/ 'more/*.png' --config CFG --checkpoint WEIGHTS --out DIR

CFG is a file, or the name of a config as mmrefine::refinemask/NAME.py or mmdet::mask_rcnn/NAME.py.
DIR gets pictures/, predictions.json (COCO results) and images.json; videos become videos/NAME.mp4.
"""

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path

from mmengine.logging import MMLogger

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.inputs import find_inputs, refuse_inputs_in
from mmrefine.apis.load_model import load_model, read_config
from mmrefine.apis.predict import MERGES, predict
from mmrefine.apis.predict_video import predict_video
from mmrefine.apis.predictor import require_score
from mmrefine.apis.views import parse_views
from mmrefine.results.log import EXPECTED_ERRORS
from mmrefine.sipmask.video.detector import SipMaskVIS

# Options for pictures alone: how they are looked at, and what is written of them.
VIEWING = ('tile', 'overlap', 'views', 'merge', 'exclusive')
WRITING = ('batch', 'polygons', 'tolerance', 'world_files', 'crops', 'no_pictures')


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('inputs', nargs='+', metavar='INPUT')
    parser.add_argument('--config', required=True)
    parser.add_argument('--checkpoint', required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--score', type=float, default=0.3, help='leave out objects below it')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='keep these classes only')
    parser.add_argument('--batch', type=int, default=1, help='pictures, or tiles, at once')
    parser.add_argument('--device', default='cpu', help='cpu or cuda:N')
    parser.add_argument('--polygons', action='store_true', help='also polygons.json and .geojson')
    parser.add_argument(
        '--tolerance', type=float, default=0.0, help='pixels by which polygons may be simplified'
    )
    parser.add_argument(
        '--world-files',
        action='store_true',
        help='.geojson on the map, by photo.jgw beside a photo',
    )
    parser.add_argument(
        '--tile', type=int, nargs='+', metavar='N', help='cut larger pictures: height and width'
    )
    parser.add_argument('--overlap', type=int, help='pixels that tiles share (a quarter of a tile)')
    parser.add_argument(
        '--views', nargs='+', metavar='VIEW', help='scales as 0.75, and flip, vflip; merged'
    )
    parser.add_argument('--merge', choices=MERGES, default='nms', help='how views are merged')
    parser.add_argument('--exclusive', action='store_true', help='a pixel has one object at most')
    parser.add_argument('--crops', action='store_true', help='also cut every object out')
    parser.add_argument('--no-pictures', action='store_true', help='draw nothing')
    args = parser.parse_args()
    args.given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    return args


def refuse_picture_options(given: list[str], video: Path, alone: bool) -> None:
    """Raise ValueError if options are given that a video does not know; ``alone`` if there are no
    pictures that they may be meant for."""
    refused = VIEWING + WRITING if alone else VIEWING
    if unknown := ['--' + name.replace('_', '-') for name in given if name in refused]:
        are = 'are' if len(unknown) > 1 else 'is'
        raise ValueError(f'{" and ".join(unknown)} {are} for pictures, but {video} is a video')


def main() -> int:
    """Predict everything; exit status 1 if an input could not be read."""
    args = arguments()
    warnings.filterwarnings('ignore')  # deprecations inside other packages
    try:
        require_score(args.score)
        pictures, videos = find_inputs(args.inputs)  # warns of what is left out
        MMLogger.get_current_instance().setLevel('ERROR')
        views = None if args.views is None else parse_views(args.views)
        config = read_config(args.config, 'model')
        model = load_model(config, args.checkpoint, args.device)
        result = None
        if pictures and isinstance(model, SipMaskVIS):
            raise ValueError(
                f'SipMask-VIS follows objects through videos, but {pictures[0].path} is a picture: '
                'give video files, or tools/track_video.py a folder of frames'
            )
        if videos:
            refuse_picture_options(args.given, videos[0], alone=not pictures)
            refuse_inputs_in(args.out / 'videos', videos)
        names = Counter(video.stem for video in videos)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f'{names[twice[0]]} videos are called {twice[0]}: run them one by one')
        if pictures:
            result = predict(
                model,
                args.inputs,
                args.out,
                score=args.score,
                classes=args.classes,
                batch_size=args.batch,
                pictures=not args.no_pictures,
                polygons=args.polygons,
                crops=args.crops,
                tile=args.tile,
                overlap=args.overlap,
                views=views,
                merge=args.merge,
                exclusive=args.exclusive,
                tolerance=args.tolerance,
                world_files=args.world_files,
                show_progress=True,
            )
        for video in videos:
            target = args.out / 'videos' / f'{video.stem}.mp4'
            print(predict_video(model, video, target, args.score, args.classes).summary())
    except EXPECTED_ERRORS as error:
        sys.exit(f'predict: {error}')
    if result is None:
        return 0
    if not sum(result.objects.values()):
        print(f'no object has a score of {args.score} or more: try a lower --score')
    print(result.summary())
    for sentence in result.unreadable:
        print(f'left out: {sentence}', file=sys.stderr)
    return int(bool(result.unreadable))


if __name__ == '__main__':
    sys.exit(main())
