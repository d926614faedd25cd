"""RefineMask heads on the boxes of Dynamic R-CNN, Hybrid Task Cascade and Sparse R-CNN / QueryInst.

Boxes are trained and predicted by the stock RoI heads; the one mask head learns on the boxes of the
last stage and segments the final ones, as in ``roi_head``.

Shapes: N RoIs of the batch.
"""

from mmdet.models.roi_heads import DynamicRoIHead, HybridTaskCascadeRoIHead, SparseRoIHead
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor

from .roi_head import CascadeRefineRoIHead, RefineRoIHead


@MODELS.register_module()
class DynamicRefineRoIHead(RefineRoIHead, DynamicRoIHead):
    """``DynamicRoIHead`` (Dynamic R-CNN) with a RefineMask head; arguments as in both bases."""


@MODELS.register_module()
class HTCRefineRoIHead(CascadeRefineRoIHead, HybridTaskCascadeRoIHead):
    """``HybridTaskCascadeRoIHead`` with one RefineMask head on the boxes of the last stage.

    With ``interleaved=True`` the mask head learns on boxes that the last stage has refined, which
    are those of the test. The semantic branch serves the boxes only, whatever ``semantic_fusion``
    says of masks, since RefineMask brings a semantic path of its own; ``mask_info_flow`` has no
    meaning for a single mask head.
    """

    def _mask_forward(  # type: ignore[override]
        self,
        stage: int,
        x: tuple[Tensor, ...],
        rois: Tensor,
        semantic_feat: Tensor | None = None,
        training: bool = True,
    ) -> dict:
        results = super()._mask_forward(stage, x, rois)
        # outside of training the caller averages a list of predictions
        return results if training else dict(results, mask_preds=[results['mask_preds']])

    def mask_loss(  # type: ignore[override]
        self,
        stage: int,
        x: tuple[Tensor, ...],
        sampling_results: list,
        batch_gt_instances: InstanceList,
        semantic_feat: Tensor | None = None,
    ) -> dict:
        """Losses of the mask branch at the last stage, nothing before."""
        return super().mask_loss(stage, x, sampling_results, batch_gt_instances)

    def predict_mask(  # type: ignore[override]
        self,
        x: tuple[Tensor, ...],
        semantic_heat: Tensor | None,
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """As in ``FineMaskMixin``; the semantic features are not used."""
        return super().predict_mask(x, batch_img_metas, results_list, rescale)


@MODELS.register_module()
class SparseRefineRoIHead(CascadeRefineRoIHead, SparseRoIHead):
    """``SparseRoIHead`` (Sparse R-CNN, QueryInst) with one RefineMask head on the final boxes.

    QueryInst's own mask heads, whose filters come from the queries, are replaced: the class of a
    box, not its query, tells the RefineMask head what to segment.
    """

    def mask_loss(  # type: ignore[override]
        self,
        stage: int,
        x: tuple[Tensor, ...],
        bbox_results: dict,
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigType,
    ) -> dict:
        """Losses of the boxes that the last stage matched, nothing before."""
        sampling_results = bbox_results['sampling_results']
        return super().mask_loss(stage, x, sampling_results, batch_gt_instances)

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """As in ``FineMaskMixin``, without the queries in the result."""
        for results in results_list:
            for query_field in ('proposals', 'topk_inds', 'attn_feats'):
                results.pop(query_field, None)
        return super().predict_mask(x, batch_img_metas, results_list, rescale)
