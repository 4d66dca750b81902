"""A run that never was: every verdict, every kind of number, hostile names, and sounds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody.evaluation.result import Measurement
from melody.reproduce.results import (
    Cell,
    Clip,
    Composition,
    Ordering,
    OrderingVerdict,
    Projection,
    Provenance,
    Reference,
    Results,
    Share,
    Statement,
    Table,
    Verdict,
)

RATE = 24_000
SOURCE = "Lam et al., Efficient Neural Music Generation, NeurIPS 2023, arXiv 2305.15719"
HOSTILE = "<script>alert('ö|*$1$')</script>"
PROMPT = 'a "slow" piano piece, <b>很慢的钢琴曲</b> & медленная | музыка'
QUALITY_REASON = "a demo-size system on the embedded corpus, by another embedder: its FAD is not the paper's"
NO_PAPER = "the paper prints no value here"
SPEED_REASON = "a demo-size system: its speed is not the paper's"
Row = dict[str, str | int | float]


def provenance(**fields: object) -> Provenance:
    known = {
        "preset": "demo",
        "device": "cpu (Xeon at 2.5 GHz)",
        "precision": "float32",
        "seeds": [0, 1, 2],
        "sample_count": 48,
        "embedder": "mel-stats",
        "versions": {"melody": "0.1.0", "python": "3.11.9", "torch": "2.11.0", "numpy": "1.26.4"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "weights": "ab" * 32,
        "inputs": "cd" * 32,
        "config": {"sampler": "ddim", "guidance_scale": 2.5, "prompts": [PROMPT]},
        "cells": [f"{n:02x}" * 32 for n in range(3)],
    }
    return Provenance.model_validate(known | fields)


def measurement(value: float, half: float | None = None, **fields: object) -> Measurement:
    known: dict[str, object] = {
        "value": value,
        "expected": 48,
        "scored": 48,
        "by_seed": {"0": value, "1": value * 1.02},
    }
    if half is not None:
        known |= {
            "low": value - half,
            "high": value + half,
            "interval": "95 % jackknife over prompts",
            "standard_error": half / 2,
        }
    return Measurement.model_validate(known | fields)


HOURS = ("hours", "training data", "training-data", "none", "1,000 h")
CPU = ("cpu_rtf", "CPU, × real time", "rtf", "higher", "×")
GPU = ("gpu_rtf", "GPU, × real time", "rtf", "higher", "×")
FAD = ("fad", "FAD[mel-stats]", "fad[mel-stats]", "lower", "")
MCC = ("mcc", "MCC[melody-demo]", "mcc[melody-demo]", "higher", "")
PASSES = ("passes", "passes, by hooks", "passes", "lower", "passes")
NFE = ("nfe", "NFE at 10 s, by hooks", "passes", "lower", "passes")
MUSICALITY = ("musicality", "musicality: MeLoDy and MusicLM", "preference", "higher", "")
MSE = ("mse", "velocity MSE", "velocity-mse", "lower", "")
GAIN = ("gain", "SI-SNRi", "si-snri", "higher", "dB")
OURS = ("passes", "MeLoDy's passes", "passes", "lower", "passes")
MUSICLM = ("musiclm", "MusicLM's passes", "passes-by-formula", "lower", "passes")
SAVING = ("saving", "passes saved", "passes-saved", "higher", "%")
Column = tuple[str, str, str, str, str]


def cell(row: Row, column: Column, verdict: Verdict, reason: str, **numbers: object) -> Cell:
    names = ("column", "label", "metric", "direction", "unit")
    fields: dict[str, object] = dict(zip(names, column, strict=True)) | {"tolerance": 0.05} | numbers
    if fields.get("measured") is not None:
        fields.setdefault("provenance", provenance())
    known = {"row": row, "metric_version": "1", "verdict": verdict, "reason": reason}
    return Cell.model_validate(known | fields)


def paper(value: float, place: str, grade: str = "P") -> Reference:
    return Reference.model_validate({"value": value, "place": place, "grade": grade})


def ordering(
    claim: str, verdict: OrderingVerdict, reason: str, difference: Measurement | None, paper_difference: float | None
) -> Ordering:
    known = {"claim": claim, "column": "fad", "verdict": verdict, "reason": reason}
    return Ordering.model_validate(known | {"difference": difference, "paper_difference": paper_difference})


def abilities() -> Table:
    facts = {
        ("mousai", "text"): (2.5, 1, 1, 0),
        ("musiclm", "text, melody"): (280.0, 1, 0, 1),
        ("noise2music", "text"): (340.0, 0, 0, 1),
        ("melody", "text, audio"): (257.0, 1, 1, 1),
    }
    cells = []
    for (system, prompts), (hours, ac, fr, vt) in facts.items():
        row: Row = {"system": system, "prompts": prompts}
        place, why = f"Table 1, {system}", f"no system {system!r} is registered"
        untested = (("AC", ac, "M"),) if system == "melody" else (("AC", ac, "M"), ("FR", fr, "P"), ("VT", vt, "P"))
        cells.append(cell(row, HOURS, "not attempted", why, paper=paper(hours, place)))
        for name, mark, grade in untested:
            cells.append(cell(row, _ability(name), "not attempted", why, paper=paper(mark, place, grade)))
        if system == "melody":
            yes, no = measurement(1.0), measurement(0.0, p_value=0.21, interval="permutation test")
            other = "the paper's device is a V100, this run's is a Xeon"
            cells.append(cell(row, _ability("FR"), "not comparable", other, paper=paper(fr, place), measured=yes))
            against = "0 against 1: -100.0 %, tolerance 0 %"
            cells.append(cell(row, _ability("VT"), "off", against, paper=paper(vt, place), measured=no))
    notes = [
        "AC: audio continuation; FR: faster than real time; VT: various text prompts. These expansions are recalled."
    ]
    return Table(suite="table1", title="Table 1: abilities", source=f"{SOURCE}, Table 1", notes=notes, cells=cells)


def _ability(name: str) -> Column:
    return (name, name, name.lower(), "higher", "yes = 1")


def speed_and_quality(samplers: tuple[str, ...] = ("ddim", "dpmpp_2m", HOSTILE)) -> Table:
    printed = {5: (0.06, 7.5, 7.23, 0.49), 10: (0.04, 4.4, 5.93, 0.52), 20: (0.02, 2.4, 5.41, 0.53)}
    cells = []
    for number, sampler in enumerate(samplers):
        for steps, values in printed.items():
            row: Row = {"sampler": sampler, "grid": "melody-linear", "num_steps": steps}
            cells += _speed_and_quality_row(row, number, steps, values if sampler == "ddim" else None)
    real: Row = {"system": "real clips"}
    why = "real clips are not generated: they have no passes and no speed"
    cells += [cell(real, column, "not attempted", why) for column in (CPU, GPU, PASSES)]
    floor = measurement(0.9, 0.08, warning="32 windows in 64 dimensions: strongly biased")
    cells.append(cell(real, FAD, "not comparable", NO_PAPER, measured=floor))
    theirs = paper(0.43, "Table 2, MusicCaps itself")
    cells.append(cell(real, MCC, "not comparable", NO_PAPER, measured=measurement(0.61, 0.08), paper=theirs))
    notes = [
        "Contradicts the paper: MCC of 20 steps is higher than of 10 (sampler = ddim): difference -0.031.",
        "Quality is measured against the held-out split of the embedded corpus, not against MusicCaps, and by a "
        "weight-free embedder, not by VGGish.",
    ]
    by = "95 % t interval over seeds, paired"
    orderings = [
        ordering(
            "FAD of 10 steps is lower than of 5", "holds", f"from +1.4 to +2.8 ({by})", measurement(2.1, 0.7), 1.3
        ),
        ordering(
            "MCC of 20 steps is higher than of 10", "contradicted", f"-0.031 ({by})", measurement(-0.031, 0.019), 0.01
        ),
        ordering(f"FAD falls (sampler = {HOSTILE})", "undecided", "1 seed gives no interval", measurement(0.12), None),
        ordering("GPU speed of 10 steps is lower than of 5", "not attempted", "this run is on cpu", None, 3.1),
    ]
    title = "Table 2: speed and quality by number of steps"
    return Table(
        suite="table2", title=title, source=f"{SOURCE}, Table 2", notes=notes, cells=cells, orderings=orderings
    )


def _speed_and_quality_row(row: Row, number: int, steps: int, printed: tuple[float, ...] | None) -> list[Cell]:
    places = ("CPU, ×", "GPU, ×", "FAD", "MCC")
    cpu, gpu, fad, mcc = (None,) * 4
    if printed:
        found = zip(printed, places, strict=True)
        cpu, gpu, fad, mcc = (paper(value, f"Table 2, T = {steps}, {place}") for value, place in found)
    ours = measurement(14.0 / math.sqrt(steps) + 0.4 * number, 0.35, scored=46 if number == 2 else 48)
    others = paper(8.1, "a blog post", "S") if steps == 10 and number == 0 else None
    text = measurement(0.2 + 0.05 * math.log2(steps) - 0.02 * number, 0.02)
    traffic = Projection(value=900 / steps, method="memory traffic of the weights over the card's bandwidth")
    of_parts = Composition(value=800 / steps, interval="calls of 3 kinds", expected=3, scored=3)
    here, why = "this column is of a cuda device, this run is on cpu", QUALITY_REASON if fad else NO_PAPER
    return [
        cell(row, CPU, "not comparable", SPEED_REASON, paper=cpu, measured=measurement(9 / steps, 0.2)),
        cell(row, GPU, "not attempted", here, paper=gpu, composed=of_parts, projected=traffic),
        cell(row, FAD, "not comparable", why, paper=fad, measured=ours, published=others),
        cell(row, MCC, "not comparable", QUALITY_REASON, paper=mcc, measured=text),
        cell(row, PASSES, "not comparable", NO_PAPER, measured=measurement(250.0 + steps)),
    ]


def passes() -> Table:
    cells = []
    place, listeners = "Table 3 at T = 10", "needs listeners: pairwise ratings by music producers"
    for system, theirs, preferred in (
        ("musiclm", 6250.0, 0.541),
        ("noise2music", 2600.0, 0.555),
        ("melody", 270.0, 0.459),
    ):
        row: Row = {"system": system}
        printed = paper(theirs, place, "D")
        if system == "melody":
            counted = measurement(270.0, expected=1, scored=1, by_seed={})
            cells.append(cell(row, NFE, "reproduced", "270 against 270: +0.0 %", paper=printed, measured=counted))
        else:
            other = paper(7050.0, "the last fine window is not clipped", "D") if system == "musiclm" else None
            why = f"no system {system!r} is registered"
            cells.append(cell(row, NFE, "not attempted", why, paper=printed, published=other))
        cells.append(cell(row, MUSICALITY, "not attempted", listeners, paper=paper(preferred, "Table 3")))
    return Table(suite="table3", title="Table 3: forward passes for 10 s, and preferences", source=SOURCE, cells=cells)


def schedules() -> Table:
    printed = {("uniform", 10): (8.52, 0.45), ("uniform", 20): (6.31, 0.49)}
    printed |= {("melody-linear", 10): (5.93, 0.52), ("melody-linear", 20): (5.41, 0.53)}
    cells = []
    for (grid, steps), (fad, mcc) in printed.items():
        row: Row = {"sampler": "ddim", "grid": grid, "num_steps": steps}
        ours = measurement(fad * 0.8 + 1, low=fad * 0.8 + 0.8, high=fad * 0.8 + 1.7, interval="jackknife")
        text = measurement(mcc - 0.2, 0.03)
        cells += [
            cell(row, FAD, "not comparable", QUALITY_REASON, paper=paper(fad, "Table 4"), measured=ours),
            cell(row, MCC, "not comparable", QUALITY_REASON, paper=paper(mcc, "Table 4"), measured=text),
        ]
    claim = "FAD of the linear schedule is lower than of the uniform one"
    orderings = [ordering(f"{claim} at {n} steps", "holds", "paired", measurement(2.1, 0.9), 2.59) for n in (10, 20)]
    return Table(suite="table4", title="Table 4: angle schedules", source=SOURCE, cells=cells, orderings=orderings)


def architectures() -> Table:
    cells = []
    for name, mse, gain in (("unet-1d", 0.13, 5.33), ("unet-2d", 0.15, 4.96), ("dual-path", 0.12, 6.15)):
        ours, row = name == "dual-path", {"denoiser": name}
        why = "a demo-size denoiser on the latents of another codec" if ours else f"no denoiser {name!r} is registered"
        verdict: Verdict = "not comparable" if ours else "not attempted"
        error, better = (measurement(0.31, 0.004), measurement(4.2, 0.11)) if ours else (None, None)
        cells += [
            cell(row, MSE, verdict, why, paper=paper(mse, "Table 5"), measured=error, provenance=None),
            cell(row, GAIN, verdict, why, paper=paper(gain, "Table 5"), measured=better),
        ]
    return Table(suite="table5", title="Table 5: architectures of the denoiser", source=SOURCE, cells=cells)


def claims() -> Table:
    cells = []
    for seconds, melody, musiclm, claimed, bases in (
        (10, 270.0, 6250.0, 95.7, {"counted by hooks": 270.0, "printed formula": 270.0}),
        (30, 770.0, 18750.0, 99.6, {"counted by hooks": 930.0, "printed formula": 770.0, "Algorithm 2": 930.0}),
    ):
        for basis, ours in bases.items():
            row: Row = {"duration_s": seconds, "basis": basis}
            saved = 100 * (1 - ours / musiclm)
            theirs = [paper(melody, "25·T + 20", "D"), paper(musiclm, "625·T", "D"), paper(claimed, "abstract")]
            verdicts: tuple[Verdict, ...] = ("reproduced", "off")
            text = f"{saved:.6g} against {claimed:g}, to 1 digit after the point"
            cells += [
                cell(row, OURS, verdicts[ours != melody], f"{ours:g} passes", paper=theirs[0], **_found(ours, basis)),
                cell(row, MUSICLM, "reproduced", f"{musiclm:g} against {musiclm:g}", paper=theirs[1]),
                cell(row, SAVING, verdicts[round(saved, 1) != claimed], text, paper=theirs[2], **_found(saved, basis)),
            ]
    notes = ["30 s: the abstract says 99.6 %, and no printed formula gives it."]
    title = "Claims of the abstract: 95.7 % and 99.6 % fewer forward passes than MusicLM"
    return Table(suite="claims", title=title, source=SOURCE, notes=notes, cells=cells)


def _found(value: float, basis: str) -> dict[str, object]:
    if basis == "counted by hooks":
        return {"measured": measurement(value, expected=1, scored=1)}
    return {"published": paper(value, "Table 3", "D")}


def published_samples() -> Table:
    cells = []
    columns = (("duration", "s", 10.0), ("loudness", "LUFS", -18.234), ("peak", "full scale", 0.913))
    between = ("fad", "FAD[mel-stats] against the other set", "fad[mel-stats]", "lower", "")
    rows: tuple[Row, ...] = (
        {"set": "melody", "against": "musiclm"},
        {"set": "musiclm", "against": "melody"},
        {"set": "melody minus musiclm"},
    )
    for row in rows:
        for name, unit, value in columns:
            paired = {} if "against" in row else {"value": 0.02, "p_value": 0.4}
            found = measurement(value, 0.011 * abs(value), expected=64, scored=64).model_copy(update=paired)
            cells.append(cell(row, (name, name, name, "none", unit), "not comparable", NO_PAPER, measured=found))
        if "against" in row:
            found = measurement(12.3, 1.1, expected=64, scored=64)
            cells.append(cell(row, between, "not comparable", NO_PAPER, measured=found))
    clips = [
        Clip(
            title=f"ddim, {steps} steps, seed 0",
            text=PROMPT if steps == 5 else "an upbeat techno track in a minor key",
            path=path,
        )
        for steps, path in (
            (5, "clips/five.flac"),
            (10, "clips/ten.wav"),
            (20, "clips/missing.flac"),
            (40, "../secret.flac"),
        )
    ]
    source = "demo page of the paper"
    return Table(
        suite="published-samples", title="The paper's published samples", source=source, cells=cells, clips=clips
    )


@pytest.fixture(scope="session")
def results() -> Results:
    tables = [abilities(), speed_and_quality(), passes(), schedules(), architectures(), claims(), published_samples()]
    return Results(
        created="2025-01-02T03:04:05Z",
        command=f"melody reproduce --sampler '{HOSTILE}'",
        seconds=412.3,
        cells_computed=31,
        cells_reused=12,
        split=[
            Share(work="melody: generation", units=3, seconds=41.4),
            Share(work="melody: count", units=1, seconds=0.2),
        ],
        statements=[
            Statement(text="More steps are better (Table 2)", verdict="undecided", reason="2 undecided", parts=2),
            Statement(text="99.6 % fewer passes (abstract)", verdict="does not come out", reason="95.04", parts=1),
            Statement(text="95.7 % fewer passes (abstract)", verdict="comes out", reason="95.68", parts=1),
            Statement(text=f"Listeners {HOSTILE}", verdict="not attempted", reason=f"no {HOSTILE}", parts=0),
        ],
        tables=tables,
    )


def write_sounds(folder: Path) -> None:
    """Two short sounds, made up of a few partials each."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    time = np.arange(2 * RATE) / RATE
    for name, pitch in (("five.flac", 220.0), ("ten.wav", 330.0)):
        envelope = np.exp(-3 * (time % 0.5))
        wave = sum(0.3 / k * np.sin(2 * np.pi * pitch * k * (1 + np.floor(time / 0.5) / 4) * time) for k in range(1, 6))
        soundfile.write(folder / "clips" / name, (0.5 * envelope * wave).astype(np.float32), RATE, subtype="PCM_16")


@pytest.fixture(scope="session")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_sounds(folder)
    return folder
