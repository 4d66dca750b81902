"""Units that count what a clip costs: by formula on the meta device at any size, and on a real run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from melody.artifacts.code_identity import source_hash
from melody.artifacts.provenance import component_facts, deciding_versions, makings_facts
from melody.config import Preset
from melody.errors import MelodyError
from melody.metrics.flops import count
from melody.protocols import CallCost, System
from melody.registry import systems
from melody.reproduce.context import Context
from melody.reproduce.jobs.generation import NAMED
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.random_systems import PROMPT, random_system
from melody.reproduce.systems import OWN

LARGEST_RUN = {"cpu": 3e12, "cuda": 1e15}
"""FLOPs of a run that is made only to be counted: about a minute of a CPU, or of a GPU."""


def counting_job(preset: Preset, system: str, duration_s: float, options: Mapping[str, Any]) -> Job:
    """Calls, FLOPs and weights of one clip, by formula."""
    config = work_facts(preset, system, duration_s, [dict(options)], deciding_versions())
    return Job("work", config, f"{system}, {preset.name}: {duration_s:g} s by formula")


def counted_run_job(
    context: Context, preset: Preset, system: str, duration_s: float, options: Mapping[str, Any]
) -> Job:
    """Passes and FLOPs of one clip, on a real run with random weights, where that is no matter of hours."""
    config = work_facts(preset, system, duration_s, [dict(options)], deciding_versions())
    config["device"] = context.device.partition(":")[0]
    return Job("counted-run", config, f"{system}, {preset.name}: {duration_s:g} s on a run")


def work_facts(
    preset: Preset, system: str, duration_s: float, variants: list[dict[str, Any]], versions: dict[str, str]
) -> dict[str, Any]:
    """What decides the calls of a system's clips."""
    return {
        "random": component_facts(systems, system),  # not "system": nothing trained is loaded for it
        **_makings(system, preset),
        "size": preset.model_dump(mode="json", exclude={"training"}),
        "duration_s": duration_s,
        "variants": variants,
        "named": [
            component_facts(NAMED[name], value)
            for one in variants
            for name, value in one.items()
            if name in NAMED and value in NAMED[name]
        ],
        "versions": versions,
        "measuring": source_hash(__name__),
    }


def _makings(system: str, preset: Preset) -> dict[str, Any]:
    """Content of the preset that gives a system its size: another system has one of the same name."""
    made = systems.get(system).makings({"preset": preset if system == OWN else preset.name})
    return {} if made is None else makings_facts(made)


def count_work(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a unit of ``work``."""
    return JobResult(counted(config))


def counted(config: dict[str, Any]) -> dict[str, Any]:
    """Every entry of a clip's work with the FLOPs and weights of a call, and the system's parameters."""
    system = random_system(config["random"]["name"], preset_of(config), "meta")
    if reason := too_long(system, config):
        return {"absent": reason}
    work = system.work(config["duration_s"], **config["variants"][0])
    if not work:
        raise MelodyError(f"system {config['random']['name']!r} does not say what its clips are made of")
    modules = {id(parameter): parameter.numel() for one in work for parameter in one.module.parameters()}
    return {"entries": [entry(one) for one in work], "parameters": sum(modules.values())}


def too_long(system: System, config: dict[str, Any]) -> str:
    """Why a system cannot make a clip of a unit's length; empty if it can."""
    if system.longest_s is None or config["duration_s"] <= system.longest_s:
        return ""
    return (
        f"{config['random']['name']} makes clips of {system.longest_s:g} s at most, not of {config['duration_s']:g} s"
    )


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


def run_counted(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a unit of ``counted-run``; a run that would take hours is left out, with the reason."""
    formula = counted(config)
    if "absent" in formula:
        return JobResult(formula)
    expected = sum(one["calls"] * one["flops"] for one in formula["entries"])
    limit = LARGEST_RUN[config["device"]]
    if expected > limit:
        absent = f"a run of {expected / 1e12:,.0f} TFLOP is not made on a {config['device']} only to be counted"
        return JobResult({"absent": absent})
    system = random_system(config["random"]["name"], preset_of(config), context.device)
    made: list[Any] = []

    def run() -> None:
        made.append(system.generate([PROMPT], duration_s=config["duration_s"], seeds=[0], **config["variants"][0]))

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


def preset_of(config: dict[str, Any]) -> Preset:
    """The preset that a unit is about."""
    return Preset.model_validate(config["size"])
