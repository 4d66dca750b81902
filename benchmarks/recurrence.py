"""The SRU's recurrence, four ways, as ratios to the one that the library runs: ``python benchmarks/recurrence.py``.

- *loop*: step by step in place, derivative by hand (``melody.diffusion.sru``): what the library runs;
- *autograd loop*: the same steps, derivative by autograd;
- *scan*: a parallel scan of log2(K) levels (Hillis and Steele 1986), derivative by autograd;
- *compiled*: the autograd loop as one kernel by ``torch.compile``, which takes a C++ compiler or Triton. It is what a
  compiled denoiser runs for inference.

A scan takes log2(K) passes over memory where the steps take one in all, so it can pay only where a step alone does not
fill the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from melody.artifacts.provenance import device_name, machine, versions
from melody.diffusion.sru import _fused, _Recurrence

SHAPES = {"demo": (32, 1, 33, 128), "paper": (64, 1, 80, 1536)}
"""K, rows, segments of 10 s, and channels of both directions."""

Recurrence = Callable[[Tensor, Tensor, None], Tensor]


def scan(products: Tensor, highway: Tensor, padding: None) -> Tensor:
    """All prefixes of c_t = f_t c_{t-1} + b_t in log2(K) levels, both directions."""
    x, forget, reset = products.chunk(3, dim=-1)
    forget, reset = forget.sigmoid(), reset.sigmoid()
    forward, backward = ((f, x_part * (1 - f)) for f, x_part in zip(forget.chunk(2, -1), x.chunk(2, -1), strict=True))
    reverse = [tensor.flip(0) for tensor in backward]
    state = torch.cat([_prefixes(*forward), _prefixes(*reverse).flip(0)], dim=-1)
    return torch.lerp(highway, state, reset)


def _prefixes(f: Tensor, b: Tensor) -> Tensor:
    distance = 1
    while distance < len(f):
        b = torch.cat([b[:distance], torch.addcmul(b[distance:], f[distance:], b[:-distance])])
        f = torch.cat([f[:distance], f[distance:] * f[:-distance]])
        distance *= 2
    return b


def seconds(call: Callable[[], object], device: str) -> float:
    """Of one call: on a CPU of the processor, so that other load does not count, with one thread; else by the clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begin = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begin


def measure(shape: tuple[int, ...], device: str, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds forwards, and forwards with backwards, by way of computing; the ways take turns."""
    length, rows, segments, width = shape
    torch.manual_seed(0)
    products = torch.randn(length, rows, segments, 3 * width, device=device)
    highway = torch.randn(length, rows, segments, width, device=device)

    def infer(way: Recurrence) -> Tensor:
        with torch.no_grad():
            return way(products, highway, None)

    def train(way: Recurrence) -> None:
        leaf = products.detach().requires_grad_()
        way(leaf, highway, None).square().sum().backward()

    ways: dict[str, Recurrence] = {
        "loop": _Recurrence.apply,
        "autograd loop": _fused,
        "scan": scan,
        "compiled": torch.compile(_fused, dynamic=False),
    }
    expected = infer(ways["loop"])
    for way in ways.values():
        torch.testing.assert_close(infer(way), expected)
        train(way)
    found = {}
    for kind, run in (("inference", infer), ("training", train)):
        rounds = [{name: seconds(partial(run, way), device) for name, way in ways.items()} for _ in range(repeats)]
        for name in ways:
            found.setdefault(name, {})[kind] = statistics.median(one[name] for one in rounds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("shape", "way", "inference", "ratio", "training", "ratio", title=device_name(options.device))
    results = {}
    for name, shape in SHAPES.items():
        results[name] = found = measure(shape, options.device, options.repeats)
        for way, taken in found.items():
            row = [f"{taken[kind] * 1e3:.2f} ms" for kind in ("inference", "training")]
            ratios = [f"{taken[kind] / found['loop'][kind]:.2f}" for kind in ("inference", "training")]
            table.add_row(name if way == "loop" else "", way, row[0], ratios[0], row[1], ratios[1])
    Console().print(table)
    if options.json:
        facts = {"device": device_name(options.device), "machine": machine(), "versions": versions()}
        options.json.write_text(json.dumps(facts | {"seconds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
