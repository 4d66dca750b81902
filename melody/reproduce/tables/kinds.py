"""Which module fills which kind of suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from melody.errors import MelodyError, did_you_mean
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Job
from melody.reproduce.suite import Suite
from melody.reproduce.tables import (
    attribute_agreement,
    capabilities,
    claims,
    codec,
    denoiser_by_angle,
    denoiser_comparison,
    generation_costs,
    language_model,
    nfe_needed,
    passes_and_preference,
    published_samples,
    quality_and_speed,
    retrieval,
    samplers,
    speed,
    step_time,
)
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import FilledTable, Quantity, TableBuilder


@dataclass(frozen=True)
class Kind:
    """How tables of one kind are planned and filled, and what their columns may measure."""

    measures: dict[str, Quantity]
    plan: Callable[[Suite, Context], list[Job]]
    fill: Callable[[TableBuilder], FilledTable]
    uses: Uses
    """What of a suite it reads; all else is refused."""
    weightless: bool = False
    """Whether it needs no trained weights, so that any preset can be named."""
    compares: Callable[[Suite, str], bool] = lambda suite, system: False
    """Whether a system that the run asks for is a row of a suite, or is counted in one."""
    samples: bool = False
    """Whether samplers that the run asks for are its rows."""


def _always(suite: Suite, system: str) -> bool:
    return True


SAMPLING = frozenset({"sampler", "grid", "num_steps"})
CLIPS = frozenset({"prompts", "duration_s", "seeds", "guidance_scale"})
HEARD = CLIPS | {"judges", "training_clips", "systems"}
ABLATION = Uses(HEARD - {"systems"} | SAMPLING | {"reference_clips"}, axes=SAMPLING)

KINDS = {
    "capabilities": Kind(
        capabilities.MEASURES,
        capabilities.plan,
        capabilities.fill,
        Uses(HEARD | SAMPLING, listed=frozenset({"system", "prompts"})),
        compares=_always,
    ),
    "quality-and-speed": Kind(
        quality_and_speed.MEASURES,
        quality_and_speed.plan,
        quality_and_speed.fill,
        Uses(
            HEARD | {"reference_clips"},
            listed=frozenset({"system"}),
            axes=SAMPLING,
            absent=True,
            timed=quality_and_speed.TIMED,
            compare=True,
        ),
        compares=lambda suite, system: suite.compare,
        samples=True,
    ),
    "passes-and-preference": Kind(
        passes_and_preference.MEASURES,
        passes_and_preference.plan,
        passes_and_preference.fill,
        Uses(HEARD | SAMPLING | {"reference_clips", "counted"}, listed=frozenset({"system"}), absent=True),
        compares=_always,
    ),
    "generation-costs": Kind(
        generation_costs.MEASURES,
        generation_costs.plan,
        generation_costs.fill,
        Uses(frozenset({"duration_s"}), listed=frozenset({"system", "duration_s"}), options=True),
        weightless=True,
    ),
    "speed": Kind(
        speed.MEASURES,
        speed.plan,
        speed.fill,
        Uses(frozenset({"duration_s"}), listed=frozenset({"system"}), options=True),
        weightless=True,
    ),
    "denoiser-comparison": Kind(
        denoiser_comparison.MEASURES,
        denoiser_comparison.plan,
        denoiser_comparison.fill,
        Uses(frozenset({"clips", "seeds"}), listed=frozenset({"denoiser"})),
    ),
    "claims": Kind(
        claims.MEASURES,
        claims.plan,
        claims.fill,
        Uses(
            SAMPLING | {"prompts", "guidance_scale", "counted"},
            listed=frozenset({"basis", "duration_s"}),
        ),
        compares=lambda suite, system: system == claims.THEIRS,
    ),
    "step-time": Kind(
        step_time.MEASURES,
        step_time.plan,
        step_time.fill,
        Uses(CLIPS | {"sampler", "grid"}, listed=frozenset({"device"}), axes=frozenset({"num_steps"})),
    ),
    "codec": Kind(codec.MEASURES, codec.plan, codec.fill, Uses(frozenset({"clips"}), listed=frozenset({"against"}))),
    "language-model": Kind(
        language_model.MEASURES,
        language_model.plan,
        language_model.fill,
        Uses(frozenset({"clips", "training_clips"}), listed=frozenset({"model"}), judged=False),
    ),
    "denoiser-by-angle": Kind(
        denoiser_by_angle.MEASURES,
        denoiser_by_angle.plan,
        denoiser_by_angle.fill,
        Uses(frozenset({"clips", "seeds", "guidance_scale"}), cells=frozenset({"angle"})),
    ),
    "retrieval": Kind(
        retrieval.MEASURES,
        retrieval.plan,
        retrieval.fill,
        Uses(frozenset({"prompts", "reference_clips"}), listed=frozenset({"text"})),
    ),
    "samplers": Kind(samplers.MEASURES, samplers.plan, samplers.fill, ABLATION, samples=True),
    "nfe-needed": Kind(nfe_needed.MEASURES, nfe_needed.plan, nfe_needed.fill, ABLATION, samples=True),
    "attribute-agreement": Kind(
        attribute_agreement.MEASURES,
        attribute_agreement.plan,
        attribute_agreement.fill,
        Uses(
            CLIPS | SAMPLING | {"reference_clips", "training_clips"},
            listed=frozenset({"sound", "windows", "window"}),
            embedders=frozenset({attribute_agreement.EMBEDDER}),
            judged=False,
        ),
    ),
    "published-samples": Kind(
        published_samples.MEASURES,
        published_samples.plan,
        published_samples.fill,
        Uses(frozenset(), listed=frozenset({"set", "against"})),
    ),
}


def kind_of(suite: Suite) -> Kind:
    """The suite's kind; raises ``MelodyError`` with the nearest valid one."""
    if suite.kind not in KINDS:
        raise MelodyError(f"suite {suite.name}: unknown kind {suite.kind!r}{did_you_mean(suite.kind, KINDS)}")
    return KINDS[suite.kind]
