"""Scores of boxes, masks, mask boundaries and tracks, for models and for result files."""

from .cocofy import cocofy
from .detections import Detections, load_results
from .evaluate import Evaluation, evaluate
from .ground_truth import GroundTruth
from .rules import Rules, make_rules

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
