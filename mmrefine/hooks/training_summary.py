"""What a training has learned, as a folder to look at."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, collect_results, is_main_process
from mmengine.fileio import get_local_path
from mmengine.hooks import Hook

from mmrefine.evaluation.proposal_ar import ProposalARMetric
from mmrefine.evaluation.protocols import read_truth
from mmrefine.results.ground_truth import GroundTruth
from mmrefine.results.json_files import load_json, write_json_list
from mmrefine.results.predictions import sample_entries
from mmrefine.visualization.curves import find_scalars, plot_run, read_run
from mmrefine.visualization.report import write_report


@HOOKS.register_module()
class TrainingSummaryHook(Hook):
    """After training, write ``work_dir/summary/`` from the log and the last validation.

    ``curves.png``, ``report.html`` (AP table, precision and recall, confusions, the images whose
    boundaries cost most), ``precision_recall.png``, ``confusion.png``, ``sheet.jpg`` (ground truth
    beside prediction) and ``predictions.json`` (COCO results). In a config:
    ``default_hooks = dict(summary=dict(type='TrainingSummaryHook'))``.

    Where the validation set has no COCO-format annotation file of masks (proposals, videos,
    Cityscapes), the curves alone are written. Nothing that goes wrong here ends the training.

    Args:
        worst: Images on the report.
        score_thr: Lowest score drawn, and counted as a confusion.
    """

    priority = 'VERY_LOW'  # after the logger has written the last scores

    def __init__(self, worst: int = 8, score_thr: float = 0.3) -> None:
        self.worst = worst
        self.score_thr = score_thr
        self._truth: GroundTruth | None = None
        self._categories: Sequence[Any] = ()
        self._entries: list[list[dict]] = []
        self._last: list[dict] | None = None
        self._fault = ''

    def before_val_epoch(self, runner: Any) -> None:
        """Begin with an empty list; learn how labels and categories belong together."""
        self._entries, self._fault = [], ''
        metrics = runner.val_evaluator.metrics
        # proposals would all be taken for the first class
        if self._truth is None and not any(isinstance(m, ProposalARMetric) for m in metrics):
            try:
                self._truth, self._categories = _truth_of(runner.val_dataloader.dataset)
            except (OSError, ValueError) as error:  # told after the training
                self._fault = str(error)

    def after_val_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep the predictions of a batch, masks as RLE."""
        for sample in outputs or ():
            if self._truth is None or 'masks' not in sample.get('pred_instances', ()):
                continue
            found = {**sample.metainfo, 'pred_instances': sample.pred_instances}
            try:
                entries = list(sample_entries(found, self._truth, self._categories))
            except ValueError as error:  # the metric, if it minds, ends the validation
                entries = []
                self._fault = self._fault or str(error)
            self._entries.append(entries)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Bring the predictions of all processes together."""
        size = len(runner.val_dataloader.dataset)
        # one process without the file must not leave the others waiting
        known = all(all_gather_object(self._truth is not None))
        images = collect_results(self._entries, size) if known else None
        self._last = [entry for image in images or () for entry in image]
        self._entries = []

    def after_train(self, runner: Any) -> None:
        """Write the folder."""
        if not is_main_process():
            return
        out = Path(runner.work_dir) / 'summary'
        try:
            self._write(runner, out)
        except (OSError, ValueError) as error:
            runner.logger.warning(f'no complete summary in {out}: {error}')
        else:
            runner.logger.info(f'summary of the training: {out}')

    def _write(self, runner: Any, out: Path) -> None:
        plot_run(
            read_run(find_scalars(runner.work_dir)), out / 'curves.png', Path(runner.work_dir).name
        )
        if self._fault:
            raise ValueError(self._fault)
        if not self._last or self._truth is None:
            return
        dataset = runner.val_dataloader.dataset
        write_json_list(out / 'predictions.json', iter(self._last))
        name = runner.cfg.get('experiment_name') or Path(runner.work_dir).name
        # The page tells its progress on stderr and its figures by the logger.
        level, runner.logger.level = runner.logger.level, logging.WARNING
        try:
            with _local(dataset) as file:
                write_report(
                    file,
                    {name: out / 'predictions.json'},
                    out / 'report.html',
                    dataset.data_prefix.get('img'),
                    _format(dataset),
                    self.worst,
                    self.score_thr,
                    pictures=out,
                )
        finally:
            runner.logger.level = level


def _format(dataset: Any) -> str:
    return 'lvis' if 'LVIS' in type(dataset).__name__ else 'coco'


def _local(dataset: Any) -> AbstractContextManager[str]:
    """A local copy of the annotation file of a data set, which may lie in a cloud."""
    return get_local_path(dataset.ann_file, backend_args=getattr(dataset, 'backend_args', None))


def _truth_of(dataset: Any) -> tuple[GroundTruth | None, Sequence[Any]]:
    """Annotations of a data set and the category of every label; None if it has no such file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no masks, or is damaged.
    """
    file = getattr(dataset, 'ann_file', '')
    if not isinstance(file, str) or not file.endswith('.json') or hasattr(dataset, 'datasets'):
        return None, ()
    with _local(dataset) as path:
        data = load_json(path)
    if not isinstance(data, dict) or 'images' not in data:
        return None, ()
    truth = read_truth(data, _format(dataset), file)
    truth.require(masks=True)
    return truth, truth.categories_of(dataset.metainfo['classes'])
