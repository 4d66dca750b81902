"""Seconds of a clip: of the whole, where that is no matter of hours, and composed from calls that are timed each alone.

One network at a time is on the device, where a system's calls allow it; the others are shapes on the meta device.
Weights are random: speed does not depend on their values. What a composition leaves out (drawing tokens, arithmetic of
the sampler, the resampling of audio) is what the whole clip of a smaller preset is held against it for.
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from melody import threads
from melody.artifacts.code_identity import source_hash
from melody.artifacts.provenance import machine
from melody.config import Preset
from melody.devices import synchronize
from melody.errors import MelodyError, did_you_mean
from melody.protocols import CallCost, System
from melody.reproduce.context import Context
from melody.reproduce.jobs.counting import CostJob, entry, work_facts
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.loaded import Loaded
from melody.reproduce.random_systems import PROMPT, free_bytes

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REPEATS = 5
"""Timed calls, of which the median is taken, unless the budget ends before."""
LONG_S = 2.0
"""A call that takes longer is its own warm-up."""
ROOM = 1.5
"""Memory that a whole run takes, in weights: ours, with activations and caches."""

Key = tuple[str, str, str, int]


def check_precision(precision: str) -> str:
    """Raises ``MelodyError`` for an unknown one."""
    if precision not in DTYPES:
        raise MelodyError(f"unknown precision {precision!r}{did_you_mean(precision, DTYPES)}")
    return precision


@dataclass(frozen=True, kw_only=True)
class SpeedJob(CostJob):
    """Seconds of one clip with each of several sets of options, on this machine."""

    kind: ClassVar[str] = "speed"
    precision: str
    budget_s: float
    machine: dict[str, Any]
    timing: str
    """Hash of this code."""

    @classmethod
    def of(
        cls,
        context: Context,
        preset: Preset,
        system: str,
        duration_s: float,
        variants: Sequence[Mapping[str, Any]],
        precision: str,
    ) -> SpeedJob:
        """The job of a preset's size."""
        return cls(
            label=f"{system}, {preset.name}: seconds for {duration_s:g} s, {precision}",
            **work_facts(preset, system, duration_s, [dict(options) for options in variants]),
            precision=precision,
            budget_s=context.request.budget_s,
            machine=machine() | {"device": context.device_name},
            timing=source_hash(__name__),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # others' work on the machine
        budget = Budget(self.budget_s)
        system = self.built("meta")
        if reason := self.too_long(system):
            return JobResult({"absent": reason})
        timer = NetworkTimer(system, self, loaded.device)
        seconds = timer.time_all(budget)
        variants = []
        for options in self.variants:
            entries = [
                timer.counted[key_of(one)] | {"calls": one.calls} | seconds[key_of(one)] for one in timer.work(options)
            ]
            composed = sum(one["calls"] * one["seconds"] for one in entries)
            processor = sum(one["calls"] * one["processor_seconds"] for one in entries)
            variants.append({"entries": entries, "composed": composed, "processor": processor})
        weights = timer.parameters
        whole = WholeClip(self, loaded.device, weights, budget)
        values = {
            "variants": [
                found | {"whole": whole.time(options, found["composed"])}
                for options, found in zip(self.variants, variants, strict=True)
            ],
            "parameters": weights,
            "load_average_before": load,
        }
        return JobResult(values)


@dataclass
class Budget:
    """Seconds that may be spent; what must be run once is run all the same."""

    seconds: float

    def share(self, waiting: int) -> float:
        """For the next of so many that wait."""
        return max(0.0, self.seconds) / max(1, waiting)

    def spend(self, seconds: float) -> None:
        self.seconds -= seconds


def key_of(one: CallCost) -> Key:
    """What calls that take as long as each other have in common."""
    return one.part, one.name, one.shape, one.rows


class NetworkTimer:
    """A system as shapes, of which one network at a time is brought to the device."""

    def __init__(self, system: System, job: SpeedJob, device: str) -> None:
        self.job, self.device, self.dtype = job, device, DTYPES[job.precision]
        self.system = system
        kinds = {key_of(one): one for options in job.variants for one in self.work(options)}
        if not kinds:
            raise MelodyError(f"system {job.system_of_size!r} does not say what its clips are made of")
        self.counted = {key: entry(one) for key, one in kinds.items()}
        self._modules = {id(one.module): one.module for one in kinds.values()}
        self._of_module = {number: [k for k, w in kinds.items() if id(w.module) == number] for number in self._modules}
        values = {id(p): p.numel() for module in self._modules.values() for p in module.parameters()}
        self.parameters = sum(values.values())

    def work(self, options: Mapping[str, Any]) -> list[CallCost]:
        """The calls of a clip, on whatever devices the networks are now."""
        return self.system.work(self.job.duration_s, **options)

    def time_all(self, budget: Budget) -> dict[Key, dict[str, Any]]:
        """Seconds of a call of every kind, one network at a time; all at once if the system's calls want that."""
        try:
            return self._one_at_a_time(budget)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # what goes into a call lies where the whole system was built
            return self._all_at_once(budget)

    def _all_at_once(self, budget: Budget) -> dict[Key, dict[str, Any]]:
        needed, free = 4 * self.parameters, free_bytes(self.device)
        if needed > free:
            raise MelodyError(f"its networks take {needed / 1e9:.1f} GB, of which {free / 1e9:.1f} GB are free")
        self.system = self.job.built(self.device)
        kinds = {key_of(one): one for options in self.job.variants for one in self.work(options)}
        for one in kinds.values():
            one.module.to(self.dtype)
        found: dict[Key, dict[str, Any]] = {}
        for key in sorted(kinds, key=lambda key: -self._size(key)):
            found[key] = time_call(kinds[key], budget.share(len(kinds) - len(found)), self.device)
            budget.spend(found[key]["spent"])
        self.system = self.job.built("meta")
        return found

    def _one_at_a_time(self, budget: Budget) -> dict[Key, dict[str, Any]]:
        """The largest first, for the budget may end."""
        found: dict[Key, dict[str, Any]] = {}
        order = sorted(self._modules, key=lambda number: -sum(map(self._size, self._of_module[number])))
        for number in order:
            module = materialise(self._modules[number], self.device, self.dtype)
            kinds = {key_of(one): one for options in self.job.variants for one in self.work(options)}
            for key in sorted(self._of_module[number], key=lambda key: -self._size(key)):
                found[key] = time_call(kinds[key], budget.share(len(self.counted) - len(found)), self.device)
                budget.spend(found[key]["spent"])
            module.to("meta")
            kinds.clear()
            gc.collect()
        return found

    def _size(self, key: Key) -> int:
        one = self.counted[key]
        return int(one["calls"] * max(one["flops"], one["weights"]))


@torch.no_grad()
def materialise(module: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """Give a network of shapes values that keep activations in range: matrices of unit gain, ones and zeros beside."""
    module.to_empty(device=device).requires_grad_(False)
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            parameter.normal_(std=1 / math.sqrt(max(1, parameter[0].numel())))
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.normal_(std=0.02).abs_()
        else:
            buffer.zero_()
    return module.to(dtype).eval()


def time_call(one: CallCost, budget_s: float, device: str) -> dict[str, Any]:
    """Median wall and processor seconds of one call, and how often it was timed."""
    wall: list[float] = []
    processor: list[float] = []
    begin = time.perf_counter()
    with torch.inference_mode(), threads.every_core():
        for number in range(1 + REPEATS):
            if one.setup is not None:
                one.setup()
            taken, worked, made = _clocked(one.run, device)
            if any(isinstance(tensor, Tensor) and tensor.is_meta for tensor in tree_iter(made)):
                raise RuntimeError("the call ran on shapes and not on values")
            if number or taken > LONG_S:
                wall.append(taken)
                processor.append(worked)
            if wall and (len(wall) == REPEATS or time.perf_counter() - begin + taken > budget_s):
                break
    spent = time.perf_counter() - begin
    medians = {"seconds": statistics.median(wall), "processor_seconds": statistics.median(processor)}
    return medians | {"repeats": len(wall), "spent": spent}


def _clocked(run: Any, device: str) -> tuple[float, float, Any]:
    """Seconds of the clock, of the processor, and what came out."""
    synchronize(torch.device(device))
    worked, begin = time.process_time(), time.perf_counter()
    made = run()
    synchronize(torch.device(device))
    return time.perf_counter() - begin, time.process_time() - worked, made


class WholeClip:
    """The system as it is used, built when a clip of it can be afforded."""

    def __init__(self, job: SpeedJob, device: str, parameters: int, budget: Budget) -> None:
        self.job, self.device, self.budget = job, device, budget
        self.bytes = 4 * ROOM * parameters
        self._built: System | None = None

    def time(self, options: Mapping[str, Any], expected_s: float) -> dict[str, Any]:
        """Seconds of a whole clip, or why none was made."""
        if reason := self._too_much(expected_s):
            return {"absent": reason}
        if self._built is None:
            self._built = self.job.built(self.device)
        system, duration_s = self._built, self.job.duration_s

        def generate() -> None:
            system.generate([PROMPT], duration_s=duration_s, seeds=[0], **options)

        nothing: Any = nn.Module()
        clip = CallCost("whole", "clip", f"{duration_s:g} s", 1, nothing, generate)
        found = time_call(clip, self.budget.share(len(self.job.variants)), self.device)
        self.budget.spend(found["spent"])
        return found

    def _too_much(self, expected_s: float) -> str:
        precision, left = self.job.precision, max(0.0, self.budget.seconds)
        if precision != "fp32":
            return f"a whole clip is made in fp32 only, and not in {precision}"
        if 2 * expected_s > left:
            return f"a whole clip and its warm-up take about {2 * expected_s:,.0f} s, of which {left:,.0f} s are left"
        free = free_bytes(self.device)
        if self.bytes > free:
            return f"a whole clip takes {self.bytes / 1e9:.1f} GB, of which {free / 1e9:.1f} GB are free"
        return ""
