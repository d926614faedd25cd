"""Masks of single pictures by any MMDetection model that makes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from torch import nn

from mmrefine.results.predictions import mask_scores, read_instances
from mmrefine.sharpmask.detector import DeepMask
from mmrefine.sipmask.video.detector import SipMaskVIS
from mmrefine.visualization.overlays import draw_instances, neighbour_colours

from .class_names import class_names
from .picture_pipeline import PicturePipeline
from .tta import TTA_CFG, ViewsTTAModel
from .views import View, checked_views

Item = TypeVar('Item')


@dataclass
class Prediction:
    """Objects of one picture, best score first.

    Attributes:
        size: Height and width of the picture in pixels.
        boxes: float64 array[N, 4], x, y, width, height in pixels of the picture.
        scores: float64 array[N].
        labels: int64 array[N], places in ``classes`` of the predictor.
        rles: N COCO RLEs with counts as bytes.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    rles: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.scores)


class Predictor:
    """Run a model over pictures.

    The model is set to give RLE where it can, so that memory follows the boxes of the objects and
    not their number times the picture.

    Args:
        model: From ``load_model`` or ``init_detector``; its config says how pictures are prepared.
        score: Objects below it are left out.
        classes: Names of the classes to keep; None keeps all.
        batch_size: Pictures at once.
        views: How to look at a picture; None: as the config's pipeline prepares it.
        nms: How boxes of several views are merged, see ``ViewsTTAModel``.

    Attributes:
        classes: Names of all classes of the model, in the order of the labels.
        reads_arrays, read: See ``PicturePipeline``.

    Raises:
        ValueError: A name is no class of the model, the model makes no masks of pictures, or
            ``score`` or ``batch_size`` makes no sense.
    """

    def __init__(
        self,
        model: nn.Module,
        score: float = 0.3,
        classes: Sequence[str] | None = None,
        batch_size: int = 1,
        views: Sequence[View] | None = None,
        nms: Mapping[str, Any] = TTA_CFG['nms'],
    ) -> None:
        if isinstance(model, SipMaskVIS):
            raise ValueError('SipMask-VIS follows objects through a video: give it one')
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        require_score(score)
        self.model = model.eval()
        self.score = score
        self.batch_size = batch_size
        # proposals know no classes
        self.classes = ('object',) if isinstance(model, DeepMask) else class_names(model)
        self.kept = None if classes is None else labels_of(classes, self.classes)
        init_default_scope(model.cfg.get('default_scope', 'mmdet'))
        views = [View()] if views is None else checked_views(views)
        self._pipelines = [PicturePipeline(model.cfg, view) for view in views]
        self.reads_arrays, self.read = self._pipelines[0].reads_arrays, self._pipelines[0].read
        limit = model.cfg.get('model', {}).get('test_cfg') or {}
        limit = limit.get('rcnn') or limit
        config = dict(nms=dict(nms), max_per_img=limit.get('max_per_img', TTA_CFG['max_per_img']))
        self._tester = ViewsTTAModel(module=self.model, tta_cfg=config)

    def __call__(self, pictures: Iterable[Path | np.ndarray]) -> Iterator[Prediction]:
        """Predict pictures one batch after the other.

        Args:
            pictures: Files, or uint8[H, W, 3] in BGR.

        Yields:
            One prediction a picture.

        Raises:
            ValueError: The model gives no masks, or values that are no numbers.
        """
        for batch in batches(pictures, self.batch_size):
            views = [[prepare(picture) for picture in batch] for prepare in self._pipelines]
            inputs = [[one['inputs'] for one in view] for view in views]
            samples = [[one['data_samples'] for one in view] for view in views]
            found = self._tester.test_step({'inputs': inputs, 'data_samples': samples})
            for picture, sample in zip(batch, found):
                name = 'the picture' if isinstance(picture, np.ndarray) else str(picture)
                yield self._prediction(sample, name)

    def _prediction(self, sample: DetDataSample, name: str) -> Prediction:
        """The objects of a sample that are kept; errors begin with ``name``."""
        instances = sample.get('pred_instances', {})  # panoptic models give other maps alone
        if 'masks' not in instances:
            raise ValueError(
                f'{type(self.model).__name__} gives no masks of objects: take the config of a '
                'model with a mask head'
            )
        instances = instances[instances.scores >= self.score]
        size = tuple(sample.ori_shape[:2])
        values = read_instances(instances, size, name)
        scores = mask_scores(values)
        kept = scores >= self.score
        if self.kept is not None:
            kept &= np.isin(values['labels'], self.kept)
        order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind='stable')]
        return Prediction(
            size,
            values['boxes'][order],
            scores[order],
            values['labels'][order],
            [{'size': list(size), 'counts': values['counts'][i]} for i in order.tolist()],
        )


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split items into lists of ``size``, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def require_score(score: float) -> None:
    """Raise ValueError for a threshold that no score can reach, or that is none."""
    if not 0 <= score <= 1:
        raise ValueError(f'score must lie between 0 and 1, got {score}')


def labels_of(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Labels of some of a model's classes.

    Raises:
        ValueError: A name is no class of the model.
    """
    for name in names:
        if name not in classes:
            raise ValueError(f'the model has no class {name!r}; it has {", ".join(classes)}')
    return [classes.index(name) for name in names]


def draw_prediction(
    pixels: np.ndarray, prediction: Prediction, classes: Sequence[str]
) -> np.ndarray:
    """Draw the objects of a picture, each in a colour of its own, the best on top.

    Args:
        pixels: uint8[H, W, 3] in BGR.
        prediction: Its objects.
        classes: Names by label.
    """
    order = np.argsort(prediction.scores, kind='stable')
    texts = [f'{classes[prediction.labels[i]]} {prediction.scores[i]:.2f}' for i in order]
    colours = neighbour_colours(prediction.boxes)
    colours = [colours[i][::-1] for i in order]
    return draw_instances(pixels, [prediction.rles[i] for i in order], texts, colours)
