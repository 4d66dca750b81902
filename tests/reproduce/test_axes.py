"""Axes of a suite beyond sampler, grid and steps, and what plug-ins of other kinds put into tables by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from melody.artifacts.store import Store
from melody.artifacts.weights import read_weights, save_weights
from melody.config import Preset, with_changes
from melody.errors import MelodyError
from melody.pipeline import build_part
from melody.protocols import AudioTagger, Denoiser
from melody.registry import Entry, audio_taggers, denoisers, grids
from melody.reproduce.results import Cell, Results
from melody.reproduce.runner import reproduce
from melody.reproduce.suite import load_suites


class Still(nn.Module, Denoiser):
    """No velocity, and no weights."""

    def __init__(self, latent_dim: int = 32) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def prepare(self, semantic_tokens: Tensor) -> None:
        return None

    def forward(self, latents: Tensor, angle: Tensor, condition: Any, unconditional: Any = None) -> Tensor:
        return torch.zeros_like(latents)

    def repeat(self, condition: None, times: int) -> None:
        return None


def steep(num_steps: int) -> Tensor:
    """More steps near noise."""
    return torch.pi / 2 * torch.linspace(1, 0, num_steps + 1, dtype=torch.float64) ** 2


@pytest.fixture
def still() -> Iterator[None]:
    denoisers._load_plugins()["still"] = Entry("still", "plug-in (elsewhere:Still)", Still, version="1")
    yield
    del denoisers._load_plugins()["still"]


class Bands(AudioTagger):
    """Eight bands of a spectrum as labels."""

    version, sample_rate, window_s, hop_s = "1", 16_000, 1.0, 1.0
    labels = tuple("abcdefgh")

    def tag(self, waveform: Tensor) -> Tensor:
        return torch.fft.rfft(waveform).abs()[None, :8000].unflatten(1, (8, -1)).mean(dim=2).log1p()


@pytest.fixture
def bands() -> Iterator[None]:
    audio_taggers._load_plugins()["bands"] = Entry("bands", "plug-in (elsewhere:Bands)", Bands, version="1")
    yield
    del audio_taggers._load_plugins()["bands"]


@pytest.fixture
def steep_grid() -> Iterator[None]:
    grids._load_plugins()["steep"] = Entry("steep", "plug-in (elsewhere:steep)", steep, version="1")
    yield
    del grids._load_plugins()["steep"]


@pytest.fixture
def run(small_suite: Path, tiny_path: Path, tiny_weights: Path, tmp_path: Path) -> Any:
    """Fills a suite of the tiny system: its text with some replaced, or another's."""

    def fill(*changes: tuple[str, str], text: str = "", **options: Any) -> Results:
        suite = tmp_path / "changed.toml"
        text = text or small_suite.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        suite.write_text(text)
        asked: dict[str, Any] = {"preset": tiny_path, "weights": str(tiny_weights), **options}
        return reproduce(load_suites([suite]), store=Store(tmp_path / "store"), output=tmp_path / "out", **asked)

    return fill


def _cells(results: Results, column: str) -> list[Cell]:
    return [cell for cell in results.tables[0].cells if cell.column == column]


def _value(cell: Cell) -> float:
    assert cell.measured is not None, cell.reason
    return cell.measured.value


AXES = 'sampler = ["ddim"]\ngrid = ["melody-linear"]\nnum_steps = [2, 3]'


ORDERING = (
    """[[orderings]]
claim = "FAD of 3 steps is lower than of 2"
column = "fad"
lower = { num_steps = 3 }
higher = { num_steps = 2 }
each = "sampler"
""",
    "",
)
"""A change: no ordering."""


PLAIN = ("prompts = 3", "prompts = 3\nguidance_scale = 1.0")
"""A change: no guidance, which a denoiser that knows no tokens cannot have."""


def test_presets_and_components_are_axes(
    run: Any, still: None, tiny_path: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny_path.read_text().replace('name = "tiny"', 'name = "other"'))
    axes = f'denoiser = ["dual-path", "still"]\npreset = ["tiny", "{other}={tiny_weights}"]\nnum_steps = [2, 3]'
    cells = _cells(run((AXES, axes), ('sampler = "ddim", ', ""), ORDERING, PLAIN), "passes")
    assert [cell.row["denoiser"] for cell in cells] == ["dual-path"] * 4 + ["still"] * 4
    own, same, still_, _ = cells[0], cells[2], cells[4], cells[6]
    assert own.provenance
    assert same.provenance
    assert still_.provenance
    assert own.provenance.preset == "tiny"
    assert same.provenance.preset == "other"
    assert same.provenance.weights == own.provenance.weights != still_.provenance.weights
    assert still_.provenance.preset == "tiny with denoiser.use=still"
    assert [_value(cell) for cell in cells[:2]] == [27, 28], "sampling is the row's, whatever the preset"
    assert len({cell.provenance.cells[0] for cell in cells if cell.provenance}) == len(cells)


def test_every_option_of_generate_is_an_axis(run: Any) -> None:
    axes = 'guidance_scale = [1.0, 2.5]\ncontinuation = ["fixed", "as-printed"]\nduration_s = [1.0, 1.5]'
    results = run(
        (AXES, axes),
        ('row = { sampler = "ddim", num_steps = 2 }', "row = { duration_s = 1.0 }"),
        ORDERING,
        ("duration_s = 1.0\nseeds", "seeds"),
    )
    cells = _cells(results, "fad")
    values = {tuple(cell.row.values()): _value(cell) for cell in cells}
    assert len(values) == 8
    assert values[1.0, "fixed", 1.0] != values[2.5, "fixed", 1.0]
    assert values[1.0, "fixed", 1.0] == values[1.0, "as-printed", 1.0], "one segment has nothing to go on from"
    assert values[1.0, "fixed", 1.0] != values[1.0, "fixed", 1.5]
    first, *others = (cell.provenance for cell in cells if cell.provenance)
    assert not {key for other in others for key in other.cells[:2]} & set(first.cells[:2]), "generations of their own"
    assert {"guidance_scale": 1.0, "sampler": "ddim", "num_steps": 20}.items() <= first.config.items()


def test_grids_of_plug_ins_enter_tables_that_compare_grids(run: Any, steep_grid: None) -> None:
    two = ('grid = ["melody-linear"]', 'grid = ["uniform", "melody-linear"]')
    rows = [cell.row["grid"] for cell in _cells(run(two), "passes")]
    assert list(dict.fromkeys(rows)) == ["uniform", "melody-linear", "steep"]
    assert {cell.row["grid"] for cell in _cells(run(), "passes")} == {"melody-linear"}
    assert {cell.row["grid"] for cell in _cells(run(grids=["steep", "cosine"]), "passes")} == {"steep", "cosine"}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ('denoiser = ["stil"]', r"unknown denoiser 'stil' \(valid: a-unet, dual-path"),
        ('denoiser = ["unet-1d"]', r"suite small: denoiser = unet-1d: 'unet-1d' needs its weights: expected"),
        ('preset = ["demmo"]', "unknown preset 'demmo'; did you mean 'demo'"),
        ('guidance_scale = ["big"]', "guidance_scale: expected numbers of 0 or more, got 'big'"),
        ("num_steps = [0]", "num_steps: expected integers of 1 or more, got 0"),
        ('grids = ["uniform"]', "axes.grids has no use .*did you mean 'grid'"),
    ],
)
def test_bad_axes_are_one_line(run: Any, tmp_path: Path, axes: str, message: str) -> None:
    selector = ('row = { sampler = "ddim", num_steps = 2 }', "row = {}")
    with pytest.raises(MelodyError, match=message) as caught:
        run((AXES, axes), selector, ORDERING)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


def test_a_setting_beside_its_axis_has_no_use(run: Any) -> None:
    with pytest.raises(MelodyError, match="settings.sampler has no use beside axes.sampler"):
        run(("prompts = 3", 'prompts = 3\nsampler = "heun"'))


TABLE5 = """
name = "denoisers"
title = "Denoisers"
source = "Table 5"
version = "1"
kind = "denoiser-comparison"
[settings]
clips = 4
seeds = [0, 1]
[[columns]]
name = "velocity_mse"
label = "velocity MSE"
measure = "velocity_mse"
[[columns]]
name = "parameters"
label = "parameters"
measure = "parameters"
[[rows]]
row = { denoiser = "unet-1d" }
"""


@pytest.fixture
def unet(tiny_preset: Preset, tmp_path: Path) -> Path:
    """A folder with the weights of a small U-Net."""
    sizes = {
        "channels": "[8, 8]",
        "items": "[1, 1]",
        "factors": "[1, 2]",
        "attention": "[false, false]",
        "semantic_dim": 8,
    }
    changes = ["denoiser.use=unet-1d", *(f"denoiser.{name}={value}" for name, value in sizes.items())]
    preset, folder = with_changes(tiny_preset, changes), tmp_path / "unet"
    save_weights(build_part(preset, "denoiser"), folder / "denoiser.safetensors", preset.component_of("denoiser"))
    return folder


def test_denoisers_enter_table_5(run: Any, still: None, unet: Path) -> None:
    results = run(text=TABLE5, components={"denoiser": [f"unet-1d={unet}"]})
    errors = {str(cell.row["denoiser"]): cell for cell in _cells(results, "velocity_mse")}
    assert list(errors) == ["unet-1d", "dual-path of preset tiny", "unet-1d, as given", "still"]
    assert errors["unet-1d"].measured is None, "the study's learnt from the demo's codec"
    given, nothing = errors["unet-1d, as given"], errors["still"]
    assert _value(given) != _value(nothing) != _value(errors["dual-path of preset tiny"])
    assert given.provenance
    assert given.provenance.preset == "tiny with denoiser.use=unet-1d"
    sizes = {str(cell.row["denoiser"]): cell for cell in _cells(results, "parameters")}
    numbers = sum(tensor.numel() for tensor in read_weights(unet / "denoiser.safetensors")[1].values())
    assert 1e6 * _value(sizes["unet-1d, as given"]) == pytest.approx(numbers)
    assert _value(sizes["still"]) == 0


SPEED = """
name = "speeds"
title = "Speeds"
source = "Table 2"
version = "1"
kind = "speed"
[settings]
duration_s = 1.0
[[columns]]
name = "seconds"
label = "seconds"
measure = "seconds"
[[columns]]
name = "passes"
label = "passes"
measure = "passes"
[[rows]]
row = { system = "melody", num_steps = 2 }
[[rows]]
row = { system = "melody", num_steps = 3 }
"""


def test_components_and_presets_have_speeds(run: Any, unet: Path, tiny_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny_path.read_text().replace('name = "tiny"', 'name = "other"'))
    results = run(text=SPEED, weights=None, presets=[str(other)], components={"denoiser": [f"unet-1d={unet}"]})
    seconds = {tuple(cell.row.values()): cell for cell in _cells(results, "seconds")}
    assert list(seconds) == [(name, steps) for name in ("melody", "other", "unet-1d") for steps in (2, 3)]
    assert all(_value(cell) > 0 for cell in seconds.values())
    passes = {tuple(cell.row.values()): cell.projected for cell in _cells(results, "passes")}
    assert {number.value for number in passes.values() if number} == {27, 28}


def test_taggers_and_joint_embedders_have_columns(run: Any, bands: None, tiny_preset: Preset, tmp_path: Path) -> None:
    torch.manual_seed(5)
    build_part(tiny_preset, "joint_embedder").save_pretrained(tmp_path / "joint")
    columns = f"""
[[columns]]
name = "kl"
label = "KL"
metric = "kl-pooled"
tagger = "bands"
[[columns]]
name = "own"
label = "MCC"
metric = "mcc"
[[columns]]
name = "other"
label = "MCC by another"
metric = "mcc"
joint = "{tmp_path / "joint"}"

[[rows]]
row = {{ system = "real clips" }}

[[paper]]"""
    results = run(("\n[[paper]]", columns))
    for name, metric in (("kl", "kl-pooled[bands]"), ("own", "mcc"), ("other", f"mcc[{tmp_path / 'joint'}]")):
        cells = _cells(results, name)
        assert [cell.metric for cell in cells] == [metric] * 3
        assert all(_value(cell) is not None for cell in cells)
    assert [_value(cell) for cell in _cells(results, "own")] != [_value(cell) for cell in _cells(results, "other")]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ('metric = "kl-pooled"', "needs a tagger, one of: "),
        ('metric = "kl-pooled"\ntagger = "band"', "unknown tagger 'band'; did you mean 'bands'"),
        ('metric = "mcc"\ntagger = "bands"', "tagger has no use for metric 'mcc'"),
        ('metric = "kad"\nembedder = "mel-stats"\njoint = "demo"', "joint has no use for metric 'kad'"),
        ('metric = "mcc"\njoint = "nowhere"', "nowhere"),
    ],
)
def test_bad_listeners_are_one_line(run: Any, bands: None, column: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message) as caught:
        run(("\n[[paper]]", f'\n[[columns]]\nname = "x"\nlabel = "x"\n{column}\n\n[[paper]]'))
    assert "\n" not in str(caught.value)
