"""Table and plot of a proof."""

from pathlib import Path

import cv2
import pytest
from learning.runs import Result
from learning.summary import cell, markdown, plot

RECALL = {'segm_AR@100': 0.5}
RESULTS = [
    Result('sipmask', 'shapes', seed, 700, 3.2, dict(segm_mAP=ap, boundary_mAP=0.2) | RECALL)
    for seed, ap in enumerate((0.30, 0.34))
] + [
    Result(
        'sipmask-1x1', 'shapes', 0, 710, 3.1, dict(segm_mAP=0.29, boundary_mAP=0.1, segm_mAP_l=-1.0)
    ),
    Result('deepmask', 'nuclei', 0, 90, 3.0, {'segm_AR@100': 0.4}),
]


@pytest.mark.parametrize('numbers, text', [([], ''), ([41.26], '41.3'), ([30, 34], '32.0 ± 2.8')])
def test_a_spread_is_given_where_there_is_one(numbers: list[float], text: str) -> None:
    assert cell(numbers) == text


def test_tables_hold_every_system_and_every_claim_that_was_run() -> None:
    lines = markdown(RESULTS).splitlines()
    assert '| sipmask | 2 | 700 | 3.2 | 32.0 ± 2.8 | 20.0 ± 0.0 | 50.0 ± 0.0 |  |  |  |  |' in lines
    assert '| sipmask-1x1 | 1 | 710 | 3.1 | 29.0 | 10.0 |  |  |  |  |  |' in lines
    # AR@100 of proposals stands in the column of AR@100.
    assert '| deepmask | 1 | 90 | 3.0 |  |  | 40.0 |  |  |  |  |' in lines
    claims = lines[lines.index('### Claims') :]
    assert '| SipMask 2x2 above 1x1 | shapes | mask AP | +1.0 | 1 | undecided |' in claims
    assert not [line for line in claims if 'DeepMask' in line]


def test_every_set_has_its_bars(tmp_path: Path) -> None:
    plot(RESULTS, tmp_path / 'one/plot.png')
    both = cv2.imread(str(tmp_path / 'one/plot.png'))
    plot(RESULTS[:3], tmp_path / 'plot.png')
    assert both.shape[0] > 1.5 * cv2.imread(str(tmp_path / 'plot.png')).shape[0]
    assert both.std() > 5
    with pytest.raises(ValueError, match='no result'):
        plot([], tmp_path / 'none.png')
