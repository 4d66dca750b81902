"""Evaluation of any folder of sounds: every metric with its interval and controls, and two folders in comparison."""

from melody.harness.evaluation.compare import compare
from melody.harness.evaluation.evaluate import evaluate
from melody.harness.evaluation.refusals import BadInputError

__all__ = ["BadInputError", "compare", "evaluate"]
