"""Evaluation of any folder of sounds: every metric with its interval and controls, and two folders in comparison."""
