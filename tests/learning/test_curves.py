"""Losses of a proof over iterations."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from learning.curves import losses, plot_losses
from learning.runs import Result


def run(folder: Path, system: str, seed: int, points: dict[int, float]) -> Result:
    log = folder / 'shapes' / system / f'seed{seed}' / '20260101' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('\n'.join(json.dumps(dict(iter=i, loss=v)) for i, v in points.items()))
    return Result(system, 'shapes', seed, max(points), 1.0, {})


def test_curves_are_shares_of_the_first_loss_and_means_over_seeds(tmp_path: Path) -> None:
    results = [
        run(tmp_path, 'sipmask', 0, {20: 4.0, 40: 2.0}),
        run(tmp_path, 'sipmask', 1, {20: 10.0, 40: 4.0}),
        run(tmp_path, 'sipmask', 2, {20: 10.0, 40: 6.0, 60: 1.0}),  # longer
        run(tmp_path, 'yolact', 0, {20: 8.0, 40: 6.0}),
    ]
    curves = losses(tmp_path, results)
    steps, values = curves['shapes']['sipmask']
    assert steps.tolist() == [20, 40] and values == pytest.approx([1.0, 0.5])
    assert curves['shapes']['yolact'][1] == pytest.approx([1.0, 0.75])
    plot_losses(curves, tmp_path / 'plots/losses.png')
    drawn = cv2.imread(str(tmp_path / 'plots/losses.png'))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
