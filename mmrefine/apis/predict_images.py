"""Run a model over an image list, image by image, and go on where an interrupted run stopped."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmdet.apis import inference_detector
from mmengine.config import Config

from mmrefine.results.coco_files import digest
from mmrefine.results.dumps import sample_entries
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.image_files import image_file
from mmrefine.results.progress import progress_bar
from mmrefine.submission.formats import json_text

from .class_names import class_names
from .load_model import load_model


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
        images: Entries of an annotation file, with ``id`` and a name or address.
        image_root: Folder the names are relative to.
        gt: Sizes and categories.
        log_path: Where finished images are stored.
        device: E.g. ``'cuda:0'``.
        show_progress: Draw a progress bar.

    Returns:
        The complete log.

    Raises:
        ValueError: An image is missing, the log belongs to another run, the weights to another
            model, or the classes of the model are not those of ``gt``.
    """
    files = {image['id']: Path(image_root) / image_file(image) for image in images}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(images)} images do not exist, the first is {missing[0]}'
        )
    run = {
        'config': _text_digest(Config.fromfile(config).to_dict()),
        'checkpoint': digest(checkpoint),
        'images': _text_digest([(i, str(file.resolve())) for i, file in files.items()]),
        'categories': _text_digest(list(gt.categories.items())),
    }
    log = ResultLog(Path(log_path), run)
    todo = {image: file for image, file in files.items() if image not in log.done}
    if todo:
        model = load_model(config, checkpoint, device)
        categories = gt.categories_named(class_names(model))
        with progress_bar('images', len(todo), show_progress) as step:
            for image, file in todo.items():
                found = inference_detector(model, str(file))
                sample = {'img_id': image, 'pred_instances': found.pred_instances}
                log.add(image, list(sample_entries(sample, gt, categories)))
                step()
    return log


def _text_digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
