"""What a proof says about a claim."""

import math

import pytest
from learning.claims import CLAIMS, Claim, Finding, compare, findings
from learning.plan import SYSTEMS
from learning.runs import Result
from learning.summary import markdown


def result(system: str, seed: int, data: str = 'shapes', **metrics: float) -> Result:
    return Result(system, data, seed, 100, 1.0, metrics)


def find(results: list[Result], text: str, metric: str) -> Finding:
    (found,) = [f for f in findings(results) if f.claim.text == text and f.metric == metric]
    return found


def test_claims_speak_of_systems_that_exist() -> None:
    assert {name for claim in CLAIMS for name in (claim.system, claim.peer)} <= set(SYSTEMS)


def test_differences_are_taken_seed_by_seed() -> None:
    runs = [
        result(system, seed, segm_mAP=value, boundary_mAP=0.1)
        for system, values in dict(sipmask=(0.30, 0.42), **{'sipmask-1x1': (0.20, 0.30)}).items()
        for seed, value in enumerate(values)
    ]
    # A seed that only one of the two has does not count.
    runs.append(result('sipmask', 2, segm_mAP=0.9, boundary_mAP=0.9))
    found = find(runs, 'SipMask 2x2 above 1x1', 'segm_mAP')
    assert found.mean == pytest.approx(0.11)
    assert found.std == pytest.approx(0.01 * 2**0.5)
    assert found.seeds == 2
    assert find(runs, 'SipMask 2x2 above 1x1', 'boundary_mAP').mean == 0


def test_ratios_and_sizes_without_objects() -> None:
    runs = [
        result('sharpmask', 0, **{'segm_AR@100': 0.6}),
        result('deepmask', 0, **{'segm_AR@100': 0.4}),
    ]
    assert find(runs, 'SharpMask 1.10 of DeepMask', 'segm_AR@100').mean == pytest.approx(1.5)
    sizes = dict(segm_mAP=0.1, boundary_mAP=0.1, segm_mAP_s=0.2, segm_mAP_m=-1.0, segm_mAP_l=0.3)
    runs = [result('refinemask', 0, **sizes), result('mask-rcnn', 0, **sizes)]
    metrics = {f.metric for f in findings(runs) if f.claim.text.startswith('its gain')}
    assert metrics == {'segm_mAP_s', 'segm_mAP_l'}


def test_sets_are_kept_apart() -> None:
    runs = [
        result('sipmask', 0, 'shapes', segm_mAP=0.3, boundary_mAP=0.1),
        result('sipmask-1x1', 0, 'nuclei', segm_mAP=0.2, boundary_mAP=0.1),
    ]
    assert findings(runs) == []


@pytest.mark.parametrize(
    'mean, std, seeds, verdict',
    [
        (0.02, 0.001, 3, 'holds'),
        # the limit of two degrees of freedom is 4.303 standard errors off, of one 12.706
        (0.0249, 0.01, 3, 'holds'),
        (0.0248, 0.01, 3, 'undecided'),
        (-0.0899, 0.01, 2, 'fails'),
        (-0.0898, 0.01, 2, 'undecided'),
        (-0.02, 0.001, 3, 'fails'),
        (0.02, 0.05, 3, 'undecided'),
        (0.02, 0.0, 1, 'undecided'),
        (0.0, 0.0, 3, 'holds'),
        (math.inf, 0.0, 3, 'undecided'),
    ],
)
def test_scattered_or_single_runs_decide_nothing(mean, std, seeds, verdict) -> None:
    claim = Claim('a above b', 'a', 'b')
    assert Finding(claim, 'shapes', 'segm_mAP', mean, std, seeds).verdict == verdict


def test_a_ratio_against_nothing_is_infinite() -> None:
    assert compare(0.2, 0.0, ratio=True) == math.inf
    assert compare(0.0, 0.0, ratio=True) == 1.0
    assert compare(0.2, 0.5, ratio=False) == pytest.approx(-0.3)


def test_a_peer_that_found_nothing_ends_no_summary() -> None:
    runs = [
        result(system, seed, **{'segm_AR@100': recall})
        for seed, recalls in enumerate([(0.3, 0.6), (0.0, 0.5)])
        for system, recall in zip(('deepmask', 'sharpmask'), recalls)
    ]
    [found] = findings(runs)
    assert found.mean == math.inf
    assert found.verdict == 'undecided'
    assert 'inf ± 0.00 times | 2 | undecided' in markdown(runs)
