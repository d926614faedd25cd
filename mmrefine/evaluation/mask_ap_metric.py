"""Box, mask and boundary AP as one evaluator for configs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path

from mmrefine.results.detections import (
    Detections,
    write_coco_results,
    write_coco_truth,
)
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.json_files import load_json
from mmrefine.results.log import log_warning
from mmrefine.results.plain_dataset import image_truth, truth_of_images
from mmrefine.results.predictions import first_of_each, mask_scores, read_instances

from .protocols import IOU_TYPES, make_rules, read_truth, require_objects
from .scoring_metric import ScoringMetric, log_written, require_same


@METRICS.register_module()
class MaskAPMetric(ScoringMetric):
    """COCO and LVIS average precision of boxes, masks and mask boundaries.

    Replaces ``CocoMetric`` or ``LVISMetric`` in any MMDetection config; predicted masks
    may be dense or RLE. Nothing dense is kept. Every image counts once, whatever the number of
    ranks.

    Args:
        ann_file: COCO or LVIS json; None takes the annotations of the data samples instead.
        metric: One or several of ``'bbox'``, ``'segm'``, ``'boundary'``.
        protocol: ``'coco'``; ``'lvis'`` (federated, 300 detections an image); ``'lvis-fixed'``
            (10,000 a category); ``'coco-on-lvis'`` (AP*: ``ann_file`` is an LVIS file, the model
            predicts COCO classes).
        classwise: Report and print the AP of every category.
        max_dets: Caps on the detections of an image and category, default ``(1, 10, 100)``; one
            number N stands for ``(1, 10, N)``. For ``'lvis'``: of an image. For ``'lvis-fixed'``:
            of a category.
        areas: Name -> ``(least, most)`` square pixels, default COCO's s, m, l.
        iou_thrs: Default .5, .55, ..., .95.
        dilation_ratio: Width of the boundary band over the image diagonal (Cheng et al.: 0.02).
        backend: ``'pycocotools'``, or ``'vernier'`` if installed (same numbers, much faster).
        box_areas: Small, medium and large masks by the area of the box instead of the mask.
        format_only: Write the result files and compute nothing.
        outfile_prefix: Write ``PREFIX.bbox.json`` and ``PREFIX.segm.json``, without ``ann_file``
            also the annotations, ``PREFIX.gt.json``.
        proposal_nums: Stock configs' name of ``max_dets``.
        sort_categories: Number labels in the order of the category ids instead of the file, as
            ``Objects365V1Dataset`` does.
        metric_items: Report these numbers only, e.g. ``['mAP', 'mAP_50', 'AR@100']``.
        prefix: Default: ``'coco'``, ``'lvis'``, ``'lvis-fixed'`` or ``'coco-on-lvis'``.

    Results are named as in MMDetection, ``<metric>_mAP``, ``_mAP_50``, ``_mAP_75``, ``_mAP_s``,
    ``_mAP_m``, ``_mAP_l``, ``_AR@1``, ``_AR@10``, ``_AR@100``, ``_AR_s@100``, ...; by LVIS's rules
    ``<metric>_AP``, ``_AP50``, ``_APs``, ``_APr``, ``_APc``, ``_APf``, ``_AR@300``, ...;
    ``classwise`` adds ``<category>_precision`` (of boxes or masks, the later in ``metric``) and
    ``<metric>_AP/<category>``. They lie between 0 and 1; -1 stands for no ground truth.

    Raises:
        ValueError: An unknown value, a damaged annotation file, predictions that cannot be scored,
            images predicted that are not those of ``ann_file`` (AP* takes the images of both and
            logs how many are left out), or images of several data sets with equal ids.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = ('bbox', 'segm', 'boundary'),
        protocol: str = 'coco',
        classwise: bool = False,
        max_dets: int | Sequence[int] | None = None,
        areas: Mapping[str, Sequence[float]] | None = None,
        iou_thrs: float | Sequence[float] | None = None,
        dilation_ratio: float = 0.02,
        backend: str = 'pycocotools',
        box_areas: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        show_progress: bool = True,
        proposal_nums: Sequence[int] | None = None,
        metric_items: Sequence[str] | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        sort_categories: bool = False,
    ) -> None:
        caps = max_dets if max_dets is not None else proposal_nums
        if caps is None and protocol == 'coco':
            # Items that CocoMetric has by its own caps.
            many = [item for item in metric_items or () if item.endswith(('@300', '@1000'))]
            caps = (100, 300, 1000) if many else None
        super().__init__(
            make_rules(protocol, caps, areas, iou_thrs, dilation_ratio),
            backend,
            format_only,
            outfile_prefix,
            show_progress,
            collect_device,
            prefix or protocol,
            metric_items,
        )
        self.iou_types = [metric] if isinstance(metric, str) else list(metric)
        unknown = [name for name in self.iou_types if name not in IOU_TYPES]
        if unknown or not self.iou_types:
            got = (unknown or ['none'])[0]
            hint = ': ProposalARMetric scores proposals' if 'proposal' in got else ''
            raise ValueError(f'metric must be some of {", ".join(IOU_TYPES)}; got {got!r}{hint}')
        if ann_file is None and protocol != 'coco':
            raise ValueError(f'protocol={protocol!r} needs ann_file, an LVIS annotation file')
        self.box_areas = box_areas
        self.classwise = classwise
        self.protocol = protocol
        self.gt = None
        if ann_file is not None:
            # Writing needs no lists of what was looked for, which test files of LVIS lack.
            read_as = 'coco' if format_only and protocol != 'coco-on-lvis' else protocol
            with get_local_path(ann_file, backend_args=backend_args) as path:
                self.gt = read_truth(load_json(path), read_as, ann_file)
            if sort_categories:
                self.gt.categories = dict(sorted(self.gt.categories.items()))

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the predictions of a batch; dense masks are encoded at once."""
        for sample in data_samples:
            image, size = sample['img_id'], tuple(sample['ori_shape'][:2])
            result = read_instances(sample['pred_instances'], size, f'image {image!r}')
            truth = image_truth(sample, size) if self.gt is None else None
            if self.gt is not None and result['counts']:
                listed = self.gt.sizes.get(image, size)
                if listed != size:
                    raise ValueError(
                        f'image {image!r}: its masks have {size} pixels (height, width), '
                        f'{self.gt.name} says {listed}: correct the sizes in the file'
                    )
            self.results.append((image, sample.get('img_path'), result, truth))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all images."""
        gt = self.gt
        if gt is None:
            predicted, truths = _distinct_images(results)
            gt = truth_of_images(truths, self.dataset_meta['classes'])
            require_objects(gt)
        else:
            predicted = first_of_each((image, path, result) for image, path, result, _ in results)
        if self.protocol == 'coco-on-lvis':
            gt, predicted = _common(gt, predicted)
        # As in CocoMetric: categories of the file that the data set does not have are no misses.
        # LVIS data sets take all categories of the file.
        if self.protocol not in ('lvis', 'lvis-fixed'):
            gt = self.of_data_set(gt)
        dt = self._detections(predicted, gt)
        if not self.format_only:
            require_same(predicted, gt.sizes, gt.name)
        if self.outfile_prefix is not None:
            files = write_coco_results(dt, gt, self.outfile_prefix)
            if self.gt is None:
                files.append(f'{self.outfile_prefix}.gt.json')
                write_coco_truth(gt, files[-1])
            log_written(files)
        if self.format_only:
            return {}
        if len(dt) and dt.counts[0] is None and set(self.iou_types) != {'bbox'}:
            raise ValueError(
                f'metric={self.iou_types} needs pred_instances.masks, which the model does not '
                "give: metric='bbox'"
            )
        return self.score(gt, dt, self.iou_types, self.classwise, self.box_areas)

    def _detections(self, results: Mapping[Id, dict], gt: GroundTruth) -> Detections:
        categories = list(gt.categories)
        image_ids, category_ids, counts = [], [], []
        for image, result in results.items():
            if image not in gt.sizes:
                raise ValueError(
                    f'image {image!r} is not in {gt.name}: ann_file of the evaluator and of the '
                    'test data set must be the same'
                )
            for label in result['labels'].tolist():
                if not 0 <= label < len(categories):
                    raise ValueError(
                        f'image {image!r}: label {label}, but {gt.name} has {len(categories)} of '
                        "the data set's categories"
                    )
                category_ids.append(categories[label])
            image_ids += [image] * len(result['labels'])
            counts += result['counts'] or [None] * len(result['labels'])
        parts = list(results.values())
        rated = any(part['mask_scores'] is not None for part in parts)
        return Detections(
            image_ids,
            category_ids,
            np.concatenate([np.zeros(0), *(part['scores'] for part in parts)]),
            np.concatenate([np.zeros((0, 4)), *(part['boxes'] for part in parts)]),
            counts,
            np.concatenate([mask_scores(part) for part in parts]) if rated else None,
        )


def _distinct_images(results: Sequence[tuple]) -> tuple[dict[Id, dict], dict[Id, dict]]:
    """Predictions and annotations by image id, every image once, whatever samplers repeat.

    Images of several files may have equal ids; then all are numbered anew.
    """
    first: dict[tuple, tuple] = {}
    for image, path, result, truth in results:
        _, known = first.setdefault((image, path), (result, truth))
        if known['size'] != truth['size'] or _boxes(known) != _boxes(truth):
            raise ValueError(
                f'two images of different annotations have the id {image!r}: to tell the files of '
                'a ConcatDataset apart, keep "img_path" in the meta_keys of PackDetInputs'
            )
    ids = [image for image, _ in first]
    if len(set(ids)) < len(ids):
        log_warning(
            f'{len(ids) - len(set(ids))} image ids occur in several files: the {len(ids)} images '
            'are numbered 1, 2, ... in the order of the data set'
        )
        ids = list(range(1, len(ids) + 1))
    predicted = {image: result for image, (result, _) in zip(ids, first.values())}
    return predicted, {image: truth for image, (_, truth) in zip(ids, first.values())}


def _boxes(truth: dict) -> list:
    return [entry['bbox'] for entry in truth['objects']]


def _common(gt: GroundTruth, predicted: Mapping[Id, dict]) -> tuple[GroundTruth, dict[Id, dict]]:
    """The images of both: LVIS annotates other images than COCO's validation set, and not all."""
    both = [image for image in gt.sizes if image in predicted]
    log_warning(
        f'AP* on the {len(both)} images that were predicted and that {gt.name} annotates; left '
        f'out: {len(predicted) - len(both)} predicted and {len(gt.sizes) - len(both)} annotated'
    )
    chosen = set(both)
    kept = [annotation for annotation in gt.annotations if annotation['image_id'] in chosen]
    sizes = {image: gt.sizes[image] for image in both}
    return replace(gt, sizes=sizes, annotations=kept), {image: predicted[image] for image in both}
