"""The names that MMDetection's metrics give to the numbers of an evaluation."""

import re
from collections.abc import Mapping

from .protocols import UNLIMITED, Rules

NAME = re.compile(r'(?P<what>AP|AR)(?P<number>\d*)(_(?P<area>.+))?')


def stock_name(name: str, rules: Rules) -> str:
    """Rename a number of an ``APTable`` as ``CocoMetric`` or ``LVISMetric`` does.

    COCO: mAP, mAP_50, mAP_s, AR@100, AR_s@100; LVIS: AP, AP50, APs, APr, AR@300, ARs@300.
    """
    found = NAME.fullmatch(name)
    if found is None:  # APr, APc, APf
        return name
    what, number, area = found.group('what', 'number', 'area')
    if what == 'AP':
        suffix = area or number
        if rules.federated:
            return f'AP{suffix}'
        return f'mAP_{suffix}' if suffix else 'mAP'
    last = rules.per_image if rules.max_dets[-1] == UNLIMITED else rules.max_dets[-1]
    cap = number or (last if area else '')
    between = '_' if area and not rules.federated else ''
    return f'AR{between}{area or ""}{f"@{cap}" if cap else ""}'


def stock_names(numbers: Mapping[str, float], rules: Rules) -> dict[str, float]:
    """Rename the numbers of an ``Evaluation``: ``segm_AP50`` becomes ``segm_mAP_50``."""
    parts = ((name.partition('_'), value) for name, value in numbers.items())
    return {f'{kind}_{stock_name(short, rules)}': value for (kind, _, short), value in parts}
