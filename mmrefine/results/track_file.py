"""Tracks of one video as a YouTube-VIS result file; memory holds the masks of one track."""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mmengine.structures import InstanceData

from .json_files import json_text, write_json_list


class TrackFile:
    """Collects the objects of every frame and writes them track by track.

    Masks wait in a temporary file beside the result; memory holds a few numbers per object and
    frame. The score of a track is the mean over its frames, its category the most frequent label
    (the lower of equals) + 1, as in YouTube-VIS. Use as a context manager; the result appears when
    the block ends without an error.

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
        self._masks: IO[bytes] | None = None

    def __enter__(self) -> 'TrackFile':
        """Open the temporary file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._masks = tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the result unless the block failed."""
        if self._masks is not None:
            with self._masks as masks:
                if kind is None:
                    write_json_list(self.path, self._entries(masks))
            self._masks = None

    def add(self, objects: InstanceData | None) -> None:
        """Take the objects of the next frame: ``instances_id``, ``labels``, ``scores``, RLE
        ``masks``; None for a frame that could not be read."""
        if self._masks is None:
            raise ValueError('open the track file first: with TrackFile(path) as tracks: ...')
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

    def _entries(self, masks: IO[bytes]) -> Iterator[dict[str, Any]]:
        for _, parts in sorted(self._tracks.items()):
            labels = Counter(label for _, label, _, _ in parts)
            label = min(labels, key=lambda one: (-labels[one], one))
            segmentations: list[Any] = [None] * self.frames
            for number, _, _, position in parts:
                masks.seek(position)
                segmentations[number] = json.loads(masks.readline())
            yield {
                'video_id': self.video_id,
                'category_id': label + 1,
                'score': sum(score for _, _, score, _ in parts) / len(parts),
                'segmentations': segmentations,
            }
