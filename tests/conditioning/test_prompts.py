"""What a prompt may be."""

from __future__ import annotations

import pytest

from melody.conditioning.prompts import MAX_PROMPT_CHARACTERS, check_prompt
from melody.errors import MelodyError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 3 is empty"),
        (" \n\t", "row 3 is empty"),
        ("x" * 10_000, "row 3 has 10,000 characters: expected at most 2,000"),
        (7, "row 3 is a int"),
    ],
)
def test_bad_prompt_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message) as caught:
        check_prompt(text, where="row 3")
    assert "\n" not in str(caught.value)


def test_the_longest_prompt_is_accepted() -> None:
    assert check_prompt("x" * MAX_PROMPT_CHARACTERS, where="the prompt") is None
