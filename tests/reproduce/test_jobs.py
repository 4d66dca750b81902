"""Jobs and their results in the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melody.artifacts.store import Store
from melody.errors import MelodyError
from melody.reproduce.executor import compute_all
from melody.reproduce.jobs.job import Job, JobResult


@dataclass(frozen=True, kw_only=True)
class Given(Job):
    kind: ClassVar[str] = "test"
    given: Any

    def compute(self, context: Any) -> JobResult:
        return JobResult({})


class Another(Given):
    kind: ClassVar[str] = "another"


def test_a_result_comes_back_as_it_was_computed(tmp_path: Path) -> None:
    job = Given(given=0)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = JobResult({"value": 0.1, "none": None}, {"a": array}, {"00": b"flac"}, {"commit": "abc"})
    assert compute_all([job], Store(tmp_path), lambda _: result).computed == 1
    again = compute_all([job], Store(tmp_path), lambda _: pytest.fail("it is known"))
    assert again.reused == 1
    found = again.outcomes[job.key]
    assert isinstance(found, JobResult)
    assert (found.values, found.clips, found.origin) == (result.values, result.clips, result.origin)
    np.testing.assert_array_equal(found.arrays["a"], array)
    assert found.arrays["a"].dtype == np.float32


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), min_size=1))
def test_key_depends_on_content_and_not_on_order(config: dict[str, Any]) -> None:
    reordered = dict(reversed(config.items()))
    assert Given(given=config).key == Given(given=reordered, label="another label").key
    assert Given(given=config).key != Another(given=config).key
    assert Given(given=config).key != Given(given={**config, "more than 4": 1}).key


def test_config_with_nan_has_no_key() -> None:
    with pytest.raises(MelodyError, match="not a JSON value"):
        _ = Given(given=float("nan")).key
