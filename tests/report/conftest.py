"""A run that never was: every verdict, every kind of number, hostile names, and sounds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody.harness.results import (
    Cell,
    Clip,
    Direction,
    Measurement,
    Ordering,
    Projection,
    Provenance,
    Reference,
    Results,
    Table,
    Verdict,
)

RATE = 24_000
SOURCE = "Lam et al., Efficient Neural Music Generation, NeurIPS 2023, arXiv 2305.15719"
HOSTILE = "<script>alert('ö|*$1$')</script>"
PROMPT = 'a "slow" piano piece, <b>很慢的钢琴曲</b> & медленная | музыка'
QUALITY_REASON = "a demo-size system on the embedded corpus, by another embedder: its FAD is not the paper's"
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


def cell(
    row: Row,
    column: str,
    label: str,
    metric: str,
    verdict: Verdict,
    reason: str,
    direction: Direction = "none",
    unit: str = "",
    **numbers: object,
) -> Cell:
    fields: dict[str, object] = {"tolerance": 0.05, **numbers}
    if fields.get("measured") is not None:
        fields.setdefault("provenance", provenance())
    known = {
        "row": row,
        "column": column,
        "label": label,
        "metric": metric,
        "metric_version": "1",
        "direction": direction,
    }
    return Cell.model_validate(known | {"unit": unit, "verdict": verdict, "reason": reason} | fields)


def paper(value: float, place: str, grade: str = "P") -> Reference:
    return Reference.model_validate({"value": value, "place": place, "grade": grade})


def abilities() -> Table:
    facts = {
        ("mousai", "text"): (2.5, 1, 1, 0),
        ("musiclm", "text, melody"): (280.0, 1, 0, 1),
        ("noise2music", "text"): (340.0, 0, 0, 1),
        ("melody", "text, audio"): (257.0, 1, 1, 1),
    }
    cells = []
    for (system, prompts), (hours, *marks) in facts.items():
        row: Row = {"system": system, "prompts": prompts}
        why = f"no system {system!r} is registered" if system != "melody" else "a preset's training data is in its card"
        place = f"Table 1, {system}"
        cells.append(
            cell(
                row,
                "hours",
                "training data",
                "training-data",
                "not attempted",
                why,
                "none",
                "1,000 h",
                paper=paper(hours, place),
            )
        )
        for name, mark in zip(("AC", "FR", "VT"), marks, strict=True):
            ours = system == "melody" and name != "AC"
            cells.append(
                cell(
                    row,
                    name,
                    name,
                    name.lower(),
                    ("off" if name == "VT" else "not comparable") if ours else "not attempted",
                    (
                        "0 against 1: -100.0 %, tolerance 0 %"
                        if name == "VT"
                        else "the paper's device is a V100, this run's is a Xeon"
                    )
                    if ours
                    else why,
                    "higher",
                    "yes = 1",
                    paper=paper(mark, place, "M" if name == "AC" else "P"),
                    measured=measurement(0.0 if name == "VT" else 1.0, p_value=0.21, interval="permutation test")
                    if ours
                    else None,
                )
            )
    notes = [
        "AC: audio continuation; FR: faster than real time; VT: various text prompts. These expansions are recalled."
    ]
    return Table(suite="table1", title="Table 1: abilities", source=f"{SOURCE}, Table 1", notes=notes, cells=cells)


def speed_and_quality(samplers: tuple[str, ...] = ("ddim", "dpmpp_2m", HOSTILE)) -> Table:
    printed = {
        5: (1472.0, 0.06, 7.5, 7.23, 0.49),
        10: (893.0, 0.04, 4.4, 5.93, 0.52),
        20: (498.0, 0.02, 2.4, 5.41, 0.53),
    }
    cells = []
    for number, sampler in enumerate(samplers):
        for steps, values in printed.items():
            row: Row = {"sampler": sampler, "grid": "melody-linear", "num_steps": steps}
            cells += _speed_and_quality_row(row, number, steps, values if sampler == "ddim" else None)
    real: Row = {"system": "real clips"}
    why = "real clips are not generated: they have no passes and no speed"
    for column, label, metric in COLUMNS:
        ours = metric.startswith(("fad", "mcc"))
        cells.append(
            cell(
                real,
                column,
                label,
                metric,
                "not comparable" if ours else "not attempted",
                "the paper prints no value here" if ours else why,
                "lower" if column == "fad" else "higher",
                measured=measurement(
                    0.9 if column == "fad" else 0.61, 0.08, warning="32 windows in 64 dimensions: strongly biased"
                )
                if ours
                else None,
                paper=paper(0.43, "Table 2, MusicCaps itself") if column == "mcc" else None,
            )
        )
    notes = [
        "Contradicts the paper: MCC of 20 steps is higher than of 10 (sampler = ddim): difference -0.031.",
        "Quality is measured against the held-out split of the embedded corpus, not against MusicCaps, and by a "
        "weight-free embedder, not by VGGish.",
    ]
    orderings = [
        Ordering(
            claim="FAD of 10 steps is lower than of 5 (sampler = ddim)",
            column="fad",
            verdict="holds",
            reason="difference +2.1, from +1.4 to +2.8 (95 % t interval over seeds, paired)",
            difference=measurement(2.1, 0.7),
            paper_difference=1.3,
        ),
        Ordering(
            claim="MCC of 20 steps is higher than of 10 (sampler = ddim)",
            column="mcc",
            verdict="contradicted",
            reason="difference -0.031, from -0.05 to -0.012 (95 % t interval over seeds, paired)",
            difference=measurement(-0.031, 0.019),
            paper_difference=0.01,
        ),
        Ordering(
            claim=f"FAD of 20 steps is lower than of 10 (sampler = {HOSTILE})",
            column="fad",
            verdict="undecided",
            reason="1 seed gives no interval; the difference is +0.12",
            difference=measurement(0.12),
        ),
        Ordering(
            claim="GPU speed of 10 steps is lower than of 5",
            column="gpu_rtf",
            verdict="not attempted",
            reason="this run is on cpu",
            paper_difference=3.1,
        ),
    ]
    title = "Table 2: speed and quality by number of steps"
    return Table(
        suite="table2", title=title, source=f"{SOURCE}, Table 2", notes=notes, cells=cells, orderings=orderings
    )


COLUMNS = (
    ("cpu_rtf", "CPU, × real time", "rtf"),
    ("gpu_rtf", "GPU, × real time", "rtf"),
    ("fad", "FAD[mel-stats]", "fad[mel-stats]"),
    ("mcc", "MCC[melody-demo]", "mcc[melody-demo]"),
    ("passes", "passes, by hooks", "passes"),
)


def _speed_and_quality_row(row: Row, number: int, steps: int, printed: tuple[float, ...] | None) -> list[Cell]:
    place = f"Table 2, T = {steps}"
    fad, mcc = 14.0 / math.sqrt(steps) + 0.4 * number, 0.2 + 0.05 * math.log2(steps) - 0.02 * number
    cpu, gpu, theirs_fad, theirs_mcc = (None,) * 4
    if printed:
        cpu, gpu = paper(printed[1], f"{place}, CPU, ×"), paper(printed[2], f"{place}, GPU, ×")
        theirs_fad, theirs_mcc = paper(printed[3], f"{place}, FAD"), paper(printed[4], f"{place}, MCC")
    missing = "the paper prints no value here"
    (c1, l1, m1), (c2, l2, m2), (c3, l3, m3), (c4, l4, m4), (c5, l5, m5) = COLUMNS
    return [
        cell(
            row,
            c1,
            l1,
            m1,
            "not comparable",
            SPEED_REASON,
            "higher",
            "×",
            paper=cpu,
            measured=measurement(9 / steps, 0.2),
        ),
        cell(
            row,
            c2,
            l2,
            m2,
            "not attempted",
            "this column is of a cuda device, this run is on cpu",
            "higher",
            "×",
            paper=gpu,
            projected=Projection(value=900 / steps, method="memory traffic of the weights over the card's bandwidth"),
        ),
        cell(
            row,
            c3,
            l3,
            m3,
            "not comparable",
            QUALITY_REASON if theirs_fad else missing,
            "lower",
            paper=theirs_fad,
            measured=measurement(fad, 0.35, scored=46 if number == 2 else 48),
            published=paper(8.1, "a blog post", "S") if steps == 10 and number == 0 else None,
        ),
        cell(
            row,
            c4,
            l4,
            m4,
            "not comparable",
            QUALITY_REASON,
            "higher",
            paper=theirs_mcc,
            measured=measurement(mcc, 0.02),
        ),
        cell(row, c5, l5, m5, "not comparable", missing, "lower", "passes", measured=measurement(250.0 + steps)),
    ]


def passes() -> Table:
    cells = []
    for system, theirs, ours in (("musiclm", 6250.0, None), ("noise2music", 2600.0, None), ("melody", 270.0, 270.0)):
        verdict: Verdict = "reproduced" if ours else "not attempted"
        why = "270 against 270: +0.0 %, tolerance 0 %" if ours else f"no system {system!r} is registered"
        cells += [
            cell(
                {"system": system},
                "nfe",
                "NFE at 10 s, by hooks",
                "passes",
                verdict,
                why,
                "lower",
                "passes",
                paper=paper(theirs, "Table 3 at T = 10", "D"),
                measured=measurement(ours, expected=1, scored=1, by_seed={}) if ours else None,
                published=paper(7050.0, "the same count if the last fine window is not clipped", "D")
                if system == "musiclm"
                else None,
            ),
            cell(
                {"system": system},
                "musicality",
                "musicality: MeLoDy and MusicLM",
                "preference",
                "not attempted",
                "needs listeners: pairwise ratings by music producers",
                "higher",
                paper=paper(0.541, "Table 3"),
            ),
        ]
    return Table(
        suite="table3", title="Table 3: forward passes for 10 s, and preference rates", source=SOURCE, cells=cells
    )


def schedules() -> Table:
    printed = {("uniform", 10): (8.52, 0.45), ("uniform", 20): (6.31, 0.49)}
    printed |= {("melody-linear", 10): (5.93, 0.52), ("melody-linear", 20): (5.41, 0.53)}
    cells = []
    for (grid, steps), (fad, mcc) in printed.items():
        row: Row = {"sampler": "ddim", "grid": grid, "num_steps": steps}
        ours = fad * 0.8 + 1
        cells += [
            cell(
                row,
                "fad",
                "FAD[mel-stats]",
                "fad[mel-stats]",
                "not comparable",
                QUALITY_REASON,
                "lower",
                paper=paper(fad, "Table 4"),
                measured=measurement(ours, low=ours - 0.2, high=ours + 0.7, interval="jackknife"),
            ),
            cell(
                row,
                "mcc",
                "MCC[melody-demo]",
                "mcc[melody-demo]",
                "not comparable",
                QUALITY_REASON,
                "higher",
                paper=paper(mcc, "Table 4"),
                measured=measurement(mcc - 0.2, 0.03),
            ),
        ]
    orderings = [
        Ordering(
            claim=f"FAD of the linear schedule is lower than of the uniform one at {steps} steps (sampler = ddim)",
            column="fad",
            verdict="holds",
            reason="difference +2.1, from +1.2 to +3.0 (95 % t interval over seeds, paired)",
            difference=measurement(2.1, 0.9),
            paper_difference=2.59,
        )
        for steps in (10, 20)
    ]
    return Table(suite="table4", title="Table 4: angle schedules", source=SOURCE, cells=cells, orderings=orderings)


def architectures() -> Table:
    cells = []
    for name, mse, gain in (("unet-1d", 0.13, 5.33), ("unet-2d", 0.15, 4.96), ("dual-path", 0.12, 6.15)):
        ours = name == "dual-path"
        why = "a demo-size denoiser on the latents of another codec" if ours else f"no denoiser {name!r} is registered"
        verdict: Verdict = "not comparable" if ours else "not attempted"
        cells += [
            cell(
                {"denoiser": name},
                "mse",
                "velocity MSE",
                "velocity-mse",
                verdict,
                why,
                "lower",
                paper=paper(mse, "Table 5"),
                measured=measurement(0.31, 0.004) if ours else None,
                provenance=None,
            ),
            cell(
                {"denoiser": name},
                "gain",
                "SI-SNRi",
                "si-snri",
                verdict,
                why,
                "higher",
                "dB",
                paper=paper(gain, "Table 5"),
                measured=measurement(4.2, 0.11) if ours else None,
            ),
        ]
    return Table(suite="table5", title="Table 5: architectures of the denoiser", source=SOURCE, cells=cells)


def claims() -> Table:
    cells = []
    for seconds, theirs, claimed, bases in (
        (10, 6250.0, 95.7, {"counted by hooks": 270.0, "printed formula": 270.0}),
        (30, 18750.0, 99.6, {"counted by hooks": 930.0, "printed formula": 770.0, "Algorithm 2 by formula": 930.0}),
    ):
        for basis, ours in bases.items():
            row: Row = {"duration_s": seconds, "basis": basis}
            saved, hooks = 100 * (1 - ours / theirs), basis == "counted by hooks"
            same = round(saved, 1) == claimed
            text = f"{saved:.6g} against {claimed:g}, to 1 digit after the point"
            verdict: Verdict = "reproduced" if same else "off"
            number = (
                {"measured": measurement(ours, expected=1, scored=1)}
                if hooks
                else {"published": paper(ours, "Table 3", "D")}
            )
            share = (
                {"measured": measurement(saved, expected=1, scored=1)}
                if hooks
                else {"published": paper(saved, "Table 3", "D")}
            )
            cells += [
                cell(
                    row,
                    "passes",
                    "MeLoDy's passes",
                    "passes",
                    "reproduced" if ours < 900 else "off",
                    f"{ours:g} passes",
                    "lower",
                    "passes",
                    paper=paper(270.0 if seconds == 10 else 770.0, "Table 3: 25·T + 20", "D"),
                    **number,
                ),
                cell(
                    row,
                    "musiclm",
                    "MusicLM's passes",
                    "passes-by-formula",
                    "reproduced",
                    f"{theirs:g} against {theirs:g}",
                    "lower",
                    "passes",
                    paper=paper(theirs, "Table 3: (25+200+400)·T", "D"),
                ),
                cell(
                    row,
                    "saving",
                    "passes saved",
                    "passes-saved",
                    verdict,
                    text,
                    "higher",
                    "%",
                    paper=paper(claimed, f"abstract, {seconds} s"),
                    **share,
                ),
            ]
    notes = ["30 s: the abstract says 99.6 %, and no printed formula gives it."]
    title = "Claims of the abstract: 95.7 % and 99.6 % fewer forward passes than MusicLM"
    return Table(suite="claims", title=title, source=SOURCE, notes=notes, cells=cells)


def published_samples() -> Table:
    cells = []
    for number, (name, against) in enumerate(
        (("melody", "musiclm"), ("musiclm", "melody"), ("melody minus musiclm", None))
    ):
        row: Row = {"set": name} | ({"against": against} if against else {})
        none = "the paper prints no value here"
        for column, unit, value in (
            ("duration", "s", 10.0),
            ("loudness", "LUFS", -18.234),
            ("peak", "full scale", 0.913),
        ):
            found = measurement(
                value if against else 0.02, 0.011 * abs(value), expected=64, scored=64, p_value=None if against else 0.4
            )
            cells.append(cell(row, column, column, column, "not comparable", none, "none", unit, measured=found))
        if number < 2:
            found = measurement(12.3, 1.1, expected=64, scored=64)
            cells.append(
                cell(
                    row,
                    "fad",
                    "FAD[mel-stats] against the other set",
                    "fad[mel-stats]",
                    "not comparable",
                    none,
                    "lower",
                    measured=found,
                )
            )
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
