"""Segment and track the objects of a video file or a folder of frames.

Example:
    python tools/track_video.py clip.mp4 tracked.mp4 \
        configs/sipmask/sipmask-vis_r50-caffe_fpn_gn_1x_youtubevis2019.py weights.pth
"""

import argparse
import sys
from pathlib import Path

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.load_model import load_model
from mmrefine.apis.predict_video import predict_video
from mmrefine.apis.video_files import VIDEO_SUFFIXES
from mmrefine.results.files import refuse_overwriting
from mmrefine.results.log import EXPECTED_ERRORS
from mmrefine.sipmask.video.detector import SipMaskVIS


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('input', help='video file, or folder of frames')
    parser.add_argument('output', help=f'video file ({", ".join(VIDEO_SUFFIXES)}) or new folder')
    parser.add_argument('config', help='config of a SipMask-VIS model')
    parser.add_argument('checkpoint', help="its weights; the authors' files load as they are")
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--score', type=float, default=0.2, help='lowest score drawn and counted')
    parser.add_argument('--video-id', type=int, default=1, help='video_id in the result file')
    parser.add_argument('--fps', type=float, help='frames per second of the output video')
    parser.add_argument(
        '--skip-unreadable', action='store_true', help='go on where a picture cannot be read'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; 0 on success, 1 with a sentence on bad input."""
    args = parse_arguments(arguments)
    inputs = {'input': args.input, 'config': args.config, 'checkpoint': args.checkpoint}
    try:
        for written in (args.output, Path(args.output).with_suffix('.json')):
            refuse_overwriting(written, **inputs)
        model = load_model(args.config, args.checkpoint, args.device)
        if not isinstance(model, SipMaskVIS):
            raise ValueError(f'{type(model).__name__} follows no objects: use tools/predict.py')
        run = predict_video(
            model,
            args.input,
            args.output,
            args.score,
            rate=args.fps,
            skip_unreadable=args.skip_unreadable,
            video_id=args.video_id,
        )
    except EXPECTED_ERRORS as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(run.summary())
    return 0


if __name__ == '__main__':
    sys.exit(main())
