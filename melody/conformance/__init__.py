"""``melody check-plugin``: whether a component keeps what its kind promises, a line for each check."""

from __future__ import annotations

from melody.conformance import generating, measuring
from melody.conformance.checks import candidates, run_checks

__all__ = ["candidates", "generating", "measuring", "run_checks"]
