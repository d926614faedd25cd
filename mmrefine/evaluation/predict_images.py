"""Run a model over an image list, image by image, and go on where an interrupted run stopped."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmdet.apis import inference_detector

from mmrefine.load_model import load_model

from .dumps import sample_entries
from .ground_truth import GroundTruth, Id
from .progress import progress_bar
from .submission import json_text


class ResultLog:
    """A text file with one line an image; a line that was not finished is forgotten.

    Args:
        path: The file.
        run: What the results depend on; a file of another run is not continued.

    Raises:
        ValueError: The file belongs to another run.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.done: set[Id] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._read(dict(run))
        if kept:
            os.truncate(path, kept)
        else:
            path.unlink(missing_ok=True)
            self._write(dict(run))

    def _read(self, run: dict) -> int:
        """Collect the finished images; return where the last whole line ends."""
        if not self.path.exists():
            return 0
        end = 0
        with open(self.path, 'rb') as file:
            for number, line in enumerate(file):
                if not line.endswith(b'\n'):
                    break
                record = json.loads(line)
                if number == 0 and record != run:
                    raise ValueError(
                        f'{self.path} was begun by another run ({record}): remove it to start over'
                    )
                if number:
                    self.done.add(record['image_id'])
                end += len(line)
        return end

    def add(self, image: Id, entries: list[dict]) -> None:
        """Store the results of an image for good."""
        self._write({'image_id': image, 'entries': entries})
        self.done.add(image)

    def _write(self, record: Any) -> None:
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(json_text(record) + '\n')
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> Iterator[dict]:
        """All stored result entries."""
        with open(self.path, encoding='utf-8') as file:
            next(file)
            for line in file:
                yield from json.loads(line)['entries']


def predict_images(
    config: str,
    checkpoint: str,
    images: list[Mapping],
    image_root: str | Path,
    gt: GroundTruth,
    log_path: str | Path,
    device: str = 'cpu',
    show_progress: bool = True,
) -> ResultLog:
    """Predict every image of a list that has no stored result yet.

    Args:
        config: Config of the model.
        checkpoint: Its weights.
        images: ``dict(id, file_name)``.
        image_root: Folder the names are relative to.
        gt: Sizes and categories.
        log_path: Where finished images are stored.
        device: E.g. ``'cuda:0'``.
        show_progress: Draw a progress bar.

    Returns:
        The complete log.

    Raises:
        ValueError: An image is missing, the log belongs to another run, or the weights to another
            model.
    """
    missing = [i for i in images if not (Path(image_root) / i['file_name']).is_file()]
    if missing:
        name = Path(image_root) / missing[0]['file_name']
        raise ValueError(
            f'{len(missing)} of {len(images)} images do not exist, the first is {name}'
        )
    run = {'config': _digest(config), 'checkpoint': _digest(checkpoint), 'images': len(images)}
    log = ResultLog(Path(log_path), run)
    todo = [image for image in images if image['id'] not in log.done]
    if todo:
        model = load_model(config, checkpoint, device)
        categories = gt.categories_of(model.dataset_meta.get('classes') or ())
        with progress_bar('images', len(todo), show_progress) as step:
            for image in todo:
                found = inference_detector(model, str(Path(image_root) / image['file_name']))
                sample = {'img_id': image['id'], 'pred_instances': found.pred_instances}
                log.add(image['id'], list(sample_entries(sample, gt, categories)))
                step()
    return log


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
