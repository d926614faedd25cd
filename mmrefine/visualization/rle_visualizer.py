"""MMDetection's visualizer for results whose masks are RLE."""

from copy import copy

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from ..masks import to_dense


@VISUALIZERS.register_module()
class RLELocalVisualizer(DetLocalVisualizer):
    """``DetLocalVisualizer`` that also draws masks given as a list of RLEs.

    In a config: ``visualizer = dict(type='RLELocalVisualizer')``.
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
        return super()._draw_instances(image, instances, classes, palette)
