"""Every snippet of README and docs runs, and every command runs small or is parsed by the real command line.

Snippets and commands of a document run in order in one folder, with the few files that they name. Music is made by a
system of ten-second segments with tiny random parts, in the place of the demo's; what loads weights from a folder loads
real ones.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch
import typer

from melody import registry
from melody.cli.app import app, main
from melody.config import load_preset, preset_names
from melody.conformance import run_checks
from melody.paths import PACKAGE
from melody.pipeline import MelodyPipeline
from melody.protocols import InputKind
from melody.reproduce.suite import load_suites

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
EXAMPLES = sorted(f"examples/{path.parent.name}/README.md" for path in (ROOT / "examples").glob("*/README.md"))
PAGES = (*DOCUMENTS, "reports/README.md", *EXAMPLES)
PROGRAMS = ("melody", "nox", "pip", "python", "torchrun", "srun")
FOLDERS = ("baselines", "benchmarks", "docs", "eval", "examples", "melody", "reports", "tests")

NOT_RUN = {
    "pipeline.push_to_hub(": "writes to the model hub",
    'audio_embedders.create("vggish-google"': "needs weights of others, which are a download",
}
"""Snippets that are compiled only: a piece of each, and why."""

RUN = ("cache", "components", "describe", "evaluate", "export", "generate", "info", "listening")
"""Commands that run here; `compare` takes half a minute, the others more, or a network, or a plug-in."""
LONG = "--duration 300"
"""Of those, what is parsed only: it takes seven seconds, and shorter pieces run the same code."""

PLACEHOLDERS = {"STAGE|all": "all", "P": "demo", "N": "0", "NAME": "ddim"}
"""Words of a command that stand for any value -> one."""


@dataclass(frozen=True)
class Snippet:
    """A piece of a document."""

    document: str
    line: int
    text: str
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def _fences(document: str, language: str) -> Iterator[Snippet]:
    text = (ROOT / document).read_text(encoding="utf-8")
    for found in re.finditer(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        yield Snippet(document, text[: found.start()].count("\n") + 2, textwrap.dedent(found[2]))


def _commands(document: str) -> Iterator[Snippet]:
    """Commands in indented lines, in shell blocks, in steps of a workflow, and within sentences."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", "  ")
    text = re.sub(r"\n {20,}\[", " [", text)  # a synopsis of several lines
    program = "|".join(PROGRAMS)
    fenced = re.sub(r"(?ms)^```(python|toml)\n.*?^```", "", text)
    for found in re.finditer(rf"^(?:    |- run: | +- run: )?((?:\.nox/\S+/)?(?:{program}) .*)$", fenced, re.MULTILINE):
        for part in re.sub(r"\s+#.*", "", found[1]).split(" && "):
            yield Snippet(document, text[: text.find(found[1])].count("\n") + 1, part)
    for found in re.finditer(rf"`((?:{program}) [^`]+)`", re.sub(r"(?ms)^```.*?^```", "", text)):
        words = " ".join(found[1].split())
        yield Snippet(document, text[: found.start()].count("\n") + 1, words, inline=True)


def _arguments(command: Snippet) -> list[str]:
    """What the ``melody`` command is told, with a value in the place of each placeholder."""
    text = command.text.replace("[the same options]", "").replace("…", "").replace("[", " ").replace("]", " ")
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(text)]


def _parse(arguments: list[str]) -> dict[str, Any]:
    """Parse as the command line does, without running; raises what it raises for an unknown option or value."""
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while rest and getattr(command, "commands", None):
        name = rest.pop(0)
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    if not any(word.startswith("-") for word in rest) and any(p.required for p in command.params):
        return {}  # a command that is spoken of, without what it needs
    with command.make_context(command.name, rest) as context:
        return dict(context.params)


def _known(kind: Any, names: Any) -> None:
    for name in names or ():
        assert name in kind, f"{name!r} is none of {sorted(kind)}"


def _check_names(parsed: dict[str, Any]) -> None:
    """What a command names is there: presets, suites, samplers, grids, metrics."""
    named = [text.partition("=")[0] for text in _listed(parsed.get("preset"))]
    _known({*preset_names()}, [name for name in named if not name.endswith(".toml")])
    _known({*registry.samplers.names(), "midpoint"}, _listed(parsed.get("sampler")))
    _known(registry.grids.names(), _listed(parsed.get("grid")))
    if suites := [name for name in parsed.get("suites") or () if not str(name).endswith(".toml")]:
        load_suites(suites)


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


MELODY = [
    command
    for page in PAGES
    for command in _commands(page)
    if re.search(r"(^|/)melody |-m +melody |srun melody ", command.text)
]
OTHERS = [command for page in PAGES for command in _commands(page) if command not in MELODY]


@pytest.mark.parametrize("command", MELODY, ids=str)
def test_the_command_line_takes_every_command(command: Snippet) -> None:
    words = _arguments(command)
    start = next(i for i, word in enumerate(words) if word == "melody" or word.endswith("/melody"))
    _check_names(_parse(words[start + 1 :]))


def test_a_command_with_an_option_that_is_not_there_would_be_found() -> None:
    for arguments in (
        ["generate", "x", "--stepz", "3"],
        ["generate", "x", "--steps", "three"],
        ["gate", "--thresholds", "t.toml"],
    ):
        with pytest.raises(Exception, match=".") as caught:
            _parse(arguments)
        assert hasattr(caught.value, "format_message"), "a usage error, whichever click it is of"
    with pytest.raises(AssertionError, match="reproduse"):
        _parse(["reproduse"])
    with pytest.raises(AssertionError, match="nowhere"):
        _check_names(_parse(["generate", "x", "--sampler", "nowhere"]))


def _nox(words: list[str]) -> list[str]:
    """What a command of nox names that is not there."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    own, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    if own == ["nox", "--list"] or own == ["nox", "-s", "NAME"]:
        return []
    assert own[:2] == ["nox", "-s"]
    if own[2] == "reproduce_table":
        _check_names(_parse(["reproduce", *arguments]))
    return [own[2]] if own[2] not in sessions else []


def _pip(words: list[str]) -> list[str]:
    """What a command of pip names that is not there."""
    assert words[:2] == ["pip", "install"]
    missing: list[str] = []
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for target in words[2:]:
        place, _, wanted = target.rstrip("]").partition("[")
        if place == "nox":
            continue
        if not place.startswith(".") or not (ROOT / place / "pyproject.toml").is_file():  # a name alone is on no index
            missing.append(place)
        missing += {*wanted.split(",")} - extras if wanted else []
    return missing


def _python(words: list[str]) -> list[str]:
    """Flags that a script does not take."""
    source = (ROOT / words[1]).read_text(encoding="utf-8")
    return [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in source]


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_every_other_command_names_what_is_there(command: Snippet) -> None:
    words = shlex.split(command.text)
    assert {"nox": _nox, "pip": _pip, "python": _python}[words[0]](words) == []


class _EnoughError(Exception):
    """Ends a loop that runs for ever."""


@pytest.fixture(scope="session")
def pipeline_of_tiny_parts(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> MelodyPipeline:
    """Segments of 10 s, as the demo's, by networks that take next to no time."""
    text = tiny_path.read_text(encoding="utf-8").replace("segment_s = 1.0", "segment_s = 10.0")
    path = tmp_path_factory.mktemp("documents") / "tiny.toml"
    path.write_text(text.replace("max_tokens = 64", "max_tokens = 320"), encoding="utf-8")
    pipeline = MelodyPipeline.random(load_preset(path), seed=1)
    pipeline.semantic_tokenizer.fit_codebook(torch.randn(70, 8, generator=torch.Generator().manual_seed(0)), 0)
    return pipeline


def _clips(folder: Path, seed: int, count: int = 7) -> None:
    """Clips of 5 s: as many windows as ``mel-stats`` needs."""
    rng, time = np.random.default_rng(seed), np.arange(5 * 24_000) / 24_000
    folder.mkdir()
    for i in range(count):
        beat = (np.sin(2 * np.pi * 2 * time) > 0) * 0.5 + 0.5
        tone = 0.2 * np.sin(2 * np.pi * 220 * 2 ** ((i + seed) / 12) * time) * beat
        soundfile.write(folder / f"{i}.wav", tone + 0.01 * rng.standard_normal(tone.shape), 24_000)


def _furnish(folder: Path) -> None:
    """The files that the documents name."""
    for seed, name in enumerate(("generated", "reference", "system-a", "system-b", "clips")):
        _clips(folder / name, seed)
    rows = "".join(f"{i}.wav,a slow piece number {i}\n" for i in range(7))
    for name in ("metadata.csv", "captions.csv"):
        (folder / name).write_text(f"file_name,text\n{rows}")
    time = np.arange(15 * 24_000) / 24_000
    soundfile.write(folder / "theme.mp3", 0.3 * np.sin(2 * np.pi * 330 * time), 24_000)
    answers = [
        f"{rater},{item},{question},melody,musiclm,{('first', 'second', 'similar')[(r + i + q) % 3]}\n"
        for r, rater in enumerate(("ann", "bob", "cho"))
        for i, item in enumerate(("a waltz", "fast rock"))
        for q, question in enumerate(("musicality", "audio quality", "text correlation"))
    ]
    (folder / "ratings.csv").write_text("rater,item,question,system_a,system_b,answer\n" + "".join(answers))
    _write_run(folder / "runs" / "demo")


def _write_run(folder: Path) -> None:
    """What a finished training of the demo leaves: weights, and what its stages were begun with."""
    shutil.copytree(PACKAGE / "presets" / "weights" / "demo", folder / "weights")
    (folder / "dpd").mkdir()
    settings = {"preset": "demo", "component": load_preset("demo").component_of("denoiser")}
    (folder / "dpd" / "settings.json").write_text(json.dumps(settings))


@pytest.fixture
def workplace(
    pipeline_of_tiny_parts: MelodyPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Enters a folder furnished with what documents name, where presets give the tiny system."""
    loads = MelodyPipeline.from_preset

    def from_preset(preset: Any = "demo", *, weights: Any = None, parts: Any = None, device: str = "cpu") -> Any:
        return pipeline_of_tiny_parts if weights is None else loads(preset, weights=weights, device=device)

    monkeypatch.setattr(MelodyPipeline, "from_preset", from_preset)
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    _furnish(tmp_path)
    return tmp_path


def _play(limit: int) -> Callable[[torch.Tensor], None]:
    chunks: list[torch.Tensor] = []

    def play(chunk: torch.Tensor) -> None:
        chunks.append(chunk)
        if len(chunks) > limit:
            raise _EnoughError

    return play


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if list(_fences(d, "python"))])
def test_every_snippet_runs(document: str, workplace: Path) -> None:
    namespace: dict[str, Any] = {"play": _play(24)}
    for snippet in _fences(document, "python"):
        code = compile("\n" * (snippet.line - 1) + snippet.text, document, "exec")
        if any(piece in snippet.text for piece in NOT_RUN):
            continue
        try:
            exec(code, namespace)
        except _EnoughError:
            assert "for ever" in snippet.text, snippet


def test_what_is_not_run_is_there() -> None:
    text = "".join(snippet.text for document in DOCUMENTS for snippet in _fences(document, "python"))
    assert all(piece in text for piece in NOT_RUN)


def _runs(command: Snippet) -> bool:
    words = shlex.split(command.text)
    placeholder = re.search(r"[\[…]|NAME|RUN", command.text)
    if placeholder or LONG in command.text:
        return False
    return not command.inline and words[0] == "melody" and words[1] in RUN


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if any(_runs(c) for c in MELODY if c.document == d)])
def test_every_command_that_is_short_runs(document: str, workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command in MELODY:
        if command.document != document or not _runs(command):
            continue
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command.text)[1:])
        assert not ended.value.code, f"{command}: {command.text}: {capfd.readouterr().err}"


def test_every_kind_of_component_is_told_of_in_the_page_on_extending() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for kind in registry.REGISTRIES:
        assert f"`melody.{kind}`" in page, kind


@pytest.mark.parametrize(
    ("kind", "base", "name"), [("samplers", "Sampler", "Midpoint"), ("metrics", "Metric", "Crest")]
)
def test_a_component_of_the_page_on_extending_keeps_what_its_kind_promises(kind: str, base: str, name: str) -> None:
    """A snippet that runs may still declare what nobody reads, as a field that was renamed."""
    (snippet,) = [one for one in _fences("docs/extending.md", "python") if f"class {name}(" in one.text]
    namespace: dict[str, Any] = {"__name__": "of_the_page"}
    exec(snippet.text, namespace)
    own = registry.Registry(kind, f"melody.protocols:{base}", ())
    own.register(name)(namespace[name])
    results = list(run_checks(own, own.entry(name), {}))
    assert len(results) > 5
    assert not [result for result in results if result.state != "holds"]


def test_the_page_on_extending_tells_what_each_kind_of_metric_is_given() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    table = page.split("| `input_kind` |", 1)[1].split("\n\n", 1)[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)} == {*get_args(InputKind)} - {"other"}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", text))
    assert not [name for name in named if not (ROOT / name.partition("NAME")[0]).exists()]
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), link
