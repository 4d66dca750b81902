"""Evaluation of any folder of sounds: every metric with its interval and controls, and two folders in comparison."""

from melody.harness.evaluation.one_set import evaluate
from melody.harness.evaluation.refusals import BadInputError
from melody.harness.evaluation.two_sets import compare

__all__ = ["BadInputError", "compare", "evaluate"]
