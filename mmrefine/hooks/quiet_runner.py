"""A runner that says what is trained in one line, and leaves MMEngine's dumps to the log file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from mmdet.registry import LOG_PROCESSORS, RUNNERS
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, LogProcessor, Runner

from mmrefine.datasets.learnable import innermost, instances_of

COUNTED = 20_000  # pictures; going through more takes many seconds
# What other packages announce about their own future, in their logs and as warnings.
FOREIGN = ('deprecated', 'is the alias of', 'in an upcoming release', 'is out of bounds, the drawn')
OWN_PROCESSORS = (None, LogProcessor, 'LogProcessor', 'mmengine.LogProcessor')
SHOWN = {'segm': 'mask', 'boundary': 'boundary', 'bbox': 'box'}  # IoU type -> name
AP_NAMES = (('mAP', 'mAP_50', 'mAP_75'), ('AP', 'AP50', 'AP75'))  # by COCO's rules, by LVIS's


@RUNNERS.register_module()
class QuietRunner(Runner):
    """``Runner`` whose console shows one line of facts, then losses and scores.

    In a config: ``runner_type = 'mmdet.QuietRunner'``. Environment, config, hooks, the places of
    files and the wide tables of scores go to the log file alone; warnings stay, except for other
    packages' deprecations. A validation prints mask, boundary and box AP in one line.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; its console is closed to information until the loop begins."""
        for text in FOREIGN:
            warnings.filterwarnings('ignore', f'(?s).*{text}')
        logger = super().build_logger(*args, **kwargs)
        self._console = _Console()
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(self._console)
        return logger

    def build_log_processor(self, log_processor: LogProcessor | dict) -> LogProcessor:
        """Build the log processor; MMEngine's own one is replaced by ``MaskLogProcessor``."""
        if isinstance(log_processor, dict) and log_processor.get('type') in OWN_PROCESSORS:
            log_processor = {**log_processor, 'type': 'mmdet.MaskLogProcessor'}
        return super().build_log_processor(log_processor)

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> Any:
        """Build a data loader; what pycocotools prints while it reads a file is no news."""
        with contextlib.redirect_stdout(io.StringIO()):
            return Runner.build_dataloader(*args, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; open the console when a loop begins."""
        super().call_hook(fn_name, **kwargs)
        if fn_name in ('before_train', 'before_val', 'before_test') and not self._console.opened:
            self._console.opened = True
            self._console.tables = fn_name != 'before_train'
            if is_main_process():
                self.logger.info(run_facts(self, fn_name.removeprefix('before_')))


@LOG_PROCESSORS.register_module()
class MaskLogProcessor(LogProcessor):
    """``LogProcessor`` that sums up a validation or test in a line, if masks were scored."""

    def get_log_after_epoch(self, *args: Any, **kwargs: Any) -> tuple[dict, str]:
        """Give all numbers to the log and to visualizers, and the main ones to the console."""
        numbers, text = super().get_log_after_epoch(*args, **kwargs)
        scores = compact_scores(numbers)
        return numbers, f'{text.partition("  ")[0]}  {scores}' if scores else text


class _Console(logging.Filter):
    """Lets warnings pass, and information once a loop has begun; wide tables beside no losses."""

    opened = False
    tables = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            text = record.getMessage()
            return record.levelno > logging.WARNING or not any(sign in text for sign in FOREIGN)
        wide = not self.tables and hasattr(record, 'table')
        return self.opened and not wide and not record.getMessage().startswith('Exp name')


def compact_scores(numbers: Mapping[str, Any]) -> str:
    """Mask, boundary and box AP of a validation (0-1, with any prefix) in percent, in one line;
    empty without mask AP."""
    short = {name.rsplit('/', 1)[-1]: value for name, value in numbers.items()}
    main, half, three = next((n for n in AP_NAMES if f'segm_{n[0]}' in short), AP_NAMES[0])
    if f'segm_{main}' not in short:
        return ''
    parts = []
    for kind, name in SHOWN.items():
        if f'{kind}_{main}' not in short:
            continue
        values = [short.get(f'{kind}_{key}', -1.0) for key in (main, half, three)]
        ap, ap50, ap75 = ('-' if value < 0 else f'{100 * value:.1f}' for value in values)
        parts.append(f'{name} AP {ap} (50: {ap50}, 75: {ap75})')
    return '  '.join(parts)


def run_facts(runner: Runner, mode: str) -> str:
    """One line on what a run of ``'train'``, ``'val'`` or ``'test'`` works with; its loop has been
    built."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    weights = list(model.parameters())
    loader = getattr(runner, f'{mode}_dataloader')
    processes = get_world_size()
    facts = [
        f'{type(model).__name__}, {sum(p.numel() for p in weights) / 1e6:.1f} M parameters',
        data_facts(loader.dataset),
        f'batch {loader.batch_sampler.batch_size * processes}',
    ]
    if mode == 'train':
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        epochs = f' in {runner.max_epochs} epochs' if by_epoch else ''
        begun = f', of which {runner.iter:,} are done' if runner.iter else ''
        facts.append(f'{runner.max_iters:,} iterations{epochs}{begun}')
    device = str(weights[0].device)
    facts.append(f'{processes} processes on {device}' if processes > 1 else device)
    return '; '.join([*facts, runner.work_dir])


def data_facts(dataset: Any) -> str:
    """Pictures, objects and classes of a data set; objects of a large one are not counted."""
    parts = innermost(dataset)
    pictures = sum(len(part) for part in parts)
    facts = f'{pictures:,} pictures'
    if pictures <= COUNTED and all(hasattr(part, 'get_data_info') for part in parts):
        facts += f', {sum(1 for part in parts for _ in instances_of(part)):,} objects'
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    return facts + (f' of {len(classes)} classes' if classes else '')
