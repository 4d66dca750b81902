"""Several systems in one run: which, how they are known, and that one which misbehaves spoils only its own cells."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from melody.artifacts.store import Store
from melody.config import load_preset
from melody.errors import MelodyError
from melody.listening.analysis import analyse
from melody.listening.schema import ListeningResult
from melody.protocols import Generation, GenerationStats, System
from melody.registry import Entry, systems
from melody.reproduce.results import Cell, Results, Table
from melody.reproduce.runner import plan, run
from melody.reproduce.systems import RunDefaults, SystemEntry, systems_of

ALIVE: list[weakref.ref[Any]] = []
RATE = 24_000


class Hummer(System):
    """Hums a prompt's tone."""

    name = "hummer"
    sample_rate = RATE
    capabilities: ClassVar[frozenset[str]] = frozenset({"audio-continuation"})
    options: ClassVar[frozenset[str]] = frozenset({"loudness", "slowly"})

    def __init__(self, weights: str | None = None) -> None:
        self.weights = weights
        ALIVE.append(weakref.ref(self))

    def generate(self, prompts: Any, *, duration_s: float, seeds: Any, **options: Any) -> Generation:
        rows = [self.tone(float(prompt.split()[3]), duration_s) for prompt in prompts]
        made = self.made(torch.stack(rows)[:, None] * options.get("loudness", 1.0))
        return (
            replace(made, trace=GenerationStats({"net": 70}, {"net": 70}, {"net": 70})) if "slowly" in options else made
        )

    def continue_from(self, audio: Any, prompts: Any, *, duration_s: float, seeds: Any, **options: Any) -> Generation:
        given, rate = audio
        return self.made(torch.cat([given, given[-round(duration_s * rate) :]])[None, None])

    def identity(self) -> dict[str, Any]:
        return {"hums": 1}

    def tone(self, frequency: float, duration_s: float) -> torch.Tensor:
        return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(round(duration_s * RATE)) / RATE)

    def made(self, waveform: torch.Tensor) -> Generation:
        return Generation(waveform, RATE, GenerationStats({"net": 7}, {"net": 7}, {"net": 7}))


class Dying(Hummer):
    """Dies."""

    def generate(self, *arguments: Any, **options: Any) -> Generation:
        raise ValueError("out of\nluck")


class OutOfTune(Hummer):
    """Makes NaN."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return super().made(waveform * math.nan)


class OffRate(Hummer):
    """Makes another rate."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return Generation(waveform, 22_050, GenerationStats())


class Hasty(Hummer):
    """Ends early."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return super().made(waveform[..., :-480])


class Nothing(Hummer):
    """Returns nothing."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return None  # type: ignore[return-value]


class Whole(Hummer):
    """Makes 16-bit samples."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return super().made((32_767 * waveform).to(torch.int16))


class Miscounting(Hummer):
    """Counts in words."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return Generation(waveform, RATE, GenerationStats({"net": "seven"}))  # type: ignore[dict-item]


class Tuneless(Hummer):
    """Has a rate that is none."""

    sample_rate = 24_000.5  # type: ignore[assignment]


class Brief(Hummer):
    """Makes one second at most."""

    longest_s = 1.0


class Player(Hummer):
    """Plays back, without a network."""

    capabilities: ClassVar[frozenset[str]] = frozenset()

    def made(self, waveform: torch.Tensor) -> Generation:
        return Generation(waveform, RATE, GenerationStats())


class Mute(Hummer):
    """Makes silence."""

    def made(self, waveform: torch.Tensor) -> Generation:
        return super().made(torch.zeros_like(waveform))


class Silent(Hummer):
    """Says that it continues audio, and adds silence."""

    def continue_from(self, audio: Any, prompts: Any, *, duration_s: float, seeds: Any, **options: Any) -> Generation:
        given, rate = audio
        return self.made(torch.cat([given, torch.zeros(round(duration_s * rate))])[None, None])


class Deaf(Hummer):
    """Says that it continues audio, and adds the same to all."""

    def continue_from(self, audio: Any, prompts: Any, *, duration_s: float, seeds: Any, **options: Any) -> Generation:
        return self.made(torch.cat([audio[0], self.tone(330.0, duration_s)])[None, None])


class Absent(Hummer):
    """Cannot be built."""

    def __init__(self, weights: str | None = None) -> None:
        raise MelodyError("the weights are at a place that this machine does not reach")


FAKES = {
    "hummer": Hummer,
    "dying": Dying,
    "out-of-tune": OutOfTune,
    "off-rate": OffRate,
    "hasty": Hasty,
    "nothing": Nothing,
    "whole": Whole,
    "miscounting": Miscounting,
    "tuneless": Tuneless,
    "brief": Brief,
    "player": Player,
    "silent": Silent,
    "mute": Mute,
    "deaf": Deaf,
    "absent": Absent,
}


@pytest.fixture(scope="module")
def fakes() -> Iterator[None]:
    plugins = systems._load_plugins()
    for name, component in FAKES.items():
        plugins[name] = Entry(name, f"plug-in (elsewhere:{component.__name__})", component, version="1")
    yield
    for name in FAKES:
        del plugins[name]


@pytest.fixture(scope="module")
def found(fakes: None) -> Callable[..., dict[str, SystemEntry]]:
    """Systems by what ``--system`` asks for; of plug-ins that are there by themselves, only the fakes."""

    def of(*asked: str) -> dict[str, SystemEntry]:
        preset = load_preset("demo")
        everything = systems_of(RunDefaults(preset, "cpu"), asked)
        return {name: one for name, one in everything.items() if one.use in FAKES}

    return of


def _suites(tones: SimpleNamespace) -> list[Any]:
    return [tones.small(name) for name in ("table1", "table2", "table3", "claims")]


@pytest.fixture(scope="module")
def compared(
    tones: SimpleNamespace, found: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("compared")
    context = tones.context(others=found())
    return run(_suites(tones), context, store=Store(folder / "store"), output=folder / "out"), folder


def _cell(results: Results, suite: str, column: str, system: str) -> Cell:
    (table,) = (table for table in results.tables if table.suite == suite)
    return _of(table, column, system)


def _of(table: Table, column: str, system: str) -> Cell:
    (cell,) = (c for c in table.cells if c.column == column and c.row.get("system") == system)
    return cell


def test_a_system_is_a_row_of_every_table_that_compares(compared: tuple[Results, Path]) -> None:
    results, _ = compared
    for suite, column, value in (
        ("table1", "continuation", 1),
        ("table1", "faster_than_real_time", 1),
        ("table1", "various_prompts", 1),
        ("table2", "passes", 7),
        ("table3", "nfe", 7),
        ("table3", "nfe_formula", 7),
    ):
        cell = _cell(results, suite, column, "hummer")
        assert cell.measured is not None, cell.reason
        assert cell.measured.value == value, (suite, column)
        assert cell.provenance is not None
    assert _cell(results, "table3", "musicality_musiclm", "hummer").measured is None
    assert "--ratings" in _cell(results, "table1", "producers", "hummer").reason
    assert "too short" in _cell(results, "table3", "beat_strength", "hummer").reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dying", "system 'dying': ValueError: out of luck"),
        ("out-of-tune", "system 'out-of-tune' made audio that holds NaN or infinity"),
        ("off-rate", "system 'off-rate' made audio at 22050 Hz; it says that it makes 24000 Hz"),
        ("hasty", "system 'hasty' made audio of shape (6, 1, 47520), expected (6, 1, 48000)"),
        ("nothing", "system 'nothing' gave NoneType, expected a Generation"),
        ("whole", "system 'whole' made audio as torch.int16, expected a tensor of floating-point numbers"),
        ("miscounting", "system 'miscounting': passes of net are 'seven', expected a whole number"),
        (
            "tuneless",
            "system 'tuneless' cannot be loaded: system 'tuneless' from plug-in (elsewhere:Tuneless): "
            "sample_rate is 24000.5: expected a whole number of Hz, 1 to 768,000",
        ),
        ("brief", "system 'brief' makes clips of 1 s at most, not of 2 s"),
        ("absent", "system 'absent' cannot be loaded: the weights are at a place that this machine does not reach"),
    ],
)
def test_one_that_misbehaves_spoils_only_its_cells(compared: tuple[Results, Path], name: str, reason: str) -> None:
    results, _ = compared
    for suite, column in (("table2", "fad"), ("table3", "mcc"), ("table1", "various_prompts")):
        assert (_cell(results, suite, column, name).verdict, _cell(results, suite, column, name).reason) == (
            "not attempted",
            reason,
        )
    assert any(reason in failure for failure in results.failures) == (name not in ("absent", "tuneless"))
    for column in ("fad", "mcc", "passes", "cpu_rtf"):
        assert _cell(results, "table2", column, "hummer").measured is not None
    (table,) = (table for table in results.tables if table.suite == "table2")
    assert all(c.measured for c in table.cells if c.column == "fad" and c.row.get("num_steps"))


def test_passes_are_counted_by_the_papers_convention_and_at_best(
    tones: SimpleNamespace, found: Callable[..., Any], tmp_path: Path
) -> None:
    """As Table 3 counts MusicLM, one fine window after the other; and as the system makes clips by itself."""
    context = tones.context(others={"musiclm": found()["hummer"]})
    suites = [
        tones.small(name, counted={"hummer": {"slowly": 1}}, judges=False).model_copy(update={"targets": ()})
        for name in ("table3", "claims")
    ]
    columns = tuple(suites[0].column(name) for name in ("nfe", "nfe_of_clips"))
    suites[0] = suites[0].model_copy(update={"columns": columns, "paper": ()})
    table3, claims = run(suites, context, store=Store(tmp_path / "store"), output=tmp_path).tables
    assert _value(_of(table3, "nfe", "musiclm")) == 70
    assert _value(_of(table3, "nfe_of_clips", "musiclm")) == 7
    assert "musiclm: the proxies are of clips of 7 passes, not of the 70 that are counted." in table3.notes
    assert not any(note.startswith("melody: the proxies") for note in table3.notes)
    counts = {
        (cell.row["basis"], cell.column): _value(cell)
        for cell in claims.cells
        if cell.row["duration_s"] == 10 and str(cell.row["basis"]).startswith("both")
    }
    best = "both counted by hooks, MusicLM as fast as it can"
    assert counts["both counted by hooks", "musiclm_passes"] == 70
    assert counts[best, "musiclm_passes"] == 7
    assert counts[best, "saving"] < counts["both counted by hooks", "saving"]


def _value(cell: Cell) -> float:
    assert cell.measured is not None, cell.reason
    return cell.measured.value


def test_silent_clips_are_told_beside_every_number_that_they_are_in(compared: tuple[Results, Path]) -> None:
    results, _ = compared
    for suite in ("table2", "table3"):
        cell = _cell(results, suite, "fad", "mute")
        assert cell.measured is not None, cell.reason
        assert (cell.measured.warning or "").startswith("18 of 18 generated clips are silent")
        assert "silent" not in (_cell(results, suite, "fad", "hummer").measured.warning or "")
    assert _cell(results, "table2", "passes", "mute").measured.warning is None


def test_what_makes_no_pass_has_neither_passes_nor_speed(compared: tuple[Results, Path]) -> None:
    results, _ = compared
    assert _cell(results, "table2", "fad", "player").measured is not None
    assert "no passes" in _cell(results, "table2", "passes", "player").reason
    assert "no speed" in _cell(results, "table2", "cpu_rtf", "player").reason
    assert "does not declare" in _cell(results, "table1", "continuation", "player").reason


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("silent", "6 fail: clip 1: silence"),
        ("out-of-tune", "6 fail: clip 1: NaN or infinity"),
        ("off-rate", "6 fail: clip 1: audio at 22050 Hz, expected 24000 Hz"),
        ("deaf", None),
    ],
)
def test_continuation_that_cheats_fails(compared: tuple[Results, Path], name: str, warning: str | None) -> None:
    measured = _cell(compared[0], "table1", "continuation", name).measured
    assert measured is not None
    assert (measured.value, measured.warning) == (0, warning)
    assert warning is not None or (measured.p_value or 0) > 0.5


def test_a_second_run_tries_only_what_failed(
    compared: tuple[Results, Path], tones: SimpleNamespace, found: Callable[..., Any], tmp_path: Path
) -> None:
    results, folder = compared
    again = run(_suites(tones), tones.context(others=found()), store=Store(folder / "store"), output=tmp_path)
    assert (again.cells_computed, again.cells_reused) == (0, results.cells_computed)
    assert again.failures == results.failures
    assert again.tables == results.tables


def test_other_weights_are_another_key(tones: SimpleNamespace, found: Callable[..., Any], tmp_path: Path) -> None:
    keys = []
    for content, card in ((b"one", "first"), (b"two", "first"), (b"two", "mended")):
        (tmp_path / "w.safetensors").write_bytes(content)
        (tmp_path / "CARD.md").write_text(card)
        context = tones.context(others={k: v for k, v in found(f"hummer={tmp_path}").items() if k == "hummer"})
        jobs = plan([tones.small("table2")], context).jobs
        keys.append({job.key for job in jobs if job.system_name == "hummer"})
        keys[-1] |= {job.key for job in jobs if job.system_name == "melody"}
        assert [job.system_name for job in jobs] == sorted((job.system_name for job in jobs), key="melody hummer".index)
    ours = len(plan([tones.small("table2")], tones.context()).jobs)
    assert len(keys[0] & keys[1]) == ours
    assert len(keys[0] - keys[1]) == 4, "three seeds and a timing"
    assert keys[1] == keys[2], "words about the weights decide nothing"


def test_weights_that_lie_in_files_are_loaded_when_they_are_needed(
    tones: SimpleNamespace, found: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"one")
    plan([tones.small("table2")], tones.context(others=found(f"absent={tmp_path}")))
    (tmp_path / "out").mkdir()
    with pytest.raises(MelodyError, match="system 'absent' cannot be loaded: the weights are at a place"):
        run(
            [tones.small("table2")],
            tones.context(others=found(f"absent={tmp_path}")),
            store=Store(tmp_path / "s"),
            output=tmp_path / "out",
        )
    assert not list((tmp_path / "s").rglob("*.safetensors")), "what was asked for is checked first"


def test_one_system_at_a_time_is_in_memory(tones: SimpleNamespace, found: Callable[..., Any]) -> None:
    context = tones.context(others=found())
    ALIVE.clear()
    for name in ("hummer", "player", "hummer"):
        assert type(context.loaded.system(name)) is FAKES[name]
        assert context.loaded.system(name) is context.loaded.system(name)
        assert [type(one()) for one in ALIVE if one() is not None] == [FAKES[name]]
    assert len(ALIVE) == 3


def test_options_come_from_the_suite_or_from_a_file(
    tones: SimpleNamespace, found: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('use = "hummer"\ntitle = "quiet"\n[options]\nloudness = 0.5\n')
    others = found(str(tmp_path / "mine.toml"))
    context = tones.context(others={name: others[name] for name in ("hummer", "quiet")})
    jobs = plan([tones.small("table2", systems={"hummer": {"loudness": 0.9}})], context).jobs
    given = {job.system_name: job.config["options"]["loudness"] for job in jobs if job.system_name != "melody"}
    assert given == {"hummer": 0.9, "quiet": 0.5}
    with pytest.raises(MelodyError, match="system 'hummer' takes no option 'loudnes'; did you mean 'loudness'"):
        plan([tones.small("table2", systems={"hummer": {"loudnes": 0.9}})], context)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["hummre"], "unknown system 'hummre'; did you mean 'hummer'"),
        (["hummer", "hummer=elsewhere"], "two systems 'hummer'"),
        (["nowhere.toml"], "nowhere.toml"),
        (["wrong.toml"], "wrong.toml.*tile"),
        (["absent"], "system 'absent' cannot be loaded"),
    ],
)
def test_bad_input_is_one_line(
    tones: SimpleNamespace,
    found: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text('use = "hummer"\ntile = "mine"\n')
    with pytest.raises(MelodyError, match=message) as caught:
        plan([tones.small("table2")], tones.context(others=found(*asked)))
    assert "\n" not in str(caught.value)


def test_ratings_fill_columns_of_their_own(
    tones: SimpleNamespace, found: Callable[..., Any], compared: tuple[Results, Path], tmp_path: Path
) -> None:
    lines = ["rater,item,question,system_a,system_b,answer"]
    for rater in range(4):
        answers = ["first"] * 3 + ["second"]
        lines += [f"r{rater},i{item},musicality,melody,hummer,{answer}" for item, answer in enumerate(answers)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    ratings: ListeningResult = analyse(tmp_path / "ratings.csv")
    context = tones.context(others=found(), ratings=ratings)
    suites = [tones.small("table1"), tones.small("table3")]
    results = run(suites, context, store=Store(compared[1] / "store"), output=tmp_path / "o")
    rated = _cell(results, "table3", "rated_musicality", "hummer")
    assert rated.measured is not None
    assert rated.measured.value == pytest.approx(0.25)
    assert "no judgement" in _cell(results, "table3", "rated_quality", "hummer").reason
    assert _cell(results, "table3", "musicality_musiclm", "melody").measured is None
    producers = {name: _cell(results, "table1", "producers", name).measured for name in ("hummer", "melody", "dying")}
    assert {name: one.value for name, one in producers.items() if one} == {"hummer": 1, "melody": 1}
