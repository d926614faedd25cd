"""The papers' claims, and what a proof says about each."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from .runs import Result

CONFIDENCE = 0.95  # that a verdict asks for: small differences of few runs are luck


@dataclass(frozen=True)
class Claim:
    """One system is to be ``margin`` better than another, by difference or by ratio.

    Attributes:
        text: The claim in words.
        system, peer: What is compared.
        metrics: Names of the numbers compared; several are given as one line each.
        margin: Least difference or, if ``ratio``, least quotient.
        ratio: Compare quotients.
    """

    text: str
    system: str
    peer: str
    metrics: tuple[str, ...] = ('segm_mAP', 'boundary_mAP')
    margin: float = 0.0
    ratio: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim held against the runs of one set.

    Attributes:
        claim, data, metric: What was compared.
        mean, std: Of the differences or quotients, seed by seed.
        seeds: How many seeds both systems have.
    """

    claim: Claim
    data: str
    metric: str
    mean: float
    std: float
    seeds: int

    @property
    def verdict(self) -> str:
        """``holds``, ``fails``, or ``undecided`` where the seeds scatter too much to tell."""
        if self.seeds < 2 or not math.isfinite(self.mean):
            return 'undecided'
        errors = float(student.ppf((1 + CONFIDENCE) / 2, self.seeds - 1))
        if abs(self.mean - self.claim.margin) < errors * self.std / math.sqrt(self.seeds):
            return 'undecided'
        return 'holds' if self.mean >= self.claim.margin else 'fails'


SIZES = ('segm_mAP_s', 'segm_mAP_m', 'segm_mAP_l')
CLAIMS = (
    Claim('RefineMask above Mask R-CNN', 'refinemask', 'mask-rcnn'),
    Claim('its gain, by size of object', 'refinemask', 'mask-rcnn', SIZES),
    Claim('RefineMask above PointRend', 'refinemask', 'point-rend'),
    Claim('"faster and better" at least RefineMask', 'refinemask-simple', 'refinemask'),
    Claim('SharpMaskHead above FCNMaskHead', 'sharpmask-roi', 'mask-rcnn'),
    Claim('SipMask 2x2 above 1x1', 'sipmask', 'sipmask-1x1'),
    Claim('SipMask above YOLACT', 'sipmask', 'yolact'),
    Claim('EmbedMask at least Mask R-CNN - 1 AP', 'embedmask', 'mask-rcnn', ('segm_mAP',), -0.01),
    Claim(
        'EmbedMask (adet) at least Mask R-CNN - 1 AP',
        'embedmask-adet',
        'mask-rcnn',
        ('segm_mAP',),
        -0.01,
    ),
    Claim('EmbedMask at least CondInst', 'embedmask', 'condinst'),
    Claim('EmbedMask (adet) at least CondInst', 'embedmask-adet', 'condinst'),
    Claim('EmbedMask (adet) above v3', 'embedmask-adet', 'embedmask'),
    Claim('SharpMask 1.10 of DeepMask', 'sharpmask', 'deepmask', ('segm_AR@100',), 1.1, True),
)


def findings(results: Iterable[Result]) -> list[Finding]:
    """Compare the runs of equal set and seed, claim by claim.

    A metric of -1, no object of that size, is left out.
    """
    runs = {(r.data, r.system, r.seed): r.metrics for r in results}
    found = []
    for claim in CLAIMS:
        for data in dict.fromkeys(data for data, _, _ in runs):
            seeds = sorted(
                seed
                for set_name, system, seed in runs
                if set_name == data and system == claim.system and (data, claim.peer, seed) in runs
            )
            for metric in claim.metrics:
                pairs = [
                    (runs[data, claim.system, seed][metric], runs[data, claim.peer, seed][metric])
                    for seed in seeds
                ]
                values = [compare(*pair, claim.ratio) for pair in pairs if min(pair) >= 0]
                if values:
                    mean, std = statistics.fmean(values), scatter(values)
                    found.append(Finding(claim, data, metric, mean, std, len(values)))
    return found


def compare(ours: float, peer: float, ratio: bool) -> float:
    """Difference or quotient of two numbers; against nothing, any success is infinitely more."""
    if not ratio:
        return ours - peer
    if peer == 0:
        return math.inf if ours else 1.0
    return ours / peer


def scatter(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 where there is none: of one value, or of infinite ones."""
    return statistics.stdev(values) if len(values) > 1 and math.isfinite(sum(values)) else 0.0
