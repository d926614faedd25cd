"""Segment and track the objects of a video file or a folder of frames.

Example:
    python tools/track_video.py clip.mp4 tracked.mp4 \
        configs/sipmask/sipmask-vis_r50-caffe_fpn_gn_1x_youtubevis2019.py weights.pth
"""

import argparse
import sys
from contextlib import closing

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.video import VideoSegmenter, draw_tracks
from mmrefine.apis.video_files import VIDEO_SUFFIXES, Clip, FrameWriter
from mmrefine.results.files import refuse_overwriting
from mmrefine.results.progress import progress_bar
from mmrefine.results.track_file import TrackFile


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('input', help='video file, or folder of frames')
    parser.add_argument('output', help=f'video file ({", ".join(VIDEO_SUFFIXES)}) or new folder')
    parser.add_argument('config', help='config of a SipMask-VIS model')
    parser.add_argument('checkpoint', help="its weights; the authors' files load as they are")
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--score', type=float, default=0.2, help='draw objects above this score')
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
        refuse_overwriting(args.output, **inputs)
        clip = Clip(args.input, args.skip_unreadable, warn)
        writer = FrameWriter(args.output, args.fps or clip.rate)
        refuse_overwriting(writer.results_path, **inputs)
        segmenter = VideoSegmenter.from_files(args.config, args.checkpoint, args.device)
        count, tracks = run(clip, writer, segmenter, args.score, args.video_id)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{count} frames, {tracks} objects; tracks: {writer.results_path}')
    if writer.note:
        print(writer.note)
    return 0


def warn(sentence: str) -> None:
    """Print a warning."""
    print(f'warning: {sentence}', file=sys.stderr)


def run(
    clip: Clip, writer: FrameWriter, segmenter: VideoSegmenter, score: float, video_id: int
) -> tuple[int, int]:
    """Track a clip, write frames and tracks; returns the number of frames and of objects."""
    seen: set[int] = set()
    with (
        closing(writer),
        TrackFile(writer.results_path, video_id) as tracks,
        progress_bar('frames', clip.length or None) as step,
    ):
        for number, image in enumerate(clip):
            objects = segmenter(image)
            tracks.add(objects)
            if image is None or objects is None:
                print(f'frame {number} cannot be read: left out', file=sys.stderr)
            else:
                seen.update(objects.instances_id.tolist())
                shown = objects[objects.scores > score]
                writer.write(number, draw_tracks(image, shown, segmenter.classes))
            step()
    return tracks.frames, len(seen)


if __name__ == '__main__':
    sys.exit(main())
