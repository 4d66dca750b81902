"""What an evaluation is: the schema that ``melody evaluate`` and ``melody compare`` write and the page reads. No torch.

``reproduce.results.load_results`` reads it again.

A value of ``None`` is a number that is not there (infinite, or refused by the metric), and ``reason`` says why.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from melody.bounds import shown
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.entries import ResultEntry, to_frame

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION: Literal[2] = 2
"""Of everything that a command writes; ``reproduce.results`` says what it reads."""
REFERRED = ("embeddings", "labels", "waveform_pairs", "label_pairs")
"""Kinds of input whose metrics are measured against the reference."""

INPUT_KINDS_OF_VERSION_1 = {
    "windows": "embeddings",
    "clips": "waveforms",
    "pairs": "waveform_pairs",
    "texts": "text_audio_embeddings",
    "label-pairs": "label_pairs",
}
Better = Literal["a", "b", "undecided", "no direction"]


Direction = Literal["lower", "higher", "none"]
NOT_SHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Schema(BaseModel):
    """A part of a result, of text that every format can hold: what was measured may come from elsewhere."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _can_be_shown(cls, value: Any) -> Any:
        return showable(value)


class SavedResult(Schema, ABC):
    """What a command writes and ``melody.load_results`` reads."""

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        """Version 1, which lacks some fields; a score and a control know what they were called in it."""
        if isinstance(content, dict) and content.get("schema_version") == 1:
            return {**content, "schema_version": SCHEMA_VERSION}
        return content

    @abstractmethod
    def entries(self) -> list[ResultEntry]:
        """Its numbers, one after the other."""

    def to_pandas(self) -> pd.DataFrame:
        """Its numbers as one tidy data frame: a row for each, with ``row.AXIS`` for where it stands in its table."""
        return to_frame(self.entries())

    def to_json(self) -> str:
        """The content of its file."""
        return self.model_dump_json(indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        from melody.artifacts.files import write_bytes

        write_bytes(Path(path), self.to_json().encode())


def showable(value: Any) -> Any:
    r"""A value with escapes for characters that neither HTML, XML, CSV nor a font has: NUL, controls, surrogates.

    Raises ``ValueError`` for a whole number beyond what 64 bits hold.

    >>> showable({"a\0": ["b\ud800", 1]})
    {'a\\x00': ['b\\ud800', 1]}
    """
    if isinstance(value, str):
        return NOT_SHOWABLE.sub(lambda match: ascii(match[0])[1:-1], value)
    if isinstance(value, list | tuple):
        return [showable(item) for item in value]
    if isinstance(value, dict):
        return {showable(key): showable(item) for key, item in value.items()}
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError(f"expected a number, got {shown(value)}")
    return value


class Sample(Schema):
    """What a number was made of, so that its difference to another can be tested at equal prompts and seeds."""

    of: Literal["mean", "set", "repeats", "count"]
    """A mean over items (prompts, clips); a number of a whole set of them; a timing, whose seeds are repeats; a count,
    which is the same whenever it is made."""
    rows: list[list[float]] = []
    """A list a seed, in the order of ``by_seed``, or a single one where there are no seeds: of a mean the score of each
    item, of a set the number without each group of items in turn."""
    items: list[str] = []
    """What each item is called, in order, where that is known: of a mean one for each number of a row."""


class Measurement(Schema):
    """A number that we measured."""

    value: float
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    """How ``low`` and ``high`` come about, as in ``95 % jackknife over clips``."""
    standard_error: float | None = None
    by_seed: dict[str, float] = {}
    expected: int
    """Clips (or items) that should have been scored."""
    scored: int
    p_value: float | None = None
    """Of no effect; how it was tested is in ``interval``."""
    warning: str | None = None
    sample: Sample | None = None
    """Kept where an ordering is tested on the number."""


class Skipped(Schema):
    """A file that was not scored, or not by some metrics, and why."""

    file: str
    reason: str
    metrics: list[str] = Field(default_factory=list)
    """Empty: by none."""


class Inputs(Schema):
    """A folder of sounds: what was expected and read, and a hash of all that was."""

    folder: str
    expected: int
    read: int
    others: int
    """Files that are no sounds by their extension, and were passed over."""
    passed_over: dict[str, int] = Field(default_factory=dict)
    """The same by extension, in lower case with its dot, or nothing."""
    seconds: float
    formats: dict[str, int]
    """How many files of each format, rate and number of channels."""
    beyond_full_scale: int
    """Files with samples beyond ±1 in a channel: measured as they are, not clipped."""
    highest_peak: float
    silent: list[str] = Field(default_factory=list)
    """Files without a sample above −60 dB of full scale, of those that were read."""
    content: str
    """SHA-256 over identifiers and contents."""


class Control(Schema):
    """A metric's value where the answer is known: of no music, or of music itself."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    """Clips."""
    against: int | None = None
    """Clips of the reference that they were measured against, of metrics of sets."""
    distinguished: bool | None = None
    """Whether the metric tells it from music on this data; ``None`` for what is music itself, or not there, or what the
    metric does not claim to hear."""
    no_worse: bool | None = None
    """Whether it scores at least as well as the generated set, though it is no music; ``None`` as above."""
    reason: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        if isinstance(content, dict) and "told_apart" in content:
            content = dict(content)
            content["distinguished"] = content.pop("told_apart")
        return content


class ClipValue(Schema):
    """One clip's own value."""

    identifier: str
    file: str
    value: float


class Groups(Schema):
    """A metric of sets without each group of clips in turn, so that a later result of the same clips pairs with it."""

    clips: str
    """SHA-256 over the clips' identifiers in their order and the seed of the groups."""
    without: list[float]


class Score(Schema):
    """One metric of one set: a row of the table."""

    name: str
    """With what it stands on, as in ``fad[mel-stats]``."""
    metric: str
    version: str
    input_kind: str
    direction: Direction
    unit: str = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    interval: str | None = None
    """How ``low`` and ``high`` come about."""
    bias: float | None = None
    """Of a metric of sets: by how much the value is too large for want of clips, by the jackknife."""
    expected: int
    """Clips (or pairs) that should have been scored."""
    scored: int
    warnings: list[str] = Field(default_factory=list)
    reason: str = ""
    source: dict[str, Any] = Field(default_factory=dict)
    """Of the embedder, tagger or joint model: name, version, rate, window, hop, dimension, hash of the weights."""
    sample_rate: int | None = None
    """In Hz, of what a metric of waveforms heard; ``None`` for the files' own, or where ``source`` says it."""
    controls: list[Control] = Field(default_factory=list)
    clips: dict[str, float | None] = Field(default_factory=dict)
    """By identifier, where clips have values of their own."""
    groups: Groups | None = None
    worst: list[ClipValue] = Field(default_factory=list)
    """The clips farthest to the bad side, or from the middle if there is none."""

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        if isinstance(content, dict) and "takes" in content:
            content = dict(content)
            kind = content.pop("takes")
            content["input_kind"] = INPUT_KINDS_OF_VERSION_1.get(str(kind), kind)
        return content

    @property
    def indistinguishable_from(self) -> list[str]:
        """Controls that it does not tell from music on this data."""
        return [control.name for control in self.controls if control.distinguished is False]

    @property
    def beaten_by(self) -> list[str]:
        """Controls that are no music and score at least as well as the set."""
        return [control.name for control in self.controls if control.no_worse]


class Circumstances(Schema):
    """What decides the numbers beside the sounds."""

    seed: int
    device: str
    precision: str = "float32 features, float64 statistics"
    versions: dict[str, str]
    commit: str | None


class Evaluation(SavedResult):
    """One set of sounds, measured."""

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: Literal["evaluation"] = "evaluation"
    created: str
    """ISO 8601, UTC."""
    command: str = ""
    seconds: float
    sounds_computed: int
    """Sounds of which something was computed now; the others were known."""
    sounds_reused: int
    generated: Inputs
    reference: Inputs | None = None
    captions: str | None = None
    """SHA-256 over identifiers and texts."""
    scores: list[Score]
    skipped: list[Skipped] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    circumstances: Circumstances

    def __getitem__(self, name: str) -> Score:
        """The score of that name, as in ``fad[mel-stats]``; a metric's name does where there is one of it."""
        return _only(self.scores, name, "score")

    def entries(self) -> list[ResultEntry]:
        """A number for each score."""
        return [self._entry(score, self.kind, {}) for score in self.scores]

    def _entry(self, score: Score, suite: str, row: dict[str, str | int | float]) -> ResultEntry:
        referred = self.reference is not None and score.input_kind in REFERRED
        against = self.reference.content if self.reference is not None and referred else ""
        return ResultEntry(
            suite=suite,
            row=row,
            metric=score.name,
            version=score.version,
            direction=score.direction,
            unit=score.unit,
            value=score.value,
            low=score.low,
            high=score.high,
            standard_error=score.standard_error,
            interval=score.interval,
            expected=score.expected,
            scored=score.scored,
            reason=score.reason,
            against=(self.captions or "") if score.input_kind == "text_audio_embeddings" else against,
            record=score,
        )


class Difference(Schema):
    """One metric of two sets, paired by identifier: a − b."""

    name: str
    metric: str
    version: str
    direction: Direction
    unit: str = ""
    a: float | None
    b: float | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    pairs: int
    p_value: float | None = None
    p_method: str = ""
    p_holm: float | None = None
    """Holm's correction over the table."""
    effect_size: float | None = None
    """Cohen's d_z: the difference in standard deviations of the pairs' differences; ``None`` if those are all equal."""
    better: Better = "undecided"
    reason: str = ""
    indistinguishable_from: list[str] = Field(default_factory=list)
    beaten_by: list[str] = Field(default_factory=list)
    """Controls that are no music and score at least as well as one of the sets."""


class Comparison(SavedResult):
    """Two sets of sounds, measured, and their differences."""

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: Literal["comparison"] = "comparison"
    created: str
    command: str = ""
    seconds: float
    a: Evaluation
    b: Evaluation
    pairs: int
    differences: list[Difference]
    skipped: list[Skipped] = Field(default_factory=list)
    """Clips without a partner."""
    notes: list[str] = Field(default_factory=list)

    def __getitem__(self, name: str) -> Difference:
        """The difference of that name; a metric's name does where there is one of it."""
        return _only(self.differences, name, "row")

    def rows(self, names: Iterable[str]) -> list[Difference]:
        """The differences of those names, or of metrics of those names; raises ``MelodyError`` for one without any."""
        named: dict[str, Difference] = {}
        for name in names:
            if not (rows := _named(self.differences, name)):
                hint = did_you_mean(name, [row.name for row in self.differences])
                raise MelodyError(f"no metric {name!r} was compared{hint}")
            named |= {row.name: row for row in rows}
        return list(named.values())

    def entries(self) -> list[ResultEntry]:
        """Every score of either side, and the differences, by ``side``."""
        sides = (("a", self.a), ("b", self.b))
        scores = [result._entry(score, self.kind, {"side": name}) for name, result in sides for score in result.scores]
        return scores + [_difference_entry(row) for row in self.differences]


Named = TypeVar("Named", Score, Difference)


def _named(rows: Sequence[Named], name: str) -> list[Named]:
    """The one of that name, as in ``fad[mel-stats]``, or all of the metric of that name."""
    return [row for row in rows if row.name == name] or [row for row in rows if row.metric == name]


def _only(rows: Sequence[Named], name: str, what: str) -> Named:
    """As ``_named``; raises ``MelodyError`` for none, or several."""
    named = _named(rows, name)
    if not named:
        raise MelodyError(f"no {what} {name!r}{did_you_mean(name, [row.name for row in rows])}")
    if len(named) > 1:
        raise MelodyError(f"{name!r} is the metric of {len(named)} {what}s: {', '.join(row.name for row in named)}")
    return named[0]


def _difference_entry(row: Difference) -> ResultEntry:
    return ResultEntry(
        suite="comparison",
        row={"side": "a - b"},
        metric=row.name,
        version=row.version,
        direction=row.direction,
        unit=row.unit,
        value=row.value,
        low=row.low,
        high=row.high,
        interval=row.interval,
        p_value=row.p_holm,
        expected=row.pairs,
        scored=row.pairs,
        verdict=row.better,
        reason=row.reason,
        record=row,
    )
