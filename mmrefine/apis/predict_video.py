"""Masks on videos: tracks of SipMask-VIS, or the objects of every frame by any other model."""

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
        ValueError: The video cannot be read or would be overwritten, or a class is unknown.
    """
    refuse_overwriting(target, video=video)
    clip = Clip(video)
    frames = (image for image in clip if image is not None)  # unreadable ones raise
    with (
        closing(FrameWriter(target, clip.rate)) as writer,
        progress_bar(Path(video).name, clip.length or None, show_progress) as step,
    ):
        run = VideoRun(writer.path, note=writer.note)
        if isinstance(model, SipMaskVIS):
            drawn = _tracked(model, frames, writer.results_path, score, classes, run)
        else:
            drawn = _detected(Predictor(model, score, classes), frames, run)
        for picture in drawn:
            writer.write(run.frames, picture)
            run.frames += 1
            step()
    return run


def _tracked(
    model: SipMaskVIS,
    frames: Iterable[np.ndarray],
    results: Path,
    score: float,
    classes: Sequence[str] | None,
    run: VideoRun,
) -> Iterator[np.ndarray]:
    """Draw the tracks of every frame; they are written to ``results`` at the end."""
    run.tracked = True
    names = class_names(model)
    segmenter = VideoSegmenter(model, model.cfg.test_dataloader.dataset.pipeline, names)
    wanted = None if classes is None else labels_of(classes, names)
    seen: dict[int, str] = {}
    with TrackFile(results) as tracks:
        for image in frames:
            objects = segmenter(image)
            tracks.add(objects)
            shown = objects[objects.scores >= score]
            if wanted is not None:
                shown = shown[np.isin(shown.labels.numpy(), wanted)]
            for track, label in zip(shown.instances_id.tolist(), shown.labels.tolist()):
                seen.setdefault(track, names[label])
            yield draw_tracks(image, shown, names)
    run.objects.update(seen.values())


def _detected(
    predictor: Predictor, frames: Iterable[np.ndarray], run: VideoRun
) -> Iterator[np.ndarray]:
    """Draw the objects of every frame."""
    for image in frames:
        (prediction,) = predictor([image])
        run.objects.update(predictor.classes[label] for label in prediction.labels.tolist())
        yield draw_prediction(image, prediction, predictor.classes)
