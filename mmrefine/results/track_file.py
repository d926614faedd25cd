"""Tracks of one video as a YouTube-VIS result file, written without holding the masks."""

import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from types import TracebackType
from typing import IO

from mmengine.structures import InstanceData

from .files import atomic_file


class TrackFile:
    """Collects the objects of every frame and writes them track by track.

    Masks wait in a temporary file beside the result; memory holds a few numbers per object and
    frame. Score and category of a track are the mean over its frames and the most frequent label
    (the lower of equals). Use as a context manager; the result appears when the block ends without
    an error.

    Args:
        path: Result file.
        video_id: Id the entries carry.
        category_ids: Category id by label; label + 1 by default, as in YouTube-VIS.
    """

    def __init__(
        self, path: str | Path, video_id: int = 1, category_ids: list[int] | None = None
    ) -> None:
        self.path = Path(path)
        self.video_id = video_id
        self.category_ids = category_ids
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
                    self._write(masks)
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
            self._masks.write(json.dumps(entry).encode('ascii') + b'\n')

    def _write(self, masks: IO[bytes]) -> None:
        with atomic_file(self.path) as file:
            file.write('[')
            for at, parts in enumerate(self._tracks[track] for track in sorted(self._tracks)):
                labels = Counter(part[1] for part in parts)
                label = min(labels, key=lambda one: (-labels[one], one))
                category = label + 1 if self.category_ids is None else self.category_ids[label]
                score = sum(part[2] for part in parts) / len(parts)
                file.write(',\n' if at else '\n')
                head = {'video_id': self.video_id, 'category_id': category, 'score': score}
                file.write(json.dumps(head)[:-1] + ', "segmentations": [')
                positions = {part[0]: part[3] for part in parts}
                for number in range(self.frames):
                    file.write(', ' if number else '')
                    if number not in positions:
                        file.write('null')
                        continue
                    masks.seek(positions[number])
                    file.write(masks.readline().decode('ascii').rstrip('\n'))
                file.write(']}')
            file.write('\n]\n')
