"""Masks on videos: tracks of SipMask-VIS, or the objects of every frame by any other model."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from mmrefine.results.progress import progress_bar
from mmrefine.results.track_file import TrackFile
from mmrefine.sipmask.video.detector import SipMaskVIS

from .class_names import class_names
from .predictor import Predictor, draw_prediction, labels_of
from .video import VideoSegmenter, draw_tracks
from .video_files import Clip, FrameWriter


@dataclass
class VideoRun:
    """What ``predict_video`` found and wrote."""

    target: Path  # the video
    frames: int = 0  # number of frames
    # class -> objects seen; of a model without tracking, over all frames
    objects: Counter = field(default_factory=Counter)
    tracked: bool = False  # whether objects keep their number through the video
    note: str = ''  # a sentence on the codec, see ``FrameWriter``; else empty

    def summary(self) -> str:
        """One line: frames, objects, file; and the note, if there is one."""
        listed = ', '.join(f'{count} {name}' for name, count in self.objects.most_common(12))
        kind = 'objects' if self.tracked else 'objects in all frames'
        line = f'{self.target}: {self.frames} frames, {kind}: {listed or "none"}'
        return '\n'.join(filter(None, [line, self.note]))


def predict_video(
    model: nn.Module,
    video: str | Path,
    target: str | Path,
    score: float = 0.3,
    classes: Sequence[str] | None = None,
    show_progress: bool = True,
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

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: The video cannot be read, or a class is unknown.
    """
    clip = Clip(video)
    writer = FrameWriter(target, clip.rate)
    try:
        with progress_bar(Path(video).name, clip.length or None, show_progress) as step:
            if isinstance(model, SipMaskVIS):
                return _track(model, clip, writer, score, classes, step)
            return _detect(Predictor(model, score, classes), clip, writer, step)
    finally:
        writer.close()


def _frames(clip: Clip) -> Iterator[np.ndarray]:
    """Frames of a clip; unreadable ones raise, as the clip is asked not to skip them."""
    return (image for image in clip if image is not None)


def _track(
    model: SipMaskVIS,
    clip: Clip,
    writer: FrameWriter,
    score: float,
    classes: Sequence[str] | None,
    step: Callable[[], None],
) -> VideoRun:
    names = class_names(model)
    segmenter = VideoSegmenter(model, model.cfg.test_dataloader.dataset.pipeline, names)
    wanted = None if classes is None else labels_of(classes, names)
    run = VideoRun(writer.path, tracked=True, note=writer.note)
    seen: dict[int, str] = {}
    with TrackFile(writer.results_path) as tracks:
        for image in _frames(clip):
            objects = segmenter(image)
            tracks.add(objects)
            shown = objects[objects.scores >= score]
            if wanted is not None:
                shown = shown[np.isin(shown.labels.numpy(), wanted)]
            for track, label in zip(shown.instances_id.tolist(), shown.labels.tolist()):
                seen.setdefault(track, names[label])
            writer.write(run.frames, draw_tracks(image, shown, names))
            run.frames += 1
            step()
    run.objects.update(seen.values())
    return run


def _detect(
    predictor: Predictor, clip: Clip, writer: FrameWriter, step: Callable[[], None]
) -> VideoRun:
    run = VideoRun(writer.path, note=writer.note)
    for image in _frames(clip):
        (prediction,) = predictor([image])
        writer.write(run.frames, draw_prediction(image, prediction, predictor.classes))
        run.objects.update(predictor.classes[label] for label in prediction.labels.tolist())
        run.frames += 1
        step()
    return run
