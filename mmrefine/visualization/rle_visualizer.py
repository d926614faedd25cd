"""MMDetection's visualizer for results whose masks are RLE or carry boundary confidences."""

from copy import copy

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from mmrefine.masks import to_dense
from mmrefine.results.predictions import to_numpy

from .confidence import confidence_colours, draw_boundary_confidence


@VISUALIZERS.register_module()
class RLELocalVisualizer(DetLocalVisualizer):
    """``DetLocalVisualizer`` that also draws masks given as a list of RLEs.

    In a config: ``visualizer = dict(type='RLELocalVisualizer')``. Where instances have
    ``boundary_confidences`` (Tensor[N]), the boundary bands of their masks are coloured by them,
    red to green, and the number stands at the lower left corner of the box; ``boundary_maps``
    (N Tensor[S, S]) colour the bands pixel by pixel.
    """

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        if isinstance(instances.get('masks'), list):
            instances = copy(instances)
            instances.masks = to_dense(instances.masks, image.shape[:2])
        drawn = super()._draw_instances(image, instances, classes, palette)
        if 'boundary_confidences' not in instances or 'masks' not in instances:
            return drawn
        return self._draw_confidences(drawn, instances)

    def _draw_confidences(self, image: np.ndarray, instances: InstanceData) -> np.ndarray:
        confidences = np.asarray(instances.boundary_confidences)
        maps = instances.get('boundary_maps')
        boxes = np.asarray(instances.bboxes)
        image = draw_boundary_confidence(
            image,
            np.asarray(instances.masks),
            confidences,
            boxes,
            None if maps is None else [to_numpy(m) for m in maps],  # a list stays on its device
        )
        self.set_image(image)
        for box, confidence, colour in zip(boxes, confidences, confidence_colours(confidences)):
            self.draw_texts(
                f'edge {100 * confidence:.1f}',
                np.array([box[0], box[3]]) + [self.line_width, -self.line_width],
                colors=tuple(int(c) for c in colour),
                font_sizes=8,
                vertical_alignments='bottom',
                bboxes=[dict(facecolor='black', alpha=0.8, pad=0.7, edgecolor='none')],
            )
        return self.get_image()
