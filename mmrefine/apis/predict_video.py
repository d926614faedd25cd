"""Masks on videos: tracks of SipMask-VIS, or the objects of every frame by any other model."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from mmrefine.results.files import refuse_overwriting
from mmrefine.results.progress import progress_bar
from mmrefine.results.track_file import TrackFile
from mmrefine.sipmask.video.detector import SipMaskVIS

from .predictor import Predictor, draw_prediction, labels_of, require_score
from .video import VideoSegmenter, draw_tracks
from .video_files import Clip, FrameWriter


@dataclass
class VideoRun:
    """What ``predict_video`` found and wrote."""

    target: Path  # the video
    frames: int = 0  # number of frames, lost ones too
    # class -> objects seen; of a model without tracking, over all frames
    objects: Counter = field(default_factory=Counter)
    tracks: Path | None = None  # their file, of a model that follows objects
    # sentences on frames that are missing and on the codec, see ``Clip`` and ``FrameWriter``
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A line with frames, objects and files, and one for every note."""
        listed = ', '.join(f'{count} {name}' for name, count in self.objects.most_common(12))
        kind = 'objects' if self.tracks else 'objects in all frames'
        line = f'{self.target}: {self.frames} frames, {kind}: {listed or "none"}'
        line += f'; tracks: {self.tracks}' if self.tracks else ''
        return '\n'.join([line, *self.notes])


def predict_video(
    model: nn.Module,
    video: str | Path,
    target: str | Path,
    score: float = 0.3,
    classes: Sequence[str] | None = None,
    show_progress: bool = True,
    rate: float | None = None,
    skip_unreadable: bool = False,
    video_id: int = 1,
) -> VideoRun:
    """Draw the objects of a video, frame by frame, in constant memory.

    With a ``SipMaskVIS`` objects keep number and colour, and their tracks are written beside the
    video (YouTube-VIS format).

    Args:
        model: From ``load_model``.
        video: A file, or a folder of frames.
        target: A video file or folder, see ``FrameWriter``.
        score: Objects below it are not drawn.
        classes: Names of the classes to draw; None draws all.
        show_progress: Draw a progress bar.
        rate: Frames per second of the result; by default those of the video.
        skip_unreadable: Go on where a picture of a folder cannot be read.
        video_id: Id of the video in the file of tracks.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: The video cannot be read or would be overwritten, a class is unknown, or
            ``score`` or ``rate`` is none.
    """
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f'the result needs more than 0 frames per second, got {rate:g}')
    refuse_overwriting(target, video=video)
    require_score(score)
    run = VideoRun(Path(target))
    clip = Clip(video, skip_unreadable, run.notes.append)
    with (
        closing(FrameWriter(target, rate or clip.rate)) as writer,
        progress_bar(Path(video).name, clip.length or None, show_progress) as step,
    ):
        if writer.note:
            run.notes.append(writer.note)
        if isinstance(model, SipMaskVIS):
            run.tracks = writer.results_path
            tracks = TrackFile(run.tracks, video_id)
            drawn = _tracked(VideoSegmenter(model), clip, tracks, score, classes, run)
        else:
            drawn = _detected(Predictor(model, score, classes), clip, run)
        for picture in drawn:
            if picture is None:
                run.notes.append(f'frame {run.frames} cannot be read: left out')
            else:
                writer.write(run.frames, picture)
            run.frames += 1
            step()
    return run


def _tracked(
    segmenter: VideoSegmenter,
    frames: Iterable[np.ndarray | None],
    file: TrackFile,
    score: float,
    classes: Sequence[str] | None,
    run: VideoRun,
) -> Iterator[np.ndarray | None]:
    """Draw the tracks of every frame, None for a lost one; they are written at the end."""
    names = segmenter.classes
    wanted = None if classes is None else labels_of(classes, names)
    seen: dict[int, str] = {}
    with file:
        for image in frames:
            objects = segmenter(image)
            file.add(objects)
            if image is None or objects is None:
                yield None
                continue
            shown = objects[objects.scores >= score]
            if wanted is not None:
                shown = shown[np.isin(shown.labels.numpy(), wanted)]
            for track, label in zip(shown.instances_id.tolist(), shown.labels.tolist()):
                seen.setdefault(track, names[label])
            yield draw_tracks(image, shown, names)
    run.objects.update(seen.values())


def _detected(
    predictor: Predictor, frames: Iterable[np.ndarray | None], run: VideoRun
) -> Iterator[np.ndarray | None]:
    """Draw the objects of every frame, None for a lost one."""
    for image in frames:
        if image is None:
            yield None
            continue
        (prediction,) = predictor([image])
        run.objects.update(predictor.classes[label] for label in prediction.labels.tolist())
        yield draw_prediction(image, prediction, predictor.classes)
