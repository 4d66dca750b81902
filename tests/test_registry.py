"""Look-up, registration, description and validation of components."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from melody.errors import MelodyError
from melody.protocols import Sampler
from melody.registry import REGISTRIES, Registry, registry, samplers


def test_every_kind_of_the_design_has_a_registry_and_an_entry_point_group() -> None:
    kinds = {
        "language_models", "denoisers", "codecs", "token_codecs", "samplers", "grids", "semantic_tokenizers",
        "joint_embedders", "audio_embedders", "audio_taggers", "metrics", "systems", "tables",
    }  # fmt: skip
    assert set(REGISTRIES) == kinds
    assert {one.group for one in REGISTRIES.values()} == {f"melody.{kind}" for kind in kinds}


@pytest.mark.parametrize("kind", sorted(REGISTRIES))
def test_every_component_has_a_sentence_an_origin_and_described_parameters(kind: str) -> None:
    entries = registry(kind).entries()
    assert entries
    for entry in entries:
        if not entry.in_tree:
            continue
        assert entry.error is None
        assert entry.sentence.endswith(".")
        for parameter in registry(kind).parameters(entry.name):
            assert parameter.type


def test_unknown_name_lists_what_there_is_the_nearest_and_the_group() -> None:
    with pytest.raises(MelodyError, match=r"unknown sampler 'ddmi'; did you mean 'ddim'\?.*heun.*'melody.samplers'"):
        samplers.get("ddmi")


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(MelodyError, match="did you mean 'samplers'"):
        registry("sampler")


def test_a_taken_name_raises() -> None:
    one = Registry("grids", None, ())

    @one.register("same")
    def first(num_steps: int) -> None: ...

    def second(num_steps: int) -> None: ...

    with pytest.raises(MelodyError, match="registered twice"):
        one.register("same")(second)
    assert one.get("same") is first


def test_a_class_that_is_no_sampler_is_refused() -> None:
    one = Registry("samplers", "melody.protocols:Sampler", ())
    with pytest.raises(MelodyError, match=r"expected a subclass of melody\.protocols\.Sampler"):
        one.register("odd")(dict)


def test_a_class_that_lacks_a_method_is_refused_with_its_name() -> None:
    one = Registry("samplers", "melody.protocols:Sampler", ())

    class Half(Sampler):
        order = 1

    with pytest.raises(MelodyError, match="lacks step"):
        one.register("half")(Half)


class Knob:
    """A component with typed arguments."""

    def __init__(self, size: int, widths: tuple[int, ...] = (1, 2), name: str | None = None) -> None:
        self.size, self.widths, self.name = size, widths, name


@pytest.fixture
def knobs() -> Registry:
    one = Registry("grids", None, ())
    one.register("knob")(Knob)
    return one


def test_arguments_are_converted_and_defaults_shown(knobs: Registry) -> None:
    assert knobs.create("knob", {"size": 3, "widths": [4, 5]}).widths == (4, 5)
    assert [(p.name, p.default) for p in knobs.parameters("knob")] == [
        ("size", ...),
        ("widths", (1, 2)),
        ("name", None),
    ]
    assert knobs.validate("knob", {"size": 3}, where="here") == {"size": 3, "widths": (1, 2), "name": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 3, "width": [1]}, r"here: unknown key 'width'; did you mean 'widths'\?"),
        ({"size": "many"}, "here: size: Input should be a valid integer"),
        ({}, "here: size: Field required"),
    ],
)
def test_bad_arguments_are_one_line_with_the_place(knobs: Registry, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        knobs.create("knob", arguments, where="here")


def _distribution(folder: Path, name: str, points: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def test_a_broken_plug_in_breaks_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _distribution(
        tmp_path, "broken", "[melody.samplers]\nbroken = missing_module_xyz:Sampler\nddim = missing_module_xyz:Other\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    one = Registry("samplers", "melody.protocols:Sampler", ("melody.samplers",))
    for name in samplers.names():
        one._components[name] = samplers.get(name)
    errors = {entry.origin: entry.error for entry in one.entries() if entry.error}
    assert errors == {
        "broken (missing_module_xyz:Sampler)": "ModuleNotFoundError: No module named 'missing_module_xyz'",
        "broken (missing_module_xyz:Other)": "the name is taken by melody itself",
    }
    assert inspect.isclass(one.get("ddim"))
    with pytest.raises(MelodyError, match="cannot be used: ModuleNotFoundError"):
        one.get("broken")
