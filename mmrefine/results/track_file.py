"""Tracks of one video as a YouTube-VIS result file; memory holds the masks of one track."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from mmengine.structures import InstanceData

from .ground_truth import Id
from .json_files import json_text, write_json_list


class TrackFile:
    """Collects the objects of every frame and writes them track by track.

    Masks wait in a temporary file beside the result; memory holds a few numbers per object and
    frame. Entries are those of ``track_entry``, category ids the labels + 1. Use as a context
    manager; the result appears when the block ends without an error.

    Args:
        path: Result file.
        video_id: Id the entries carry.
    """

    def __init__(self, path: str | Path, video_id: int = 1) -> None:
        self.path = Path(path)
        self.video_id = video_id
        self.frames = 0
        # Track -> (frame, label, score, position of the mask in the temporary file).
        self._tracks: dict[int, list[tuple[int, int, float, int]]] = defaultdict(list)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._masks = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115

    def __enter__(self) -> 'TrackFile':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the result unless the block failed."""
        with self._masks:
            if kind is None:
                write_json_list(self.path, self._entries())

    def add(self, objects: InstanceData | None) -> None:
        """Take the objects of the next frame: ``instances_id``, ``labels``, ``scores``, RLE
        ``masks``; None for a frame that could not be read."""
        number, self.frames = self.frames, self.frames + 1
        if objects is None:
            return
        for track, label, score, mask in zip(
            objects.instances_id.tolist(),
            objects.labels.tolist(),
            objects.scores.tolist(),
            objects.masks,
        ):
            counts = mask['counts']
            entry = {
                'size': [int(side) for side in mask['size']],
                'counts': counts.decode('ascii') if isinstance(counts, bytes) else counts,
            }
            self._tracks[track].append((number, label, score, self._masks.tell()))
            self._masks.write(json_text(entry).encode('ascii') + b'\n')

    def _entries(self) -> Iterator[dict[str, Any]]:
        for _, parts in sorted(self._tracks.items()):
            seen = {}
            for number, label, score, position in parts:
                self._masks.seek(position)
                seen[number] = label, score, json.loads(self._masks.readline())
            categories = range(1, 2 + max(label for label, *_ in seen.values()))
            yield track_entry(self.video_id, categories, seen, self.frames)


def track_entry(
    video: Id, categories: Sequence[Id], seen: Mapping[int, tuple[int, float, dict]], length: int
) -> dict[str, Any]:
    """The YouTube-VIS entry of a track in a video of ``length`` frames.

    ``seen`` holds label, score and RLE (counts as text) by frame number. The most frequent label
    counts, the lower of equals, and the mean of the scores.
    """
    labels, scores, _ = zip(*seen.values())
    masks: list[dict | None] = [None] * length
    for number, (_, _, rle) in seen.items():
        masks[number] = rle
    return {
        'video_id': video,
        'category_id': categories[int(np.bincount(labels).argmax())],
        'score': float(np.mean(scores)),
        'segmentations': masks,
    }
