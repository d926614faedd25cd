"""Scores of boxes, masks, mask boundaries and tracks, for models and for result files."""

from mmrefine.results.detections import Detections, load_results
from mmrefine.results.ground_truth import GroundTruth

from .evaluate import Evaluation, evaluate
from .protocols import Rules, cocofy, make_rules

__all__ = [
    'Detections',
    'Evaluation',
    'GroundTruth',
    'Rules',
    'cocofy',
    'evaluate',
    'load_results',
    'make_rules',
]
