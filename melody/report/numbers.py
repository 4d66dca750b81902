"""How numbers are written: as many digits as their interval supports, printed values as printed."""

from __future__ import annotations

import math
from typing import TypeGuard

from melody.evaluation.result import Measurement

YES_NO = "yes = 1"
"""Unit of capabilities: 1 is yes, 0 is no."""


SMALLEST, LARGEST = 1e-30, 1e30
"""Magnitudes between which axes are drawn; beyond them matplotlib's arithmetic overflows."""


def drawable(value: object) -> TypeGuard[int | float]:
    """Whether an axis can show a number: it is there, finite and of no absurd size.

    >>> drawable(0.0), drawable(-5), drawable(None), drawable(float("inf")), drawable(1e300)
    (True, True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or SMALLEST <= abs(value) <= LARGEST


def in_legend(label: str) -> str:
    """A label that matplotlib lists: it hides those that begin with an underscore.

    >>> in_legend("heun"), in_legend("_own")
    ('heun', ' _own')
    """
    return f" {label}" if label.startswith("_") else label


def printed(value: float, unit: str = "") -> str:
    """A number that somebody printed, with all its digits.

    >>> printed(181100.0), printed(0.43), printed(-0.5), printed(1.0, "yes = 1")
    ('181,100', '0.43', '−0.5', 'yes')
    """
    if unit == YES_NO and value in (0.0, 1.0):
        return "yes" if value else "no"
    return _typeset(value, f"{value:,.10g}")


def derived(value: float, unit: str = "") -> str:
    """A number that we derived from printed ones: six significant digits.

    >>> derived(95.8933333), derived(18750.0)
    ('95.8933', '18,750')
    """
    return printed(float(f"{value:.6g}"), unit)


def rounded(value: float, unit: str = "") -> str:
    """A computed number without an interval: four significant digits, whole numbers whole.

    >>> rounded(0.123456), rounded(18750.0), rounded(43219.27), rounded(3.0), rounded(float("nan"))
    ('0.1235', '18,750', '43,219', '3', 'NaN')
    """
    if unit == YES_NO and value in (0.0, 1.0):
        return "yes" if value else "no"
    if math.isfinite(value) and (abs(value) >= 1000 or value == round(value)):
        return _typeset(value, f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}")
    return _typeset(value, f"{value:.4g}")


def measured(measurement: Measurement, unit: str = "") -> tuple[str, str]:
    """A measured number and its interval, ``±`` where it is symmetric, both to two digits of the half width.

    >>> measured(Measurement(value=5.9312, low=5.52, high=6.34, expected=1, scored=1))
    ('5.93', '± 0.41')
    >>> measured(Measurement(value=5.9312, low=5.8, high=6.9, expected=1, scored=1))
    ('5.93', '(5.80 to 6.90)')
    >>> measured(Measurement(value=560372.0, low=535362.0, high=585382.0, expected=1, scored=1))
    ('560,000', '± 25,000')
    """
    low, high = measurement.low, measurement.high
    if low is None or high is None or not math.isfinite(high - low) or high <= low:
        return rounded(measurement.value, unit), ""
    half = (high - low) / 2
    digits = 1 - math.floor(math.log10(half)) if half else 400
    if not -15 <= digits <= 6:  # so large, or so small that digits after the point no longer read well
        return _typeset(
            measurement.value, f"{measurement.value:.4g}"
        ), f"({_signed(low, '.4g')} to {_signed(high, '.4g')})"
    symmetric = abs((high + low) / 2 - measurement.value) <= 0.02 * half
    value, low, high, half = (round(number, digits) for number in (measurement.value, low, high, half))
    style = f",.{max(0, digits)}f"
    if symmetric:
        return _signed(value, style), f"± {half:{style}}"
    return _signed(value, style), f"({_signed(low, style)} to {_signed(high, style)})"


def exact(value: float) -> str:
    """Every digit that the number has, for provenance.

    >>> exact(0.1), exact(270.0)
    ('0.1', '270')
    """
    return _typeset(value, repr(int(value)) if math.isfinite(value) and value == int(value) else repr(value))


def _signed(value: float, style: str) -> str:
    return _typeset(value, format(value, f"z{style}"))


def _typeset(value: float, text: str) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return text.replace("-", "−")
