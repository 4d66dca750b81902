"""What a preset is made of: the paper's sizes, and costs by formula that torch's counter confirms."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from melody.config import Component, Preset, load_preset
from melody.protocols import Denoiser
from melody.registry import denoisers
from melody.reproduce.sizes import PAPER_MILLIONS, PassCost, Sizes, sizes

TOLERANCE = 1e-3
"""Of the formulas against torch's counter: a tenth of a per cent."""


@pytest.fixture(scope="module")
def paper() -> Sizes:
    return sizes(load_preset("paper"))


def agree(cost: PassCost) -> bool:
    return cost.flops_formula == pytest.approx(cost.flops_counted, rel=TOLERANCE) and cost.weights_formula == (
        pytest.approx(cost.weights_counted, rel=TOLERANCE)
    )


def test_every_part_of_the_papers_preset_has_the_papers_size(paper: Sizes) -> None:
    printed = [part for part in paper.parts if part.paper is not None]
    assert len(printed) == len(PAPER_MILLIONS) == 7
    assert [(part.name, part.difference) for part in printed if abs(part.difference or 0) > 1] == []
    assert all(part.place for part in printed)


def test_halves_add_up_to_the_codec(paper: Sizes) -> None:
    whole, *halves = [part for part in paper.parts if "codec" in (part.name, part.within)]
    assert whole.parameters == sum(half.parameters for half in halves)
    assert len(halves) == 2


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_formulas_and_counter_agree(preset: str, paper: Sizes) -> None:
    found = paper if preset == "paper" else sizes(load_preset(preset))
    assert [(cost.part, cost.name) for cost in found.passes if not agree(cost)] == []
    assert [cost.name for cost in found.passes].count("with guidance") == 1
    assert {cost.part for cost in found.passes} == {part.name for part in found.parts if not part.within} - {
        "quantiser"
    }


def test_formulas_hold_for_other_components_and_shapes(tiny_preset: Preset) -> None:
    """Widths that differ in the SRU, both codecs' other shapes."""
    changes = {
        "denoiser": Component(
            use="dual-path",
            arguments=tiny_preset.denoiser.arguments
            | {"recurrent_size": 6, "coarse_layers": 2, "num_blocks": 2, "merge_widths": (8, 1)},
        ),
        "codec": Component(use="hifi-vae", arguments=load_preset("paper").codec.arguments | {"encoder_units": 1}),
    }
    for change in ({}, changes):
        found = sizes(tiny_preset.model_copy(update=change))
        assert [(cost.part, cost.name) for cost in found.passes if not agree(cost)] == []


def test_guidance_costs_a_second_row_but_hardly_more_weights(paper: Sizes) -> None:
    alone, guided = [cost for cost in paper.passes if "guidance" in cost.name]
    assert 1.9 < (guided.flops_formula or 0) / (alone.flops_formula or 1) < 2.1
    assert 1 < (guided.weights or 0) / (alone.weights or 1) < 1.1
    assert guided.weight_bytes("fp32") == 2 * (guided.weight_bytes("half") or 0)


def test_other_presets_have_no_figure_of_the_paper(tiny_preset: Preset) -> None:
    assert all(part.paper is None and part.difference is None for part in sizes(tiny_preset).parts)


def test_json_holds_what_the_table_shows(paper: Sizes) -> None:
    content = json.loads(paper.to_json())
    assert content["parts"][0]["difference_percent"] == pytest.approx(0.109, abs=0.001)
    assert content["passes"][0]["weight_bytes_half"] * 2 == content["passes"][0]["weight_bytes_fp32"]
    assert content["versions"]["torch"] == torch.__version__.partition("+")[0]


class Foreign(nn.Module, Denoiser):
    """A denoiser of another project: a product, and an angle that must have a value if ``looks``."""

    def __init__(self, latent_dim: int = 4, looks: bool = False) -> None:
        super().__init__()
        self.latent_dim, self.looks = latent_dim, looks
        self.layer = nn.Linear(latent_dim, latent_dim)

    def prepare(self, semantic_tokens: Tensor) -> None:
        return None

    def repeat(self, condition: None, times: int) -> None:
        return None

    def forward(self, latents: Tensor, angle: Tensor, condition: None, unconditional: Tensor | None = None) -> Tensor:
        if self.looks and float(angle.max()) > 2:
            raise ValueError
        velocity: Tensor = self.layer(latents)
        return velocity


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tiny_preset: Preset) -> Preset:
    monkeypatch.setitem(denoisers._components, "foreign", Foreign)
    return tiny_preset.model_copy(update={"denoiser": Component(use="foreign")})


def test_a_component_that_is_not_ours_is_counted_without_a_formula(foreign: Preset) -> None:
    costs = [cost for cost in sizes(foreign).passes if cost.part == "denoiser"]
    assert [cost.flops_counted for cost in costs] == [0, 2 * 50 * 4 * 4, 2 * 2 * 50 * 4 * 4]
    assert all(cost.flops_formula is None for cost in costs)


def test_a_component_that_needs_values_says_so(foreign: Preset) -> None:
    component = Component(use="foreign", arguments={"looks": True})
    found = sizes(foreign.model_copy(update={"denoiser": component}))
    cost = next(cost for cost in found.passes if cost.name == "with guidance")
    assert cost.flops_counted is None
    assert cost.weights is None
    assert "cannot run without values" in cost.note
