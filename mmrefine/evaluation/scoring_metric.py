"""What the AP metrics share: the engine, the result files, the log."""

from collections.abc import Collection, Hashable, Sequence

from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import SHOWN, GroundTruth
from mmrefine.results.log import log_warning

from .ap_table import number_names
from .evaluate import BACKENDS, distinct_names, evaluate
from .metric_names import stock_name, stock_names
from .protocols import Rules, require_choice
from .tables import category_table, result_table


class ScoringMetric(BaseMetric):
    """A metric that scores detections by a protocol, and writes them if asked to.

    The arguments are those of the metrics that users name.
    """

    def __init__(
        self,
        rules: Rules,
        backend: str,
        format_only: bool,
        outfile_prefix: str | None,
        show_progress: bool,
        collect_device: str,
        prefix: str | None,
        metric_items: Sequence[str] | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        require_choice('backend', backend, BACKENDS)
        require_outfile(format_only, outfile_prefix)
        known = [stock_name(name, rules) for name in number_names(rules)]
        for item in metric_items or ():
            if item not in known:
                raise ValueError(
                    f'metric_items: {item!r} is none of {", ".join(known)} (the numbers in the '
                    'names are those of max_dets or proposal_nums)'
                )
        self.rules = rules
        self.backend = backend
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.show_progress = show_progress
        self.metric_items = metric_items
        self._labels_told = False

    def of_data_set(self, gt: GroundTruth) -> GroundTruth:
        """Keep the categories that are classes of the data set, as its labels number them.

        MMDetection numbers labels in the order of the file; a warning names those that mean another
        category than the class at their place.
        """
        classes = list((self.dataset_meta or {}).get('classes') or ())
        names = [gt.categories[category] for category in gt.categories_of(classes)]
        moved = [
            f'{label} means {name!r}, not {said!r}'
            for label, (name, said) in enumerate(zip(names, classes))
            if name != said
        ]
        if moved and not self._labels_told:
            self._labels_told = True
            more = f' ({len(moved)} in all)' if len(moved) > SHOWN else ''
            log_warning(
                "MMDetection's data sets number labels in the order of the annotation file, not of "
                f'the classes in metainfo. By {gt.name}, label {"; ".join(moved[:SHOWN])}{more}. '
                'If the model numbers them by the classes, the scores are wrong: give both the '
                'same names in the same order'
            )
        return gt.of_classes(names)

    def score(
        self,
        gt: GroundTruth,
        dt: Detections,
        iou_types: Sequence[str],
        classwise: bool = False,
        box_areas: bool = False,
    ) -> dict[str, float]:
        """Evaluate, log a table and name the numbers, with ``classwise`` also of each category."""
        progress = self.show_progress and is_main_process()
        found = evaluate(gt, dt, iou_types, self.rules, self.backend, box_areas, progress)
        logger = MMLogger.get_current_instance()
        logger.info('\n' + result_table(found), extra={'table': True})  # see QuietRunner
        numbers = stock_names(found.numbers, self.rules)
        if self.metric_items is not None:
            names = (f'{kind}_{item}' for kind in iou_types for item in self.metric_items)
            numbers = {name: numbers[name] for name in names}
        if not classwise:
            return numbers
        logger.info('\n' + category_table(found, gt))
        # As in CocoMetric, which does not know boundaries, the last IoU type names the classes.
        last = [t for t in iou_types if t != 'boundary' or len(iou_types) == 1][-1]
        precision = {
            f'{name}_precision': found.per_category[last][category]
            for category, name in distinct_names(gt).items()
        }
        return {**numbers, **precision, **found.named_categories(gt)}


def require_outfile(format_only: bool, outfile_prefix: str | None) -> None:
    """Raise ValueError if only files are to be written and there is no path for them."""
    if format_only and outfile_prefix is None:
        raise ValueError('format_only=True needs outfile_prefix, the path the results go to')


def require_same(
    predicted: Collection[Hashable], scored: Collection[Hashable], name: str, what: str = 'images'
) -> None:
    """Compare ids that were predicted with those of ``name`` that are scored.

    A part of either gives wrong numbers: a ValueError says in how many they differ.
    """
    missing = set(scored) - set(predicted)
    foreign = set(predicted) - set(scored)
    parts = [
        f'{len(ids)} {what} {how}, such as {", ".join(map(str, sorted(ids, key=str)[:SHOWN]))}'
        for how, ids in (('were not predicted', missing), ('predicted do not count', foreign))
        if ids
    ]
    if parts:
        raise ValueError(
            f'{"; ".join(parts)}; {len(scored)} {what} of {name} count: the test data set and the '
            'evaluator must list the same'
        )


def log_written(files: Sequence[object]) -> None:
    """Log the paths of written result files."""
    MMLogger.get_current_instance().info(f'results written: {", ".join(map(str, files))}')
