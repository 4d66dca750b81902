"""Every part at the paper's size, for real, with random weights: seconds and peak memory of its passes.

    python benchmarks/paper_size.py --json paper-size.json

Each part and precision has a process of its own. Seconds are medians after a warm-up; processor seconds beside them say
what a pass takes where other load holds the wall clock up. Memory is the process's peak while passes run: weights,
activations and the libraries (some 0.4 GB), not what building took.

bf16 runs where the processor has instructions for it (avx512_bf16, amx_bf16) or on a GPU: weights in bf16, but the two
embedders by autocast, for their spectrograms need fp32.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from melody.artifacts.provenance import commit, device_name, machine, versions
from melody.config import Preset, load_preset
from melody.diffusion.guidance import guided_velocity
from melody.metrics.part_passes import Pass, passes
from melody.pipeline import build_part
from melody.pipeline.profiled_calls import Call
from melody.samplers import sample

PARTS = ("language_model", "denoiser", "codec", "joint_embedder", "semantic_tokenizer")
AUTOCAST = ("joint_embedder", "semantic_tokenizer")
WARM_UPS = 1


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(measure(options)))
        return
    precisions = options.precision or ["fp32", *(["bf16"] if has_bf16(options.device) else [])]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = []
    for part in options.part or PARTS:
        for precision in precisions:
            print(f"{part}, {precision} …", file=sys.stderr, flush=True)
            found += in_process_of_its_own(part, precision, options)
            report = facts(options, load) | {"passes": found}
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    print_table(report)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be repeated")
    parser.add_argument("--precision", action="append", choices=["fp32", "bf16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60, help="seconds after which a pass is not repeated")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def has_bf16(device: str) -> bool:
    """Whether the device has instructions for products in bf16; a processor is asked for its flags."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def in_process_of_its_own(part: str, precision: str, options: Any) -> list[dict[str, Any]]:
    """The passes of one part, or one row that says how it ended."""
    command = [sys.executable, __file__, "--one", "--part", part, "--precision", precision]
    for name in ("preset", "device", "threads", "repeats", "budget"):
        command += [f"--{name}", str(getattr(options, name))]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        return [{"part": part, "precision": precision, "failed": f"exit code {result.returncode}"}]
    rows: list[dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    return rows


def measure(options: Any) -> list[dict[str, Any]]:
    """Build one part and time its passes."""
    (part,), (precision,) = options.part, options.precision
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    preset = load_preset(options.preset)
    module = build_part(preset, part).eval().requires_grad_(False)
    if part == "codec":
        module.remove_weight_norm()
    if precision == "bf16" and part not in AUTOCAST:
        module = module.bfloat16()
    module = module.to(options.device)
    with torch.inference_mode(), _autocast(part, precision, options.device):
        label = {"part": part, "precision": precision}
        return [label | timed(one, options) for one in all_passes(preset, part, module)]


def all_passes(preset: Preset, part: str, module: nn.Module) -> list[Pass]:
    """Those that are counted, and for the denoiser a whole step of the preset's sampler."""
    with torch.device("meta"):
        rate: float = build_part(preset, "codec").frame_rate  # type: ignore[assignment]
    found = passes(preset, part, module, rate)
    return [*found, sampler_step(preset, module, rate)] if part == "denoiser" else found


def sampler_step(preset: Preset, denoiser: Any, frame_rate: float) -> Pass:
    """One step with guidance on one segment; the tokens are prepared before it."""
    settings, parameter = preset.generation, next(denoiser.parameters())
    frames, tokens = round(settings.segment_s * frame_rate), round(settings.segment_s * 25)
    noise = torch.randn(1, frames, denoiser.latent_dim, device=parameter.device, dtype=parameter.dtype)
    condition = denoiser.prepare(torch.zeros(1, tokens, dtype=torch.int64, device=parameter.device))
    velocity = guided_velocity(denoiser, condition, settings.guidance_scale)

    def step() -> Any:
        return sample(velocity, noise, sampler=settings.sampler, grid=settings.grid, num_steps=1)

    call = Call(lambda: None, step)
    return Pass("one sampler step", f"{settings.sampler}, guidance {settings.guidance_scale:g}", call, None)


def timed(one: Pass, options: Any) -> dict[str, Any]:
    """Medians of wall and processor seconds, and peak memory of the repeats."""
    forget_peak(options.device)
    wall: list[float] = []
    processor: list[float] = []
    for number in range(WARM_UPS + options.repeats):
        one.call.setup()
        before, begin = time.process_time(), time.perf_counter()
        one.call.run()
        if options.device != "cpu":
            torch.cuda.synchronize()
        taken = time.perf_counter() - begin
        if number >= WARM_UPS or taken > options.budget:  # a pass of minutes is its own warm-up
            wall.append(taken)
            processor.append(time.process_time() - before)
        if sum(wall) > options.budget:
            break
    return {
        "name": one.name,
        "shape": one.shape,
        "seconds": statistics.median(wall),
        "processor_seconds": statistics.median(processor),
        "repeats": len(wall),
        "peak_bytes": peak(options.device),
        "flops": one.formula.flops if one.formula else None,
    }


def _autocast(part: str, precision: str, device: str) -> contextlib.AbstractContextManager[Any]:
    wanted = precision == "bf16" and part in AUTOCAST
    return torch.autocast(device.partition(":")[0], torch.bfloat16) if wanted else contextlib.nullcontext()


def forget_peak(device: str) -> None:
    """Begin peak memory anew; Linux only, elsewhere the peak is the whole process's."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: str) -> int:
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def facts(options: Any, load: float | None) -> dict[str, Any]:
    return {
        "preset": options.preset,
        "device": device_name(options.device),
        "machine": machine() | {"threads": options.threads},
        "load_average_before": load,
        "commit": commit(),
        "versions": versions(),
    }


def print_table(report: dict[str, Any]) -> None:
    """What was measured, and under which load."""
    title = f"{report['device']}, {report['machine']['threads']} threads of {report['machine']['cores']} cores"
    table = Table(title=title, title_justify="left")
    for name in ("part", "pass", "precision"):
        table.add_column(name)
    for name in ("seconds", "processor s", "GFLOP/s", "peak", "repeats"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report["passes"]:
        table.add_row(*_cells(row))
    console = Console()
    console.print(table)
    load = report["load_average_before"]
    if load is not None and load > 0.5:
        console.print(f"Other load was on the machine: {load:.1f} processes wanted to run before this began.")
    console.print(f"torch {report['versions']['torch']}; GFLOP/s: by formula, over processor seconds.")


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield row["part"].replace("_", " ")
    if "failed" in row:
        yield from (row["failed"], "", row["precision"])
        return
    yield from (f"{row['name']}: {row['shape']}", row["precision"])
    yield from (f"{row[key]:,.3g}" for key in ("seconds", "processor_seconds"))
    yield f"{row['flops'] / row['processor_seconds'] / 1e9:,.1f}" if row["flops"] else "–"
    yield f"{row['peak_bytes'] / 2**30:.2f} GiB"
    yield str(row["repeats"])


if __name__ == "__main__":
    main()
