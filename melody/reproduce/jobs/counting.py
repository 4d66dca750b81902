"""Jobs that count what a clip costs: by formula on the meta device at any size, and on a real run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from melody.artifacts.code_identity import source_hash
from melody.artifacts.provenance import component_facts, deciding_versions, makings_facts
from melody.config import UNSAVED, Preset
from melody.errors import MelodyError
from melody.metrics.flops import count
from melody.protocols import CallCost, System
from melody.registry import systems
from melody.reproduce.context import Context
from melody.reproduce.jobs.generation import NAMED
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.loaded import Loaded
from melody.reproduce.random_systems import PROMPT, random_system
from melody.reproduce.systems import OWN

LARGEST_RUN = {"cpu": 3e12, "cuda": 1e15}
"""FLOPs of a run that is made only to be counted: about a minute of a CPU, or of a GPU."""


@dataclass(frozen=True, kw_only=True)
class CostJob(Job):
    """A job on a system of a preset's size with random weights, and what decides the calls of its clips."""

    random: dict[str, Any]
    """The system; nothing trained is loaded for it."""
    preset: str | None = None
    """SHA-256 of the content that gives the system its size."""
    components: dict[str, Any] | None = None
    size: dict[str, Any]
    """The run's preset."""
    duration_s: float
    variants: list[dict[str, Any]]
    """Options of each clip."""
    named: list[dict[str, Any]]
    versions: dict[str, str]
    measuring: str

    @property
    def system_of_size(self) -> str:
        return str(self.random["name"])

    def built(self, device: str) -> System:
        """The system, with random weights, or as shapes on the meta device."""
        return random_system(self.system_of_size, Preset.model_validate(self.size), device)

    def too_long(self, system: System) -> str:
        """Why the system cannot make a clip of this length; empty if it can."""
        if system.longest_s is None or self.duration_s <= system.longest_s:
            return ""
        return f"{self.system_of_size} makes clips of {system.longest_s:g} s at most, not of {self.duration_s:g} s"

    def counted(self) -> dict[str, Any]:
        """Every entry of a clip's work with the FLOPs and weights of a call, and the system's parameters."""
        system = self.built("meta")
        if reason := self.too_long(system):
            return {"absent": reason}
        work = system.work(self.duration_s, **self.variants[0])
        if not work:
            raise MelodyError(f"system {self.system_of_size!r} does not say what its clips are made of")
        modules = {id(parameter): parameter.numel() for call in work for parameter in call.module.parameters()}
        return {"entries": [entry(call) for call in work], "parameters": sum(modules.values())}


@dataclass(frozen=True, kw_only=True)
class WorkJob(CostJob):
    """Calls, FLOPs and weights of one clip, by formula, on the meta device."""

    kind: ClassVar[str] = "work"

    @classmethod
    def of(cls, preset: Preset, system: str, duration_s: float, options: Mapping[str, Any]) -> WorkJob:
        """The job of a preset's size."""
        label = f"{system}, {preset.name}: {duration_s:g} s by formula"
        return cls(label=label, **work_facts(preset, system, duration_s, [dict(options)]))

    def compute(self, loaded: Loaded) -> JobResult:
        return JobResult(self.counted())


@dataclass(frozen=True, kw_only=True)
class CountedRunJob(CostJob):
    """Passes and FLOPs of one clip, on a real run with random weights, where that is no matter of hours."""

    kind: ClassVar[str] = "counted-run"
    device: str

    @classmethod
    def of(
        cls, context: Context, preset: Preset, system: str, duration_s: float, options: Mapping[str, Any]
    ) -> CountedRunJob:
        """The job of a preset's size on the run's device."""
        label = f"{system}, {preset.name}: {duration_s:g} s on a run"
        facts = work_facts(preset, system, duration_s, [dict(options)])
        return cls(label=label, **facts, device=context.request.device.partition(":")[0])

    def compute(self, loaded: Loaded) -> JobResult:
        """A run that would take hours is left out, with the reason."""
        formula = self.counted()
        if "absent" in formula:
            return JobResult(formula)
        expected = sum(call["calls"] * call["flops"] for call in formula["entries"])
        if expected > LARGEST_RUN[self.device]:
            absent = f"a run of {expected / 1e12:,.0f} TFLOP is not made on a {self.device} only to be counted"
            return JobResult({"absent": absent})
        system = self.built(loaded.device)
        made: list[Any] = []

        def run() -> None:
            made.append(system.generate([PROMPT], duration_s=self.duration_s, seeds=[0], **self.variants[0]))

        flops = count(nn.Module(), run).flops
        trace = made[0].trace
        return JobResult(
            {
                "passes": dict(trace.passes),
                "weighted_passes": dict(trace.weighted_passes),
                "formula": dict(trace.formula),
                "prefill_tokens": trace.prefill_tokens,
                "flops": flops,
            }
        )


def work_facts(preset: Preset, system: str, duration_s: float, variants: list[dict[str, Any]]) -> dict[str, Any]:
    """What decides the calls of a system's clips."""
    return {
        "random": component_facts(systems, system),
        **_makings(system, preset),
        "size": preset.model_dump(mode="json", exclude={"training", *UNSAVED}),
        "duration_s": duration_s,
        "variants": variants,
        "named": [
            component_facts(NAMED[name], value)
            for options in variants
            for name, value in options.items()
            if name in NAMED and value in NAMED[name]
        ],
        "versions": deciding_versions(),
        "measuring": source_hash(__name__),
    }


def _makings(system: str, preset: Preset) -> dict[str, Any]:
    """Content of the preset that gives a system its size: another system has one of the same name."""
    made = systems.get(system).makings({"preset": preset if system == OWN else preset.name})
    return {} if made is None else makings_facts(made)


def entry(one: CallCost) -> dict[str, Any]:
    """One kind of call as plain values."""
    if one.setup is not None:
        one.setup()
    found = count(one.module, one.run)
    return {
        "part": one.part,
        "name": one.name,
        "shape": one.shape,
        "calls": one.calls,
        "rows": one.rows,
        "windows": one.windows,
        "serial": one.calls if one.serial is None else one.serial,
        "prefill_tokens": one.prefill_tokens,
        "once": one.once,
        "flops": found.flops,
        "weights": found.weights,
    }
