"""The command line: what it prints, its exit codes, and that bad input is one line that leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from melody.cli import main
from melody.protocols import Sampler
from melody.registry import samplers


@pytest.fixture
def melody(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run the command in this process and in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return run


def test_info_shows_parts_and_passes_and_writes_json(melody, tiny_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, error = melody("info", "--preset", tiny_path, "--json", "sizes.json")
    assert (code, error) == (0, "")
    assert "dual-path" in out
    content = json.loads(Path("sizes.json").read_text())
    assert {one["name"] for one in content["passes"]} >= {
        "one token",
        "with guidance",
        "without guidance",
        "encode",
        "decode",
    }
    assert len(content["parts"]) == 8
    assert all(one["flops_counted"] == one["flops_formula"] for one in content["passes"])


def test_what_is_missing_is_told_with_the_commands_usage(melody) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody("describe", "ddim")
    assert code == 2
    assert error.startswith("melody: error: Missing argument 'name'. Usage: ")
    assert "describe [OPTIONS]" in error
    assert len(error.splitlines()) == 1


def test_info_of_bad_input_is_one_line(melody) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody("info", "--preset", "papre")
    assert code == 2
    assert "did you mean 'paper'" in _one_line(error)


@pytest.fixture(scope="session")
def tiny_options(tiny_path: Path, tiny_weights: Path) -> list[str]:
    return ["--preset", str(tiny_path), "--weights", str(tiny_weights)]


def _one_line(error: str) -> str:
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("melody: error: ")
    return lines[0]


def _process(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "melody", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def _wait_for_an_outcome(process: subprocess.Popen[str], outcomes: Path) -> None:
    """Wait until the run has kept something; an hour, for on a busy machine its imports alone take minutes."""
    deadline = time.monotonic() + 3600
    while not any(outcomes.rglob("*.safetensors")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the run kept nothing: {process.communicate()[1]}")
        time.sleep(0.02)


def test_components_lists_every_sampler_with_its_origin_and_sentence(melody) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = melody("components", "samplers")
    assert code == 0
    for name in ("ddim", "dpmpp_2m", "heun", "unipc", "ancestral", "diffusers"):
        assert f" {name} " in out
    assert "melody.samplers.ddim" in out
    assert "melody.samplers" in out


def test_components_lists_every_kind(melody) -> None:  # type: ignore[no-untyped-def]
    from melody.registry import REGISTRIES

    code, out, _ = melody("components")
    assert code == 0
    assert all(f"entry-point group melody.{kind}" in out for kind in REGISTRIES)


def test_describe_shows_types_and_defaults(melody) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = melody("describe", "language_models", "llama")
    assert code == 0
    assert "hidden_size" in out
    assert "int" in out
    assert "1024" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["components", "sampler"], "unknown kind of component 'sampler'; did you mean 'samplers'?"),
        (["describe", "samplers", "hein"], "unknown sampler 'hein'; did you mean 'heun'?"),
        (["generate", "x", "--preset", "dmeo"], "unknown preset 'dmeo'; did you mean 'demo'?"),
        (["reproduce", "tabel2"], "did you mean 'table2'?"),
        (["train", "lmm"], "unknown stage 'lmm'; did you mean 'lm'?"),
        (["gate", "absent.json", "--thresholds", "t.toml"], "cannot read absent.json: No such file"),
        (["report", "absent"], "cannot read absent: No such file"),
        (["generat"], "No such command 'generat'"),
        (["generate", "x", "--steps", "many"], "Invalid value for '--steps'"),
        (["generate", "x", "--device", "meta"], "unknown device 'meta': expected cpu, cuda or cuda:N"),
        (["generate", "x", "-o", "y" * 300 + ".wav"], "File name too long"),
        (["train", "joint", "--accelerator", "gpuu"], "unknown accelerator 'gpuu'; did you mean 'gpu'?"),
        (["train", "joint", "--stop-after", "0"], "Invalid value for '--stop-after'"),
    ],
)
def test_unknown_names_are_one_line_with_the_nearest(melody, arguments: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody(*arguments)
    assert code == 2
    assert message in _one_line(error)


def test_generate_writes_the_same_file_for_the_same_seed(melody, tiny_options: list[str]) -> None:  # type: ignore[no-untyped-def]
    options = ["--duration", 1.5, "--steps", 2, "--sampler", "heun", "--grid", "uniform", "--guidance-scale", 2.0]
    for name in ("a.wav", "b.wav"):
        code, out, error = melody("generate", "a slow piano piece", "-o", name, "--seed", 3, *options, *tiny_options)
        assert code == 0, error
        assert "denoiser" in out
        assert "1.50 s at 24000 Hz" in out
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert soundfile.info("a.wav").frames == 36_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the prompt is empty"),
        (["x" * 10_000], "the prompt has 10,000 characters: expected at most"),
        (["x", "--duration", "0"], "'--duration': Input should be greater than or equal to 0.001"),
        (["x", "--duration", "-3"], "'--duration': Input should be greater than or equal to 0.001"),
        (["x", "--steps", "0"], "Invalid value for '--steps'"),
        (["x", "--sampler", "ddmi"], "unknown sampler 'ddmi'; did you mean 'ddim'?"),
        (["x", "--grid", "linear"], "did you mean 'melody-linear'?"),
        (["x", "--seed", "-1"], "Invalid value for '--seed'"),
        (["x", "--device", "gpu"], "unknown device 'gpu'"),
        (["x", "-o", "out.mp4"], "out.mp4"),
        ([], "no prompt was given: expected one of the two, a text or prompt audio"),
        (["x", "--prompt-audio", "absent.wav"], "text and audio were given as the prompt"),
        (["--prompt-audio", "absent.wav"], "cannot read audio absent.wav: no such file"),
        (["--continue-from", "/dev/null"], "cannot read audio /dev/null"),
        (["x", "--continuation", "printed"], "unknown continuation 'printed'; did you mean 'as-printed'?"),
        (["x", "--edit", "a.wav"], "--edit FILE was given without --inpaint BEGIN:END: expected both"),
        (["x", "--inpaint", "1:2"], "--inpaint BEGIN:END was given without --edit FILE: expected both"),
        (["--edit", "a.wav", "--inpaint", "2:1"], "cannot inpaint 2:1: it ends before it begins"),
        (["--edit", "a.wav", "--inpaint", "1:1"], "cannot inpaint 1:1: it is empty"),
        (["--edit", "a.wav", "--inpaint", "1-2"], "cannot inpaint '1-2': expected BEGIN:END in seconds"),
        (["--edit", "a.wav", "--inpaint", "1:2", "--continue-from", "a.wav"], "--edit and --continue-from were given"),
        (["--edit", "a.wav", "--inpaint", "1:2", "--duration", "3"], "--duration was given with --edit"),
        (["--edit", "a.wav", "--inpaint", "1:2", "--continuation", "fixed"], "--continuation was given with --edit"),
    ],
)
def test_bad_generate_input_is_one_line_and_leaves_nothing(  # type: ignore[no-untyped-def]
    melody, tiny_options: list[str], arguments: list[str], message: str
) -> None:
    code, _, error = melody("generate", *arguments, *tiny_options)
    assert code == 2
    assert message in _one_line(error)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "nan", "pickle", "missing", "no folder", "no hub", "other preset"])
def test_weights_that_cannot_be_used_are_one_line(  # type: ignore[no-untyped-def]
    melody, tiny_path: Path, tiny_weights: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(tiny_weights, folder)
    path = folder / "codec.safetensors"
    message = {
        "truncated": f"cannot read weights {path}: truncated, damaged or not safetensors",
        "nan": f"{path}: tensor 'decoder_input.bias' holds NaN or infinity",
        "pickle": "pickles are never opened",
        "missing": f"lacks weights in {folder}: codec.safetensors; train them (melody train vae",
        "no folder": "there is no folder wieghts",
        "no hub": "no folder 'some/where' is here, and from the hub it cannot be had",
        "other preset": "holds weights of 'mulan' with audio_heads = 2",
    }[damage]
    given: dict[str, object] = {"no folder": "wieghts", "no hub": "some/where"}
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    if damage == "nan":
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        tensors["decoder_input.bias"].fill_(float("nan"))
        save_file(tensors, path, metadata)
    if damage == "pickle":
        torch.save({"weight": torch.ones(2)}, path)
    if damage == "missing":
        path.unlink()
    preset = "demo" if damage == "other preset" else tiny_path
    code, _, error = melody("generate", "x", "--preset", preset, "--weights", given.get(damage, folder))
    assert code == 2
    assert message in _one_line(error)
    assert not Path("melody.wav").exists()


def test_a_folder_of_model_files_needs_no_preset(melody, tiny_path: Path, tiny_weights: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody("export", tiny_weights, "--out", "files", "--preset", tiny_path)
    assert code == 0, error
    code, _, error = melody("generate", "a waltz", "--duration", 0.5, "--weights", "files", "-o", "a.wav")
    assert code == 0, error
    assert soundfile.info("a.wav").frames == 12_000


def test_generate_goes_on_from_a_file_and_makes_a_part_of_one_anew(melody, tiny_options: list[str]) -> None:  # type: ignore[no-untyped-def]
    given = np.random.default_rng(0).uniform(-0.5, 0.5, (66_150, 2))  # 1.5 s of stereo
    soundfile.write("given.flac", given, 44_100)
    tasks = {
        "on.wav": (["--continue-from", "given.flac", "--duration", 0.5], 48_000, "0.50 s of it new"),
        "new.wav": (["x", "--edit", "given.flac", "--inpaint", "0.5:0.9"], 36_000, "0.40 s of it new"),
        "like.wav": (["--prompt-audio", "given.flac", "--duration", 0.5], 12_000, "0.50 s at"),
    }
    for name, (arguments, frames, message) in tasks.items():
        code, out, error = melody("generate", *arguments, "-o", name, *tiny_options)
        assert code == 0, error
        assert message in out
        assert soundfile.info(name).frames == frames
    read = {name: soundfile.read(name, dtype="float32")[0] for name in ("on.wav", "new.wav")}
    np.testing.assert_array_equal(read["on.wav"][:11_000], read["new.wav"][:11_000])
    np.testing.assert_array_equal(read["on.wav"][23_000:35_000], read["new.wav"][23_000:35_000])
    code, _, error = melody("generate", "--edit", "given.flac", "--inpaint", "1:9", "-o", "late.wav", *tiny_options)
    assert code == 2
    assert "cannot inpaint 1:9: the audio ends at 1.5 s" in _one_line(error)
    assert not Path("late.wav").exists()


def test_malformed_preset_names_file_and_line(melody, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Path("bad.toml").write_text("name = [1,\n")
    code, _, error = melody("generate", "x", "--preset", "bad.toml")
    assert code == 2
    assert "bad.toml is not valid TOML" in _one_line(error)


@pytest.mark.parametrize("command", ["generate", "reproduce"])
def test_a_read_only_folder_is_one_line(  # type: ignore[no-untyped-def]
    melody, tiny_options: list[str], small_suite: Path, tmp_path: Path, command: str
) -> None:
    # Root may write to any folder of a disk, but not to this one of the kernel's.
    locked = Path("/proc") if os.geteuid() == 0 else tmp_path / "locked"
    locked.mkdir(mode=0o500, exist_ok=True)
    arguments = ["x", "-o", locked / "out.wav"] if command == "generate" else [small_suite, "-o", locked / "out"]
    code, _, error = melody(command, *arguments, *tiny_options)
    assert code == 2
    assert str(locked) in _one_line(error)


def test_an_output_below_a_file_is_one_line(melody, tiny_options: list[str]) -> None:  # type: ignore[no-untyped-def]
    Path("taken").write_text("")
    code, _, error = melody("generate", "x", "-o", "taken/out.wav", *tiny_options)
    assert code == 2
    assert "taken" in _one_line(error)


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path, tiny_options: list[str]) -> None:
    """A limit on the size of files fails a write as a full disk does: in the middle."""
    output = tmp_path / "out.wav"
    output.write_bytes(b"precious")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = _process("generate", "x", "-o", output, *tiny_options, preexec_fn=limit, cwd=tmp_path)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 2, error
    assert "out.wav" in _one_line(error)
    assert output.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [output]


@pytest.fixture
def reproduced(melody, tiny_options: list[str], small_suite: Path):  # type: ignore[no-untyped-def]
    """The small suite, reproduced into ``out``."""
    code, out, error = melody("reproduce", small_suite, *tiny_options, "-o", "out")
    assert code == 0, error
    return out


def test_reproduce_fills_every_cell_and_a_second_run_computes_nothing(  # type: ignore[no-untyped-def]
    melody, reproduced: str, tiny_options: list[str], small_suite: Path
) -> None:
    first = json.loads(Path("out/results.json").read_text())
    assert "page: out/report.html" in reproduced
    assert "FAD[mel-stats]" in reproduced
    code, out, _ = melody("reproduce", small_suite, *tiny_options, "-o", "again")
    assert code == 0
    assert "0 units of work computed" in out
    second = json.loads(Path("again/results.json").read_text())
    assert second["tables"] == first["tables"]
    for cell in first["tables"][0]["cells"]:
        assert cell["verdict"] in ("reproduced", "off", "not comparable", "not attempted")
        assert cell["reason"]
    assert {path.name for path in Path("out").iterdir()} >= {"results.json", "REPORT.md", "report.html"}


def test_reproduce_takes_exactly_the_samplers_that_are_asked_for(
    melody, tiny_options: list[str], small_suite: Path
) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody(
        "reproduce", small_suite, *tiny_options, "--sampler", "heun", "--sampler", "unipc", "-o", "out"
    )
    assert code == 0, error
    rows = [cell["row"] for cell in json.loads(Path("out/results.json").read_text())["tables"][0]["cells"]]
    assert {row["sampler"] for row in rows if "sampler" in row} == {"heun", "unipc"}


class Faulty(Sampler):
    """Returns values that are not finite."""

    order = 1

    def step(self, velocity, latents, angle, next_angle, state, generator):  # type: ignore[no-untyped-def]
        return latents * float("nan"), state


def test_a_faulty_sampler_spoils_its_cells_and_ends_in_one_line(  # type: ignore[no-untyped-def]
    melody, tiny_options: list[str], small_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samplers.names()
    monkeypatch.setitem(samplers._components, "faulty", Faulty)
    options = ["--sampler", "ddim", "--sampler", "faulty", "-o", "out"]
    code, _, error = melody("reproduce", small_suite, *tiny_options, *options)
    assert code == 2
    assert "4 of the run's units of work failed" in _one_line(error)
    assert "NaN" in _one_line(error)
    cells = json.loads(Path("out/results.json").read_text())["tables"][0]["cells"]
    assert {cell["verdict"] for cell in cells if cell["row"].get("sampler") == "faulty"} == {"not attempted"}
    assert all(cell["measured"] for cell in cells if cell["row"].get("sampler") == "ddim")


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("muscigen", "unknown system 'muscigen'; did you mean 'musicgen'"),
        ("musicgen", "needs its weights: --system musicgen=FOLDER_OR_HUB_ID; they are facebook/musicgen-small"),
        ("folder=nowhere", "nowhere"),
        ("melody=nowhere", "there is no folder nowhere"),
        ("nowhere.toml", "nowhere.toml"),
    ],
)
def test_a_system_that_cannot_be_had_ends_the_run_before_it_begins(  # type: ignore[no-untyped-def]
    melody, tiny_options: list[str], small_suite: Path, system: str, message: str
) -> None:
    suite = Path("all.toml")
    suite.write_text(small_suite.read_text().replace('-speed"', '-speed"\ncompare = true'))
    code, _, error = melody("reproduce", suite, *tiny_options, "--system", system, "-o", "out", "--store", "store")
    assert code == 2
    assert message in _one_line(error)
    assert not Path("out/results.json").exists()
    assert not list(Path("store").glob("results/*"))


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(  # type: ignore[no-untyped-def]
    melody, tmp_path: Path, tiny_options: list[str], small_suite: Path
) -> None:
    process = _process("reproduce", small_suite, *tiny_options, "-o", "killed", "--store", "store", cwd=tmp_path)
    outcomes = tmp_path / "store" / "results"
    _wait_for_an_outcome(process, outcomes)
    process.kill()
    process.communicate()
    kept = len(list(outcomes.rglob("*.safetensors")))
    assert kept >= 1
    assert melody("reproduce", small_suite, *tiny_options, "-o", "resumed", "--store", "store")[0] == 0
    assert melody("reproduce", small_suite, *tiny_options, "-o", "whole", "--store", "other")[0] == 0
    resumed, whole = (json.loads(Path(name, "results.json").read_text()) for name in ("resumed", "whole"))
    assert resumed["cells_reused"] >= kept
    assert resumed["tables"] == whole["tables"]


def test_ctrl_c_is_one_line_and_what_was_done_is_kept(
    tmp_path: Path, tiny_options: list[str], small_suite: Path
) -> None:
    # Far more seeds than are done before the signal comes, however busy the machine is.
    endless = tmp_path / "endless.toml"
    endless.write_text(small_suite.read_text().replace("seeds = [0, 1]", f"seeds = {list(range(1000))}"))
    # Whatever runs in a shell's background is started with the signal ignored, and so are its children.
    process = _process(
        "reproduce", endless, *tiny_options, "-o", "out", "--store", "store", cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    outcomes = tmp_path / "store" / "results"
    _wait_for_an_outcome(process, outcomes)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=3600)
    assert process.returncode == 2
    assert error.strip().splitlines()[-1] == "melody: error: interrupted; what was finished is kept"
    assert any(outcomes.rglob("*.safetensors"))
    assert not (tmp_path / "out" / "results.json").exists()


GATE = """
title = "Small gate"

[[thresholds]]
suite = "small"
metric = "passes"
row = {{ num_steps = 2 }}
max = {bound}
"""


@pytest.mark.parametrize(("bound", "code", "failures"), [(1000.0, 0, "0"), (1.0, 1, "1")])
def test_gate_passes_fails_and_writes_junit(melody, reproduced: str, bound: float, code: int, failures: str) -> None:  # type: ignore[no-untyped-def]
    Path("gate.toml").write_text(GATE.format(bound=bound))
    assert melody("gate", "out", "--thresholds", "gate.toml", "--junit", "gate.xml")[0] == code
    assert ElementTree.parse("gate.xml").getroot().get("failures") == failures


def test_gate_on_bad_thresholds_is_exit_code_2(melody, reproduced: str) -> None:  # type: ignore[no-untyped-def]
    Path("gate.toml").write_text(GATE.format(bound=1.0).replace('"passes"', '"pases"'))
    code, _, error = melody("gate", "out", "--thresholds", "gate.toml")
    assert code == 2
    assert "passes" in _one_line(error)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 100_000, b"[]", b'{"tables": []}'])
def test_a_file_that_holds_no_results_is_one_line(melody, content: bytes) -> None:  # type: ignore[no-untyped-def]
    Path("bad.json").write_bytes(content)
    code, _, error = melody("report", "bad.json")
    assert code == 2
    assert "cannot read bad.json: it" in _one_line(error) or "bad.json is not a results file" in _one_line(error)


def test_report_renders_again(melody, reproduced: str) -> None:  # type: ignore[no-untyped-def]
    page = Path("out/report.html")
    before = page.read_bytes()
    page.unlink()
    assert melody("report", "out")[0] == 0
    assert page.read_bytes() == before


def test_a_missing_folder_of_published_samples_is_one_line(melody, tiny_options: list[str]) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody("reproduce", "published-samples", *tiny_options, "--published-samples", "absent")
    assert code == 2
    assert "absent" in _one_line(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "metadata.csv"), ("file_name,text\na.wav,x\n", "a.wav")],
)
def test_training_on_a_bad_folder_is_one_line(melody, tiny_path: Path, content: str | None, message: str) -> None:  # type: ignore[no-untyped-def]
    Path("data").mkdir()
    soundfile.write("data/b.wav", np.zeros(10), 24_000)
    if content is not None:
        Path("data/metadata.csv").write_text(content)
    code, _, error = melody("train", "vae", "--preset", tiny_path, "--data", "data", "--out", "run")
    assert code == 2
    assert message in _one_line(error)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "seeds = [0, 0]", "a seed stands twice"),
        ("num_steps = [2, 3]", "num_steps = []", "axes.num_steps: expected at least one value"),
        ('each = "sampler"', 'each = "samplr"', "unknown axis 'samplr'; did you mean 'sampler'?"),
        ('column = "fad"', 'column = "fda"', "unknown column 'fda'; did you mean 'fad'?"),
        ("prompts = 3", "promts = 3", "unknown key 'settings.promts'; did you mean 'prompts'?"),
    ],
)
def test_a_slip_in_a_suite_is_one_line(  # type: ignore[no-untyped-def]
    melody, tiny_options: list[str], small_suite: Path, old: str, new: str, message: str
) -> None:
    text = small_suite.read_text()
    assert old in text
    Path("slip.toml").write_text(text.replace(old, new))
    code, _, error = melody("reproduce", "slip.toml", *tiny_options)
    assert code == 2
    assert message in _one_line(error)


def test_an_unknown_sampler_is_refused_by_suites_without_one_too(melody, tiny_options: list[str]) -> None:  # type: ignore[no-untyped-def]
    code, _, error = melody("reproduce", "claims", *tiny_options, "--sampler", "dimm")
    assert code == 2
    assert "did you mean 'ddim'?" in _one_line(error)


def test_nothing_is_left_in_the_current_folder(  # type: ignore[no-untyped-def]
    melody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_options: list[str], small_suite: Path
) -> None:
    here, cache, clips, ratings = (tmp_path / name for name in ("here", "cache", "clips", "ratings.csv"))
    here.mkdir()
    clips.mkdir()
    for name in "ab":
        soundfile.write(clips / f"{name}.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 24_000), 24_000)
    shutil.copytree(clips, others := tmp_path / "others")
    rows = "".join(f"{rater},{item},musicality,x,y,first\n" for rater in "pqrs" for item in range(3))
    ratings.write_text(f"rater,item,question,system_a,system_b,answer\n{rows}")
    monkeypatch.setenv("MELODY_CACHE", str(cache))
    monkeypatch.chdir(here)
    here.chmod(0o555)
    assert melody("evaluate", clips, "-m", "peak")[0] == 0
    assert melody("compare", clips, others, "-m", "peak", "--allow-overlap")[0] == 0
    assert melody("listening", "analyse", ratings)[0] == 0
    assert melody("reproduce", small_suite, *tiny_options, "-o", tmp_path / "out")[0] == 0
    assert list(here.iterdir()) == []
    assert {"features", "results"} <= {path.name for path in (cache / "store").iterdir()}
