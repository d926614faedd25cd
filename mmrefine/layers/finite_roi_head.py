"""Errors instead of images without objects where a two-stage detector computes NaN."""

from typing import Any

from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList
from torch import Tensor

from .checks import require_finite

BOX_OUTPUTS = ('cls_score', 'bbox_pred', 'decoded_bboxes')  # the last of query-based heads


class FiniteRoIHead:
    """What goes before a stock RoI head: thresholds drop NaN scores and boxes without a word, so
    prediction checks the features, the proposals and the outputs of every box head."""

    training: bool

    def _bbox_forward(self, *args: Any, **kwargs: Any) -> dict:
        results = super()._bbox_forward(*args, **kwargs)  # type: ignore[misc]
        if not self.training:
            values = (results.get(name) for name in BOX_OUTPUTS)
            require_finite('outputs of the box head', *(v for v in values if v is not None))
        return results

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Boxes and masks; arguments as in the stock RoI head.

        Raises:
            FloatingPointError: A value is not finite; it says which.
        """
        # one check, since a GPU is waited for at each
        values = [get_box_tensor(results.bboxes) for results in rpn_results_list]
        values += [results.scores for results in rpn_results_list if 'scores' in results]
        require_finite('feature maps or proposals', *x, *values)
        return super().predict(x, rpn_results_list, batch_data_samples, rescale)  # type: ignore[misc]
