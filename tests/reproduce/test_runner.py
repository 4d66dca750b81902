from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile

from melody.artifacts.store import Store
from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.protocols import Denoiser
from melody.registry import Entry, denoisers
from melody.reproduce.jobs.denoiser_ablation import FOLDER
from melody.reproduce.orderings import orderings
from melody.reproduce.results import Cell, Results, Table, load_results
from melody.reproduce.runner import plan, run
from melody.reproduce.suite import load_suites, suite_names

WORKER = """
import sys, time
from pathlib import Path
from melody.artifacts.store import Store
from melody.reproduce.jobs.job import JobResult, Job
from melody.reproduce.executor import compute_all
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Numbered(Job):
    kind = "test"
    n: int

    def compute(self, context):
        with open(sys.argv[2], "a") as log:
            log.write(f"{self.n}\\n")
        time.sleep(0.01)
        return JobResult({"n": self.n})

while not Path(sys.argv[3]).exists():
    time.sleep(0.01)
jobs = [Numbered(n=n) for n in range(40)]
done = compute_all(jobs, Store(sys.argv[1]), lambda job: job.compute(None))
assert [done.outcomes[job.key].values["n"] for job in jobs] == list(range(40))
assert done.computed + done.reused == 40
print(done.computed)
"""


def _cells(table: Table, column: str, **row: Any) -> list[Cell]:
    return [c for c in table.cells if c.column == column and all(c.row.get(k) == v for k, v in row.items())]


@pytest.fixture(scope="module")
def undisturbed(tones: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    suites = [tones.small(name) for name in suite_names()]
    return run(suites, tones.context(), store=Store(folder / "store"), output=folder / "out", command="test"), folder


def test_no_cell_is_without_a_verdict_and_a_reason(undisturbed: tuple[Results, Path]) -> None:
    results, _ = undisturbed
    assert [table.suite for table in results.tables] == suite_names()
    for table in results.tables:
        assert table.cells
        rows = {tuple(cell.row.items()) for cell in table.cells}
        columns = {cell.column for cell in table.cells}
        assert len(table.cells) == len(rows) * len(columns), "a place of the table has no cell"
        for cell in table.cells:
            assert cell.reason
            assert (cell.measured is None) == (cell.provenance is None)
            if cell.verdict == "not attempted":
                assert cell.measured is None


def test_every_measured_number_says_what_it_hangs_on(undisturbed: tuple[Results, Path]) -> None:
    results, folder = undisturbed
    store = {path.stem for path in (folder / "store").rglob("*.safetensors")}
    measured = [cell for table in results.tables for cell in table.cells if cell.measured]
    assert len(measured) > 30
    for cell in measured:
        assert cell.provenance is not None
        assert cell.provenance.versions["torch"]
        assert cell.provenance.device.startswith("cpu (")
        assert cell.provenance.cells
        assert set(cell.provenance.cells) <= store


def test_results_and_clips_are_written(undisturbed: tuple[Results, Path]) -> None:
    results, folder = undisturbed
    assert load_results(folder / "out" / "results.json") == results
    clips = [clip for table in results.tables for clip in table.clips]
    assert clips
    for clip in clips:
        assert soundfile.info(folder / "out" / clip.path).duration == 2.0


def test_orderings_of_a_system_that_obeys_them_hold(undisturbed: tuple[Results, Path]) -> None:
    tables = {table.suite: table for table in undisturbed[0].tables}
    verdicts = {o.claim: o.verdict for o in tables["table4"].orderings if o.column == "fad"}
    assert (
        verdicts["FAD of the linear schedule is lower than of the uniform one at 10 steps (sampler = ddim)"] == "holds"
    )
    assert set(verdicts.values()) == {"holds"}
    assert any(note.startswith("Holds") for note in tables["table4"].notes)


def test_counts_and_claims(undisturbed: tuple[Results, Path]) -> None:
    tables = {table.suite: table for table in undisturbed[0].tables}
    counted = {
        (c.row["duration_s"], c.column): c for c in tables["claims"].cells if c.row["basis"] == "counted by hooks"
    }
    assert counted[10, "saving"].verdict == "reproduced"
    assert counted[10, "saving"].measured is not None
    assert counted[10, "saving"].measured.value == pytest.approx(95.68)
    (printed,) = _cells(tables["claims"], "saving", duration_s=30, basis="printed formula")
    assert printed.verdict == "not counted", "the paper's own basis has the verdict"
    assert counted[30, "saving"].verdict == "off"
    assert printed.measured is None
    assert printed.projected is not None
    assert printed.projected.value == pytest.approx(95.893, abs=1e-3)
    (theirs,) = _cells(tables["claims"], "musiclm_passes", duration_s=30, basis="printed formula")
    assert theirs.verdict == "not counted", "a formula held against itself could only agree"
    stated = {one.text: one for one in undisturbed[0].statements}
    assert len(stated) == 16
    verdicts = {text[:6]: one.verdict for text, one in stated.items()}
    assert (verdicts["95.7 %"], verdicts["99.6 %"]) == ("comes out", "does not come out")
    facts = [cell for cell in tables["published-samples"].cells if cell.column == "sample_rate"]
    assert facts
    assert all(cell.statement is None for cell in [printed, theirs, *facts])


def test_orderings_can_be_tested_again_from_what_is_kept(
    undisturbed: tuple[Results, Path], tones: SimpleNamespace
) -> None:
    results, folder = undisturbed
    kept = {table.suite: table for table in load_results(folder / "out" / "results.json").tables}
    for table in results.tables:
        assert orderings(tones.small(table.suite), kept[table.suite].cells) == table.orderings
    decided = [o for o in kept["table2"].orderings if o.p_holm is not None]
    assert len(decided) >= 6
    assert any("paired by both" in o.reason for o in decided)
    assert any("not paired" in o.reason for o in decided), "real clips have no seeds"


def test_what_cannot_be_measured_says_why_by_look_up(undisturbed: tuple[Results, Path]) -> None:
    tables = {table.suite: table for table in undisturbed[0].tables}
    expected = "learnt from another codec" if (FOLDER / "card.json").is_file() else "there are no weights unet-1d-0"
    assert expected in _cells(tables["table5"], "si_snri", denoiser="unet-1d")[0].reason
    assert _cells(tables["table1"], "continuation", system="mousai")[0].reason == "no system 'mousai' is registered"
    assert "listeners" in _cells(tables["table3"], "quality_musiclm", system="melody")[0].reason
    assert "does not declare" in _cells(tables["table1"], "continuation", system="melody")[0].reason
    (speed,) = _cells(tables["table2"], "gpu_rtf", num_steps=5)
    assert speed.reason == "this run is on cpu; the column is for cuda"
    assert speed.paper is not None
    for cell in tables["published-samples"].cells:
        assert (cell.verdict, "git clone" in cell.reason) == ("not attempted", True)


def test_denoiser_that_predicts_nothing_scores_as_it_must(undisturbed: tuple[Results, Path]) -> None:
    tables = {table.suite: table for table in undisturbed[0].tables}
    (error,) = _cells(tables["table5"], "velocity_mse", denoiser="dual-path of preset tones")
    assert error.measured is not None
    # Mean of cos²δ·E[ε²] + sin²δ·E[z²] over uniform angles: half of 1 + 0.125.
    assert error.measured.value == pytest.approx(0.5625, rel=0.03)
    assert error.measured.scored == error.measured.expected == 10


def test_second_run_computes_nothing_and_says_the_same(
    undisturbed: tuple[Results, Path], tones: SimpleNamespace, tmp_path: Path
) -> None:
    results, folder = undisturbed
    system = tones.System()
    suites = [tones.small(name) for name in suite_names()]
    again = run(suites, tones.context(system), store=Store(folder / "store"), output=tmp_path)
    assert (again.cells_computed, again.cells_reused) == (0, results.cells_computed)
    assert system.calls == []
    assert again.tables == results.tables


def test_a_reused_number_keeps_the_commit_that_computed_it(
    tones: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, store = tones.small("table4", seeds=(0,)), Store(tmp_path / "s")
    monkeypatch.setattr("melody.reproduce.context.commit", lambda: "first")
    run([suite], tones.context(), store=store, output=tmp_path / "o")
    monkeypatch.setattr("melody.reproduce.context.commit", lambda: "second")
    more = tones.small("table4", seeds=(0, 1))
    for again, expected in ((suite, "first"), (more, "first, second")):
        (table,) = run([again], tones.context(), store=store, output=tmp_path / "o").tables
        (cell,) = _cells(table, "mcc", grid="uniform", num_steps=10)
        assert cell.provenance is not None
        assert cell.provenance.commit == expected


def test_interrupted_run_goes_on_to_the_same_numbers(
    undisturbed: tuple[Results, Path], tones: SimpleNamespace, tmp_path: Path
) -> None:
    suite, store = tones.small("table4"), tmp_path / "store"

    def interrupt(done: int, total: int, label: str) -> None:
        if (done, total) == (5, 16):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([suite], tones.context(), store=Store(store), output=tmp_path / "out", progress=interrupt)
    assert not (tmp_path / "out" / "results.json").exists()
    results = run([suite], tones.context(), store=Store(store), output=tmp_path / "out")
    assert (results.cells_computed, results.cells_reused) == (11, 5)
    assert sum(share.units for share in results.split) == 11, "the time of this run, not of the one before"
    assert 0 < sum(share.seconds for share in results.split) <= results.seconds
    assert {share.work for share in results.split} >= {"melody: generation"}
    whole = next(table for table in undisturbed[0].tables if table.suite == "table4")
    assert results.tables == [whole]


def test_progress_names_all_that_a_run_does(tones: SimpleNamespace, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    suites, context = [tones.small("table2"), tones.small("table4")], tones.context()
    run(suites, context, store=Store(tmp_path), output=tmp_path / "o", progress=lambda *each: told.append(each))
    whats = [what for _, _, what in told]
    labels = [job.label for job in plan(suites, context).jobs]
    assert whats[0] == "table2: planning", "before anything is read"
    assert f"reading or rendering {context.loaded.corpus.name}" in whats[: whats.index(labels[0])]
    assert whats.index("table4: planning") < whats.index("loading weights") < whats.index(labels[0])
    assert [what for what in whats if what in labels] == labels
    assert whats[-3:] == ["", "table2: filling the table", "table4: filling the table"]
    assert all(0 <= done <= total for done, total, _ in told)


def test_progress_names_how_judges_are_made(
    tones: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melody.reproduce.attribute_classifiers.Store", lambda: Store(tmp_path))
    monkeypatch.setattr("melody.reproduce.attribute_classifiers._learn", lambda *_: None)  # takes long
    told: list[str] = []
    context = tones.context(training_of=lambda count: load_corpus("embedded", split="train", num_clips=count))
    context.progress = lambda done, total, what: told.append(f"{what}, {done} of {total}")
    context.loaded.attribute_classifiers(8)
    hearing, learning = "judges of attributes: hearing training clips", "judges of attributes: learning"
    assert told[-8:] == [*(f"{hearing}, {n} of 8" for n in range(1, 8)), f"{learning}, 8 of 8"]


def test_tables_share_their_jobs(tones: SimpleNamespace) -> None:
    context = tones.context()
    second, fourth = tones.small("table2"), tones.small("table4")
    together = {job.key for job in plan([second, fourth], context).jobs}
    apart = [len(plan([suite], context).jobs) for suite in (second, fourth)]
    assert len(together) == sum(apart) - 10, "6 runs, the reference and 3 controls are shared"


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cuda"},
        {"weights": "other"},
        {"seed": 7},
        {"preset facts": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_number_is_in_its_key(
    tones: SimpleNamespace, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setattr("melody.reproduce.context.device_class", lambda device: device)
    monkeypatch.setattr("melody.reproduce.context.device_name", lambda device: device)
    suites = [tones.small("table4", seeds=(0,))]
    before = {job.key for job in plan(suites, tones.context()).jobs}
    options = {key: value for key, value in change.items() if key in ("device", "seed")}
    context = tones.context(**options)
    if "weights" in change:
        subject = replace(context.inputs.subject, weights=change["weights"])
        context.inputs = replace(context.inputs, subject=subject)
    if "preset facts" in change:
        subject = replace(context.inputs.subject, facts={"tones": change["preset facts"]})
        context.inputs = replace(context.inputs, subject=subject)
    after = {job.key for job in plan(suites, context).jobs}
    # With another seed the real clips and the controls stay the same.
    assert len(before & after) == (4 if "seed" in change else 0)


def test_plugin_sampler_stands_beside_ours(
    tones: SimpleNamespace, register_sampler: Callable[[str], None], tmp_path: Path
) -> None:
    register_sampler("test-elsewhere")
    (table,) = run([tones.small("table2")], tones.context(), store=Store(tmp_path / "s"), output=tmp_path / "o").tables
    assert list(dict.fromkeys(c.row.get("sampler") for c in table.cells)) == ["ddim", "test-elsewhere", None]
    (cell,) = _cells(table, "fad", sampler="test-elsewhere", num_steps=5)
    assert (cell.verdict, cell.reason) == ("not comparable", "the paper prints no value here")
    assert any("(sampler = test-elsewhere)" in ordering.claim for ordering in table.orderings)


def test_plugin_denoiser_is_a_row_that_says_what_it_lacks(tones: SimpleNamespace, tmp_path: Path) -> None:
    class Elsewhere(Denoiser):
        """A denoiser of somebody else's."""

        def prepare(self, semantic_tokens: Any) -> Any: ...
        def forward(self, latents: Any, angle: Any, condition: Any, unconditional: Any = None) -> Any: ...
        def repeat(self, condition: Any, times: int) -> Any: ...

    entry = Entry("test-denoiser", "plug-in (elsewhere:Elsewhere)", Elsewhere, version="1")
    denoisers._load_plugins()["test-denoiser"] = entry
    try:
        results = run([tones.small("table5")], tones.context(), store=Store(tmp_path / "s"), output=tmp_path / "o")
    finally:
        del denoisers._load_plugins()["test-denoiser"]
    (cell,) = _cells(results.tables[0], "si_snri", denoiser="test-denoiser")
    assert cell.verdict == "not attempted"
    assert cell.reason.startswith("preset 'tones' holds weights of 'dual-path' only: train it (melody train dpd --set")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-broken", "RuntimeError: this sampler always fails"),
        ("test-nan", "system 'melody' made audio that holds NaN or infinity"),
    ],
)
def test_failing_sampler_spoils_only_its_cells(
    tones: SimpleNamespace, register_sampler: Callable[[str], None], tmp_path: Path, name: str, reason: str
) -> None:
    register_sampler(name)
    context = tones.context(samplers=("ddim", name))
    results = run([tones.small("table2")], context, store=Store(tmp_path / "s"), output=tmp_path / "o")
    (table,) = results.tables
    for cell in _cells(table, "fad", sampler=name):
        assert (cell.verdict, cell.reason) == ("not attempted", reason)
    assert all(cell.measured is not None for cell in _cells(table, "fad", sampler="ddim"))
    assert any(o.verdict == "not attempted" and o.reason == reason for o in table.orderings)
    # Failures are not stored: they are tried again.
    again = run(
        [tones.small("table2")], tones.context(samplers=(name,)), store=Store(tmp_path / "s"), output=tmp_path / "o"
    )
    assert again.cells_computed == 0
    assert again.cells_reused == 4, "the reference and 3 controls"


def test_what_cannot_be_estimated_spoils_only_its_cells(tones: SimpleNamespace, tmp_path: Path) -> None:
    suites = [tones.small(name, prompts=1) for name in suite_names()]
    results = run(suites, tones.context(), store=Store(tmp_path / "s"), output=tmp_path / "o")
    tables = {table.suite: table for table in results.tables}
    for column in ("fad", "mcc"):
        (cell,) = _cells(tables["table2"], column, num_steps=5)
        assert cell.verdict == "not attempted"
        assert "expected" in cell.reason or "at least" in cell.reason or "needs" in cell.reason
    (passes,) = _cells(tables["table2"], "passes", num_steps=5)
    assert passes.measured is not None
    (error,) = _cells(tables["table5"], "velocity_mse", denoiser="dual-path of preset tones")
    assert error.measured is not None


def test_silent_clip_spoils_only_its_cells(
    tones: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melody.reproduce.loaded import Loaded

    embed = Loaded.embed_joint
    monkeypatch.setattr(Loaded, "embed_joint", lambda *arguments: 0 * embed(*arguments))
    results = run([tones.small("table2")], tones.context(), store=Store(tmp_path / "s"), output=tmp_path / "o")
    (table,) = results.tables
    (correlation,) = _cells(table, "mcc", num_steps=5)
    assert (correlation.verdict, "zero" in correlation.reason) == ("not attempted", True)
    (distance,) = _cells(table, "fad", num_steps=5)
    assert distance.measured is not None


def test_samplers_that_are_asked_for_are_exactly_those(tones: SimpleNamespace, tmp_path: Path) -> None:
    context = tones.context(samplers=("dpmpp_2m",))
    (table,) = run([tones.small("table4")], context, store=Store(tmp_path / "s"), output=tmp_path / "o").tables
    assert {cell.row["sampler"] for cell in table.cells if "system" not in cell.row} == {"dpmpp_2m"}
    assert all(cell.paper is None for cell in table.cells)


def test_bad_input_ends_the_run_before_anything_is_computed(tones: SimpleNamespace, tmp_path: Path) -> None:
    store, system = Store(tmp_path / "s"), tones.System()
    with pytest.raises(MelodyError, match="unknown sampler 'dddim'; did you mean 'ddim'"):
        run([tones.small("table2")], tones.context(system, samplers=("dddim",)), store=store, output=tmp_path / "o")
    axes = {"sampler": ("ddim",), "grid": ("unifrom",), "num_steps": (5,)}
    with pytest.raises(MelodyError, match="unknown grid 'unifrom'; did you mean 'uniform'"):
        run(
            [tones.small("table2").model_copy(update={"axes": axes})],
            tones.context(system),
            store=store,
            output=tmp_path,
        )
    axes = {"sampler": ("ddim",), "grid": ("uniform",), "num_steps": (0,)}
    with pytest.raises(MelodyError, match="num_steps: expected integers of 1 or more"):
        run(
            [tones.small("table2").model_copy(update={"axes": axes})],
            tones.context(system),
            store=store,
            output=tmp_path,
        )
    (tmp_path / "file").write_text("")
    with pytest.raises(MelodyError, match="not a folder"):
        run([tones.small("table2")], tones.context(system), store=store, output=tmp_path / "file")
    assert system.calls == []


def test_two_runs_at_once_compute_each_job_once(tmp_path: Path) -> None:
    log, start = tmp_path / "log", tmp_path / "start"
    command = [sys.executable, "-c", WORKER, str(tmp_path / "store"), str(log), str(start)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    start.touch()
    computed = [int(worker.communicate(timeout=600)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(computed) == 40
    assert sorted(map(int, log.read_text().split())) == list(range(40))


def test_results_are_read_without_torch() -> None:
    code = "import melody.reproduce.results, melody.gate.junit, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_suites_are_the_default(tones: SimpleNamespace) -> None:
    assert [suite.name for suite in load_suites()] == suite_names()


@pytest.mark.parametrize("suite", ["table2", "table4"])
def test_controls_stand_beside_the_generated_clips(undisturbed: tuple[Results, Path], suite: str) -> None:
    table = {table.suite: table for table in undisturbed[0].tables}[suite]
    fad = {str(c.row["system"]): c for c in table.cells if c.column == "fad" and "system" in c.row}
    assert set(fad) == {"real clips", "reference halves", "white noise", "silence", "one clip repeated"}
    values = {name: cell.measured.value for name, cell in fad.items() if cell.measured is not None}
    assert set(values) == set(fad)
    assert values["reference halves"] < values["one clip repeated"] < values["white noise"]
    (mcc,) = _cells(table, "mcc", system="white noise")
    assert mcc.measured is not None
    assert mcc.measured.scored == mcc.measured.expected
    (halves,) = _cells(table, "mcc", system="reference halves")
    assert "real clips" in halves.reason
    (shuffled,) = _cells(table, "mcc_shuffled", system="silence")
    assert "not generated" in shuffled.reason
    counts = {name: cell.measured.warning or "" for name, cell in fad.items() if cell.measured is not None}
    halves_of, of_all = (
        counts[name].split("; ")[0].split(" clips against ") for name in ("reference halves", "silence")
    )
    assert sum(map(int, halves_of)) == int(of_all[1])
    assert fad["silence"].measured is not None
    assert int(of_all[0]) == fad["silence"].measured.scored
    lines = [note for note in table.notes if note.startswith("Controls: ")]
    assert any("FAD[mel-stats] tells" in line and "white noise" in line for line in lines)
    assert any("MCC" in line for line in lines), "the toy embedding is told on, whatever it says"
