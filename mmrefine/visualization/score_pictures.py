"""Precision over recall, and which classes are taken for which, as pictures.

Shapes:   K classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmrefine.evaluation.ap_table import APTable
from mmrefine.evaluation.protocols import Rules

from .instances import Instances, match

SHOWN = 20  # classes of a confusion picture; more have no room for their names
MASK_COLOUR, BOUNDARY_COLOUR = '#0072dc', '#e66100'


def precision_recall(tables: dict[str, APTable], rules: Rules) -> np.ndarray:
    """Draw precision over recall, the mean of all classes: masks in blue, boundaries in orange.

    Tables ``'segm'`` and ``'boundary'`` are of one evaluation -> uint8[H, W, 3] RGB.
    """
    figure = Figure(figsize=(4.2, 3.6), layout='constrained')
    axes = figure.subplots()
    everything = list(rules.areas).index('all')
    for name, colour in (('segm', MASK_COLOUR), ('boundary', BOUNDARY_COLOUR)):
        precision = tables[name].precision[:, :, :, everything, -1]  # (T, R, K)
        precision = precision[:, :, (precision > -1).any((0, 1))]
        if not precision.shape[2]:
            continue
        recall = np.linspace(0, 1, precision.shape[1])
        for threshold, dashes in ((0.5, '--'), (0.75, ':')):
            at = np.flatnonzero(np.isclose(rules.iou_thresholds, threshold))
            if len(at):
                label = f'{_kind(name)}, IoU {threshold:g}'
                axes.plot(recall, precision[at[0]].mean(1), dashes, color=colour, label=label)
        axes.plot(recall, precision.mean((0, 2)), color=colour, label=f'{_kind(name)}, mean')
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize='x-small')
    return _pixels(figure)


def _kind(iou_type: str) -> str:
    return 'masks' if iou_type == 'segm' else 'boundaries'


def count_confusions(
    truth: Instances, found: Instances, categories: Sequence, counts: np.ndarray
) -> None:
    """Add one image to a confusion matrix: pairs of mask IoU 0.5 or more, whatever their classes.

    The matrix int array[K + 1, K + 1], object by prediction, the last being none, is changed;
    crowds are left out.
    """
    place = {category: i for i, category in enumerate(categories)}
    partner, _ = match(truth, found, by_category=False)
    for category, j in zip(found.categories, partner):
        if j >= -1:
            row = place[truth.categories[j]] if j >= 0 else len(place)
            counts[row, place[category]] += 1
    for j in set(np.flatnonzero(~truth.is_crowd).tolist()) - set(partner):
        counts[place[truth.categories[j]], len(place)] += 1


def confusion_picture(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix from ``count_confusions`` with K names, rows scaled to percent of the
    objects of a class: uint8[H, W, 3] RGB.

    Of many classes those with the most errors are shown.
    """
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong[:-1], kind='stable')[:SHOWN])
    rows = np.append(shown, len(names))
    part = counts[np.ix_(rows, rows)]
    objects = np.append(counts.sum(1)[shown], max(counts[-1].sum(), 1))
    share = 100 * part / np.maximum(objects, 1)[:, None]
    side = 2.4 + 0.42 * len(rows)
    figure = Figure(figsize=(side + 0.4, side), layout='constrained')
    axes = figure.subplots()
    axes.imshow(share, cmap='Blues', vmin=0, vmax=100)
    for (i, j), count in np.ndenumerate(part):
        if count:
            colour = 'white' if share[i, j] > 60 else 'black'
            axes.text(j, i, str(count), ha='center', va='center', fontsize=8, color=colour)
    labels = [names[i] for i in shown]
    axes.set_xticks(range(len(rows)), [*labels, 'missed'], rotation=60, ha='right', fontsize=8)
    axes.set_yticks(range(len(rows)), [*labels, 'no object'], fontsize=8)
    axes.set(xlabel='prediction', ylabel='object')
    return _pixels(figure)


def _pixels(figure: Figure) -> np.ndarray:
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
