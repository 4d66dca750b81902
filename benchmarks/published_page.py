"""``reports/published-samples.md`` and its plot, from what ``published_samples.py`` measured."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from melody.artifacts.files import write_bytes
from melody.evaluation.result import Comparison, Control, Difference, Evaluation, Score
from melody.report.evaluation_layout import DASH, control_cells, control_names, difference_cells, number, p_text, title
from melody.report.markdown import escaped
from melody.report.numbers import rounded
from melody.report.plots.figures import STYLE
from melody.report.plots.palette import SERIES

A, B = "MeLoDy", "MusicLM"
LEVEL = 0.05
OF_TEXTS = "[melody-demo]"


def write(found: dict[str, Any], out: Path) -> None:
    """The page and its plot."""
    write_bytes(out / "published-samples.md", page(found).encode())
    write_bytes(out / "published-samples.png", plot(Comparison.model_validate(found["paired"])))


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    paired = Comparison.model_validate(found["paired"])
    to_musiclm = [Evaluation.model_validate(one) for one in found["to_musiclm"]]
    to_melody = [Evaluation.model_validate(one) for one in found["to_melody"]]
    lines = [
        "# The paper's published samples",
        "",
        f"{A} against {B} on {paired.pairs} prompts that both were given, and uniform against linear angle "
        "schedules: the samples that the paper's authors put on their demo page, by every metric here that needs "
        f"no weights of others. {B}'s clips were taken by the authors from {B}'s own demo page; their own, they "
        "say, are not cherry-picked.",
        "",
        "Written by `python benchmarks/published_samples.py FOLDER` (`nox -s published_samples -- FOLDER`), where "
        "FOLDER is a clone of github.com/Efficient-MeLoDy/Efficient-MeLoDy.github.io; every number, and every "
        "clip's, is in `published-samples.json`. What the metrics are: `docs/metrics.md`.",
        "",
        *_said(paired, found),
        *_not_said(paired),
        *_files(paired, found),
        *_differences(paired),
        *_controls(paired),
        *_sets(found, to_musiclm, to_melody),
        *_schedules(found["schedules"]),
        *_provenance(paired, found),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _said(paired: Comparison, found: dict[str, Any]) -> list[str]:
    differ = [row for row in paired.differences if row.p_holm is not None and row.p_holm < LEVEL]
    undecided = [row for row in paired.differences if row.p_holm is not None and row.p_holm >= LEVEL]
    swapped, levelled = found["swapped"], found["swapped_at_one_loudness"]
    apart = "do not sound the same" if swapped["p_value"] < LEVEL else "are not told apart"
    lines = ["## What can be said", ""]
    lines.append(f"- **The two sets {apart} to `mel-stats`.** {_distance(swapped, levelled)}")
    if differ:
        lines.append(f"- **The files differ in {_list(_sentence(row) for row in differ)}.** {_level(paired)}")
    if undecided:
        named = sorted(undecided, key=lambda row: row.p_holm or 0.0)
        lines.append(
            f"- **Not decided** after Holm's correction over {len(differ) + len(undecided)} tests: "
            + _list(f"{row.name} (p {p_text(row.p_value)}, corrected {p_text(row.p_holm)})" for row in named)
            + ". An interval that leaves zero out in one row of many is no finding."
        )
    return [*lines, ""]


def _distance(swapped: dict[str, Any], levelled: dict[str, Any]) -> str:
    share = 1 - levelled["observed"] / swapped["observed"]
    return (
        f"Their Fréchet distance is {_against_null(swapped)}. With every clip brought to "
        f"{levelled['level_lufs']:.0f} LUFS it is {_against_null(levelled)}: {100 * share:.0f} % of the distance goes "
        "with the level of the files. These two p-values are of one question each, and not part of Holm's correction."
    ).replace(" -", " −")


def _against_null(swapped: dict[str, Any]) -> str:
    return (
        f"{swapped['observed']:.1f}, where {swapped['swaps']} random swaps of the systems within pairs give "
        f"{swapped['mean']:.1f} on average and {swapped['high']:.1f} or less in 95 % (p = {swapped['p_value']:.2g})"
    )


def _sentence(row: Difference) -> str:
    a, b = (number(value, None, None)[0] for value in (row.a, row.b))
    return f"{row.name} ({A} {a}, {B} {b}, d_z {rounded(round(row.effect_size or 0.0, 2))})"


def _level(paired: Comparison) -> str:
    """How the levels of the files came about, as far as peaks tell."""
    peaks = {name: _clips(one, "peak") for name, one in ((A, paired.a), (B, paired.b))}
    parts = []
    for name, values in peaks.items():
        top = max(values)
        same = sum(value > top - 0.001 for value in values)
        parts.append(f"{same} of {len(values)} clips by {name} peak at {top:.2f}")
    clipped = sum(value > 0 for value in _clips(paired.b, "clipping-rate"))
    return (
        f"These are facts about the files as published, and need not be any about the systems: {_list(parts)}, "
        f"which is what a fixed gain or a limiter before writing leaves behind; {clipped} clips by {B} have runs of "
        "samples at full scale. One line of code on either side would remove the difference."
    )


def _not_said(paired: Comparison) -> list[str]:
    return [
        "## What cannot be said",
        "",
        "- **Which system makes better music.** There is no real music here to measure against: a distance from "
        f"{A} to {B} is as large if the one is better as if it is worse, and the Fréchet distance is the same in "
        "both directions. No proxy is musicality; a metronome scores in full on beat strength. The paper's claim "
        "is about listeners' preference, and only listeners can repeat it (`docs/listening.md`).",
        f"- **Which system follows the text better.** The cosines (`mcc{OF_TEXTS}`) and ranks come from this project's "
        "demo joint embedding, which was trained on short synthetic pieces of six instruments and says next to nothing "
        f"about real music{_blindness(paired)}. Its rows, and those by `melody-joint` and `melody-joint-tags`, show "
        "that the line works; give `melody compare --joint` a CLAP checkpoint for a number.",
        f"- **How large the distance would be elsewhere.** {paired.pairs} clips are few: see the bias beside each "
        "number. The floor of `mel-stats` was chosen with these very samples in view (see its module), so its "
        "distances are not independent of them. Level, resampler, window and protocol move the number as well: "
        "*What moves the number* in `docs/metrics.md` has the table on these samples.",
        "- **Quality of the codecs.** Both sets are 24 kHz files, but they went through different codecs, and how "
        f"the authors copied {B}'s clips (a demo page may serve a lossy format) is not known; the table below shows "
        "how far up their spectra reach. A difference at high frequencies may be the file's and not the model's.",
        "- **Whether it generalises.** The prompts are those that MusicLM's authors chose to show; clips of one prompt "
        f"are one draw each. {B}'s may be picked.",
        "- **Anything about the schedules.** Three clips a cell decide nothing: with three pairs the smallest "
        "p-value that sign flips can give is 0.25, before any correction. No distance between sets is given for "
        "them.",
        "- **Reconstruction metrics** (`si-snr`, `mr-stft`, `log-mel`) have no meaning between two different "
        "pieces of music, and are left out; so are embedders whose weights are others' (VGGish, CLAP, EnCodec, "
        "PANN).",
        "",
    ]


def _blindness(paired: Comparison) -> str:
    blind = paired[f"mcc{OF_TEXTS}"].indistinguishable_from
    return f": on these samples it does not tell {_list(blind)} from the music with its own texts" if blind else ""


def _files(paired: Comparison, found: dict[str, Any]) -> list[str]:
    lines = ["## The files", "", f"| | {A} | {B} |", "|---|---:|---:|"]
    inputs, sounds = (paired.a.generated, paired.b.generated), [found["sounds"][name] for name in (A, B)]

    def add(label: str, *cells: str) -> None:
        lines.append(f"| {label} | {' | '.join(cells)} |")

    add("clips", *(f"{one.read} of {one.expected}" for one in inputs))
    add("format", *(", ".join(one.formats) for one in inputs))
    add("shortest and longest, s", *(f"{one['shortest_s']:.2f}, {one['longest_s']:.2f}" for one in sounds))
    add("highest peak", *(f"{one.highest_peak:.3f}" for one in inputs))
    for edge in sounds[0]["above_db"]:
        powers = (f"{one['above_db'][edge]:.1f}".replace("-", "−") for one in sounds)
        add(f"power above {int(edge) / 1000:g} kHz beside the whole, dB, median", *powers)
    add("SHA-256 of names and contents", *(f"`{one.content[:16]}`" for one in inputs))
    return [*lines, ""]


def _differences(paired: Comparison) -> list[str]:
    lines = [
        f"## {A} minus {B}, prompt by prompt",
        "",
        f"Intervals are 95 %. d_z is Cohen's: the mean difference in standard deviations of the {paired.pairs} "
        f"differences. *Verdict* is given below a corrected p of {LEVEL} and where a metric has a better side (↓ "
        "lower, ↑ higher). A remark tells where a metric does not tell a control from music on these samples.",
        "",
        f"![Effect sizes of the paired differences between {A} and {B}, with intervals](published-samples.png)",
        "",
        *_table(paired, A, B),
    ]
    return [*lines, ""]


def _table(both: Comparison, a: str, b: str) -> list[str]:
    lines = [
        f"| metric | {a} | {b} | difference | p | Holm | d_z | verdict | remarks |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    verdicts = {"A better": f"{a} better", "B better": f"{b} better"}
    for row in both.differences:
        cells = difference_cells(row)
        remarks = cells.remarks if row.value is not None else _without_difference(cells.remarks)
        verdict = DASH if row.value is None else verdicts.get(cells.verdict, cells.verdict)
        parts = [cells.title, cells.a, cells.b, cells.difference, cells.p, cells.holm, cells.effect, verdict, remarks]
        lines.append("| " + " | ".join(escaped(part) for part in parts) + " |")
    return lines


def _without_difference(remarks: str) -> str:
    """A rank is of a clip among all: it has no value of a pair."""
    _, _, rest = remarks.partition("; ")
    return "; ".join(part for part in ("of the set only", rest) if part)


def _controls(paired: Comparison) -> list[str]:
    names = control_names([*paired.a.scores, *paired.b.scores])
    lines = [
        "### Each set, and the controls",
        "",
        "What each metric says of sounds whose answer is known; ≈ marks a control that it does not tell from music "
        "here.",
        "",
        f"| metric | set | value | {' | '.join(names)} |",
        "|---|---|---:|" + "---:|" * len(names),
    ]
    for a, b in zip(paired.a.scores, paired.b.scores, strict=True):
        lines += [_control_row(score, name, names) for name, score in ((A, a), (B, b))]
    return [*lines, ""]


def _control_row(score: Score, of: str, names: list[str]) -> str:
    controls = {one.name: one for one in score.controls}
    value = " ".join(number(score.value, score.low, score.high)).strip()
    cells = [_control(controls.get(name)) for name in names]
    parts = [title(score.name, score.direction, score.unit), of, value, *cells]
    return "| " + " | ".join(escaped(part) for part in parts) + " |"


def _control(control: Control | None) -> str:
    if control is None:
        return DASH
    cells = control_cells(control)
    return f"{cells.value} {cells.mark}".strip()


def _sets(found: dict[str, Any], to_musiclm: list[Evaluation], to_melody: list[Evaluation]) -> list[str]:
    lines = [
        "## The distance between the two",
        "",
        "Each system in turn taken as the reference of the other. *Reference halves* is what the reference scores "
        "against itself, one half against the other, at half the size: the nearest thing to a floor. Between two "
        "systems neither *lower* nor *higher* is better; the arrows are the metrics' own, for a reference of real "
        "music. *Bias* is by how much the value is too large for want of clips, by the jackknife, and is not "
        "subtracted; `fad-inf` takes its own off, and what the jackknife says of it is mostly noise. `kl` compares the "
        "labels of the two clips of a prompt. ≈ marks a control that a metric does not tell from music.",
        "",
    ]
    for heading, evaluations in ((f"{A} against {B}", to_musiclm), (f"{B} against {A}", to_melody)):
        scores = [score for one in evaluations for score in one.scores]
        names = control_names(scores)
        lines += [
            f"### {heading} as the reference",
            "",
            f"| metric | value | bias | {' | '.join(names)} |",
            "|---|---:|---:|" + "---:|" * len(names),
        ]
        for score in scores:
            controls = {one.name: one for one in score.controls}
            value = " ".join(number(score.value, score.low, score.high)).strip()
            bias = DASH if score.bias is None else rounded(float(f"{score.bias:.2g}"))
            cells = [_control(controls.get(name)) for name in names]
            parts = [title(score.name, score.direction, score.unit), value, bias, *cells]
            lines.append("| " + " | ".join(escaped(part) for part in parts) + " |")
        lines += ["", _outliers(scores), ""]
    return lines


def _outliers(scores: list[Score]) -> str:
    (per_clip,) = (score for score in scores if score.metric == "fad-per-clip")
    worst = _list(f"{one.identifier} ({one.value:.0f})" for one in per_clip.worst)
    return f"Farthest from the reference by `fad-per-clip`: {worst}."


def _schedules(schedules: dict[str, Any]) -> list[str]:
    lines = ["## Linear minus uniform angle schedule", ""]
    for steps, one in schedules.items():
        both = Comparison.model_validate(one)
        seconds = both.a.generated.seconds / max(1, both.a.generated.read)
        lines += [
            f"### {steps} steps, {both.pairs} instruments, {seconds:.0f} s each",
            "",
            *_table(both, "linear", "uniform"),
            "",
        ]
    return lines


def _provenance(paired: Comparison, found: dict[str, Any]) -> list[str]:
    facts = paired.a.circumstances
    sources: dict[str, dict[str, Any]] = {}
    for one in (paired.model_dump()["a"], *found["to_musiclm"]):
        sources |= {
            score["name"].partition("[")[2].rstrip("]"): score["source"] for score in one["scores"] if score["source"]
        }
    contents = "".join(one.generated.content for one in (paired.a, paired.b))
    lines = ["## Provenance", "", "| | |", "|---|---|"]
    lines.append(f"| measured | {paired.created} |")
    lines.append(f"| seed | {facts.seed} |")
    lines.append(f"| device | {facts.device}, {facts.precision} |")
    lines.append(f"| versions | {escaped(', '.join(f'{name} {value}' for name, value in facts.versions.items()))} |")
    lines.append(f"| commit | `{facts.commit}` |")
    lines.append(f"| SHA-256 of both systems' sounds | `{hashlib.sha256(contents.encode()).hexdigest()}` |")
    for name, source in sources.items():
        weights = source.get("weights_hash")
        lines.append(f"| {name} | {f'weights `{weights}`' if weights else 'no weights'} |")
    return lines


def _clips(one: Evaluation, name: str) -> list[float]:
    return [value for value in one[name].clips.values() if value is not None]


def _list(parts: Iterable[str]) -> str:
    found = list(parts)
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)


def plot(paired: Comparison) -> bytes:
    """Effect sizes with intervals, as PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [row for row in paired.differences if row.effect_size and row.value and row.low is not None]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.8 + 0.27 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color="#57606a", linewidth=0.8)
        for place, row in enumerate(reversed(rows)):
            scale = row.effect_size / row.value  # type: ignore[operator]
            bounds = [(bound or 0.0) * scale for bound in (row.low, row.high)]
            decided = row.p_holm is not None and row.p_holm < LEVEL
            colour = SERIES[1] if decided else SERIES[0]
            axes.plot(bounds, [place, place], color=colour, linewidth=1.6)
            axes.plot(row.effect_size or 0.0, place, "s" if decided else "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            f"{A} minus {B}, in standard deviations\nof the differences (d_z)\n"
            f"bars: 95 % intervals; squares: p below {LEVEL} by Holm's correction"
        )
        held = io.BytesIO()
        figure.savefig(held, format="png", dpi=110, metadata={"Software": None})
    return held.getvalue()
