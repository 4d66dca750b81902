"""Parts of the page of an evaluation."""

from __future__ import annotations

import pytest

from melody.evaluation.result import Control
from melody.report.evaluation_layout import DASH, control_cells
from melody.report.plots.controls import control_style


def test_no_two_controls_look_alike_nor_any_like_the_generated_set() -> None:
    styles = [control_style(place) for place in range(12)]
    assert len(set(styles)) == 12
    assert all(marker != "o" and colour != "#d55e00" for colour, marker in styles)


@pytest.mark.parametrize(
    ("reason", "text"),
    [("the value is -inf", "−∞"), ("the value is inf", "∞"), ("the value is nan", DASH), ("an infinite loop", DASH)],
)
def test_what_has_no_value_is_told(reason: str, text: str) -> None:
    assert control_cells(Control(name="silence", value=None, n=3, reason=reason)).value == text
