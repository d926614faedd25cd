"""Run a model over an image list, image by image, and go on where an interrupted run stopped."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
from mmdet.apis import inference_detector

from mmrefine.results.files import file_digest, value_digest
from mmrefine.results.ground_truth import GroundTruth
from mmrefine.results.image_files import existing_files
from mmrefine.results.predictions import sample_entries
from mmrefine.results.progress import progress_bar
from mmrefine.results.resume_log import ResumeLog

from .class_names import class_names
from .load_model import load_model, read_config


def predict_images(
    config: str,
    checkpoint: str,
    images: Sequence[Mapping],
    image_root: str | Path,
    gt: GroundTruth,
    log_path: str | Path,
    device: str = 'cpu',
) -> Iterator[dict[str, Any]]:
    """Predict every image of a list, but those whose results an interrupted run has stored.

    Args:
        config: Config of the model.
        checkpoint: Its weights.
        images: Entries of an annotation file, with ``id`` and a name or address.
        image_root: Folder the names are relative to.
        gt: Sizes and categories.
        log_path: Where finished images are stored.
        device: E.g. ``'cuda:0'``.

    Yields:
        COCO result entries of all images, after the last one is finished.

    Raises:
        ValueError: An image is missing, the log belongs to another run, the weights to another
            model, or the classes of the model are not those of ``gt``.
    """
    files = existing_files(images, image_root)
    run = {
        'config': value_digest(read_config(config).to_dict()),
        'checkpoint': file_digest(checkpoint),
        'images': value_digest([(i, str(file.resolve())) for i, file in files.items()]),
        'categories': value_digest(list(gt.categories.items())),
    }
    with closing(ResumeLog(Path(log_path), run)) as log:
        done = log.done()
        todo = [(n, *pair) for n, pair in enumerate(files.items()) if n not in done]
        model = load_model(config, checkpoint, device) if todo else None
        categories = gt.categories_named(class_names(model)) if model is not None else []
        with progress_bar('images', len(todo)) as step:
            for number, image, file in todo:
                try:
                    found = inference_detector(model, str(file))
                except cv2.error as error:  # more pixels than OpenCV allows, say
                    raise ValueError(f'{file} cannot be read as a picture: {error}') from None
                sample = {**found.to_dict(), 'img_id': image}
                log.add(number, [(None, entry) for entry in sample_entries(sample, gt, categories)])
                step()
        yield from log.results()
