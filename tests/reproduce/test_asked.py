"""Options of a run that a suite has no use for: told, or refused where none has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from melody.artifacts.store import Store
from melody.errors import MelodyError
from melody.reproduce.runner import reproduce
from melody.reproduce.suite import load_suites


@pytest.mark.parametrize(
    ("suites", "options", "message"),
    [
        (["small"], {"systems": ["musiclm"]}, "has no use in small: .* of kind quality-and-speed with compare = true"),
        (["step-time"], {"samplers": ["heun"]}, "--sampler heun has no use in step-time: .* an axis of samplers"),
        (["table5", "claims"], {"systems": ["noise2music"]}, "--system noise2music has no use in table5, claims"),
        (["speed"], {"systems": ["musiclm"]}, "--system musiclm has no use in speed"),
        (["table2"], {"budget_s": 5.0}, "--budget-s has no use in table2"),
        (["table2"], {"published_samples": Path("here")}, "--published-samples has no use in table2"),
    ],
)
def test_what_no_suite_uses_is_refused(
    suites: list[str], options: dict[str, Any], message: str, small_suite: Path, tiny_path: Path, tmp_path: Path
) -> None:
    chosen = load_suites([str(small_suite) if name == "small" else name for name in suites])
    with pytest.raises(MelodyError, match=message) as caught:
        reproduce(chosen, preset=tiny_path, store=Store(tmp_path / "store"), output=tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_some_suites_use_is_told_of_the_others(
    small_suite: Path, tiny_path: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    compared = tmp_path / "compared.toml"
    compared.write_text(
        small_suite.read_text().replace('"small"', '"compared"').replace('-speed"', '-speed"\ncompare = true', 1)
    )
    with pytest.raises(MelodyError, match="no-such-folder"):  # told before anything is looked at
        reproduce(
            load_suites([small_suite, compared]),
            preset=tiny_path,
            weights=tiny_weights,
            systems=["folder=no-such-folder"],
            store=Store(tmp_path / "store"),
            output=tmp_path / "out",
            tell=told.append,
        )
    assert [line.partition(" (")[0] for line in told] == ["--system folder=no-such-folder: not in small"]
