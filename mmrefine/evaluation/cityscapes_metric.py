"""Cityscapes instance AP and boundary AP."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import METRICS
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric

from mmrefine.results.cityscapes import CITYSCAPES_IDS, write_cityscapes_image, zip_tree
from mmrefine.results.log import log_warning
from mmrefine.results.predictions import first_of_each, mask_scores, read_instances

from .cityscapes import check_types, import_engine, score_cityscapes
from .protocols import make_rules
from .scoring_metric import log_written, require_outfile, require_same

# Files of this metric and of the stock one.
FORMER = re.compile(r'.+_leftImg8bit_(pred\.txt|\d+_\w+\.png)(\.partial-\d+)?|gtInstances\.json')


@METRICS.register_module()
class CityscapesMaskAPMetric(BaseMetric):
    """Average precision of Cityscapes instances by the official code, of masks and of boundaries.

    Replaces ``CityScapesMetric``; predicted masks may be dense or RLE. Predictions go to
    disk in the submission layout as they come; nothing dense is kept.

    Args:
        seg_prefix: Folder of the ``gtFine`` split; needed to score. Stock configs' name; the files
            are found from the image paths, ``leftImg8bit`` replaced by ``gtFine``, if it is not
            given.
        outfile_prefix: Folder for the tree, which stays in ``<outfile_prefix>/results`` and takes
            the place of former results there; None uses a temporary one.
        metric: ``'segm'`` and / or ``'boundary'``.
        dilation_ratio: Width of the boundary band over the image diagonal.
        format_only: Write the tree and its zip, compute nothing.
        prefix: Default ``'cityscapes'``.

    Results are named as in ``CityScapesMetric``, ``mAP`` and ``AP@50``, for boundaries
    ``boundary_mAP`` and ``boundary_AP@50``; with ``segm_AP/<class>``, ``boundary_AP/<class>``.

    Raises:
        ModuleNotFoundError: cityscapesScripts is not installed.
        ValueError: A value or a prediction that cannot be used.
    """

    default_prefix = 'cityscapes'

    def __init__(
        self,
        seg_prefix: str | None = None,
        outfile_prefix: str | None = None,
        metric: str | Sequence[str] = ('segm', 'boundary'),
        dilation_ratio: float = 0.02,
        format_only: bool = False,
        show_progress: bool = True,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_types = check_types([metric] if isinstance(metric, str) else metric)
        self.dilation_ratio = make_rules(dilation_ratio=dilation_ratio).dilation_ratio
        require_outfile(format_only, outfile_prefix)
        if backend_args is not None:
            raise ValueError('backend_args: the official code reads local files only')
        if not format_only:
            import_engine()
            if seg_prefix is not None and not Path(seg_prefix).is_dir():
                raise ValueError(
                    f'seg_prefix: there is no folder {seg_prefix}; name that of the gtFine split'
                )
        self.seg_prefix = seg_prefix
        self.format_only = format_only
        self.show_progress = show_progress
        self._temporary = outfile_prefix is None
        # all ranks write into the folder of the main one
        if outfile_prefix is None:
            names = [tempfile.mkdtemp(prefix='cityscapes-') if is_main_process() else '']
            broadcast_object_list(names)
            (outfile_prefix,) = names
        self.root = Path(outfile_prefix) / 'results'
        if is_main_process():
            self._clear()
        barrier()

    def _clear(self) -> None:
        """Make an empty folder; only files of former results are removed, and that is logged."""
        files = list(self.root.iterdir()) if self.root.is_dir() else []
        for file in files:
            if not file.is_file() or not FORMER.fullmatch(file.name):
                raise ValueError(
                    f'outfile_prefix: {self.root} is emptied before results are written, but holds '
                    f'{file.name}, which is no Cityscapes result: choose another folder'
                )
        if files:
            log_warning(f'{len(files)} files of former results in {self.root} were removed')
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the predictions of a batch."""
        names = self.dataset_meta['classes']
        for sample in data_samples:
            path, size = sample['img_path'], tuple(sample['ori_shape'][:2])
            result = read_instances(sample['pred_instances'], size, path, need_masks=True)
            for label in set(result['labels'].tolist()):
                if not 0 <= label < len(names) or names[label] not in CITYSCAPES_IDS:
                    raise ValueError(f'{path}: label {label} is no Cityscapes class with instances')
            text = write_cityscapes_image(
                self.root,
                path,
                [{'size': list(size), 'counts': counts} for counts in result['counts']],
                [CITYSCAPES_IDS[names[label]] for label in result['labels'].tolist()],
                mask_scores(result).tolist(),
            )
            self.results.append((str(text), path, path))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score the tree."""
        texts = first_of_each(results, 'the text file')
        if self.format_only:
            archive = zip_tree(self.root, self.root.parent / 'results.zip')
            log_written([self.root, archive])
            return {}
        pairs = [(Path(text), self._truth(path)) for text, path in texts.items()]
        if self.seg_prefix is not None:
            scored = {path.name for path in Path(self.seg_prefix).rglob('*_gtFine_instanceIds.png')}
            require_same({truth.name for _, truth in pairs}, scored, self.seg_prefix)
        numbers = score_cityscapes(
            pairs, self.iou_types, self.dilation_ratio, self.show_progress and is_main_process()
        )
        if self._temporary:
            shutil.rmtree(self.root.parent, ignore_errors=True)
        for kind in self.iou_types:
            start = '' if kind == 'segm' else f'{kind}_'
            numbers[f'{start}mAP'] = numbers.pop(f'{kind}_AP')
            numbers[f'{start}AP@50'] = numbers.pop(f'{kind}_AP50')
        return numbers

    def _truth(self, image: str) -> Path:
        name = image.replace('leftImg8bit.png', 'gtFine_instanceIds.png')
        path = Path(name.replace('leftImg8bit', 'gtFine'))  # the folder, too
        if self.seg_prefix is not None:
            path = Path(self.seg_prefix) / path.parent.name / path.name
        if not path.is_file():
            raise ValueError(f'{image}: there is no {path}')
        return path
