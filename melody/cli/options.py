"""Options of the ``melody`` command: what each is called, takes and says of itself."""

import math
from pathlib import Path
from typing import Annotated

import typer

from melody.bounds import MAX_GUIDANCE, MAX_RUN_SEED, MAX_SEED, MAX_STEPS
from melody.threads import fix

DAY_S = 86_400
LONGEST_TRAINING = 1_000_000_000
"""Steps."""


def a_number(given: float | None) -> float | None:
    """Refuse what no bound refuses: NaN is neither below nor above one."""
    if given is not None and math.isnan(given):
        raise typer.BadParameter("expected a number, got nan")
    return given


PresetOption = Annotated[str, typer.Option("--preset", "-p", help="Name of a preset, or the path of a TOML file.")]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help="Name of a preset, or the path of a TOML file. \\[default: that of --weights if it has one, else demo]",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Folder of model files, or a hub id OWNER/NAME\\[@REVISION]; the preset's own if not given."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        help="Threads of the processor's arithmetic. \\[default: OMP_NUM_THREADS, else one, and every free core where "
        "music is made]",
        callback=lambda count: count if count is None else fix(count),
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
PromptArgument = Annotated[str | None, typer.Argument(help="What the music should be, in words.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write: .wav or .flac.")]
PromptAudioOption = Annotated[
    Path | None, typer.Option(help="Music to be like, in the place of words: a file of any rate and length.")
]
ContinueFromOption = Annotated[
    Path | None, typer.Option(help="Go on where this file ends; written is the file and what follows.")
]
EditOption = Annotated[Path | None, typer.Option(help="The file to change, with --inpaint.")]
InpaintOption = Annotated[
    str | None, typer.Option(metavar="BEGIN:END", help="Seconds of the file to make anew, as in 3.0:6.5.")
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        min=1e-3, max=DAY_S, callback=a_number, help="Seconds of new audio; the preset's segment if not given."
    ),
]
ContinuationOption = Annotated[
    str | None,
    typer.Option(help="Algorithm 2 beyond a segment: fixed (known frames held) or as-printed. \\[default: fixed]"),
]
StepsOption = Annotated[int | None, typer.Option(min=1, max=MAX_STEPS, help="Sampler steps.")]
SamplerOption = Annotated[str | None, typer.Option(help="See: melody components samplers.")]
GridOption = Annotated[str | None, typer.Option(help="Angle schedule; see: melody components grids.")]
GuidanceScaleOption = Annotated[
    float | None, typer.Option(min=0, max=MAX_GUIDANCE, callback=a_number, help="1 is without guidance.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same bits on CPU.")]
StageArgument = Annotated[
    str,
    typer.Argument(
        help="joint, rvq, semantic, lm, vae, dpd, or all, in the order of what each needs; of musiclm: codec, coarse, "
        "fine; of noise2music: generator, cascader, super_resolution."
    ),
]
TrainSystemOption = Annotated[str, typer.Option("--system", help="melody, or a baseline: musiclm, noise2music.")]
DataOption = Annotated[
    str,
    typer.Option(
        help="embedded (embedded:10,30 for pieces of 10 s and of 30 s), a folder of audio with a metadata.csv, or "
        "shards (see: melody data shards)."
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse a corpus with unreadable, empty or duplicate files.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Run folder; a second call on it goes on where the first ended. \\[default: runs/PRESET]"),
]
DenoiserOption = Annotated[
    str | None, typer.Option(help="Another denoiser in the role, as for Table 5; see: melody components denoisers.")
]
TrainWeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="Folder with parts of earlier stages that the run folder has not.")
]
TrainSeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=MAX_SEED, help="Of the weights' start and of all batches, for all stages."),
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed (Lightning's names), for all stages.")
]
AccumulateOption = Annotated[
    int | None, typer.Option(min=1, max=1_048_576, help="Parts into which each batch is cut, one after the other.")
]
ValidateEveryOption = Annotated[
    int | None,
    typer.Option(
        min=0, max=LONGEST_TRAINING, help="Steps between held-out figures and sounds in TensorBoard; 0 is never."
    ),
]
AcceleratorOption = Annotated[str, typer.Option(help="cpu, gpu or auto (Lightning's).")]
DevicesOption = Annotated[str, typer.Option(help="Processes on this node, or auto (Lightning's).")]
NumNodesOption = Annotated[int, typer.Option(min=1, max=100_000, help="Nodes (Lightning's).")]
StrategyOption = Annotated[str, typer.Option(help="auto, ddp, fsdp … (Lightning's).")]
StopAfterOption = Annotated[
    int | None,
    typer.Option(min=1, max=LONGEST_TRAINING, help="End early, after so many steps of a stage; a later call goes on."),
]
SuitesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Suites or groups (demo-card) by name, or paths of TOML files; all suites if none is given."),
]
ReproduceSamplerOption = Annotated[
    list[str] | None,
    typer.Option(help="Exactly these samplers (repeat it), instead of the suites' own and every plug-in's."),
]
SystemsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--system",
        metavar="NAME\\[=WEIGHTS]|FILE.toml",
        help="A system to compare with (repeat it), as in musicgen=FOLDER_OR_HUB_ID or folder=CLIPS; "
        "see: melody components systems.",
    ),
]
RatingsOption = Annotated[
    Path | None, typer.Option(help="CSV file of listeners' answers about the systems (format: docs/listening.md).")
]
ReproduceSeedOption = Annotated[int, typer.Option(min=0, max=MAX_RUN_SEED, help="Added to every seed of a suite.")]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of what was computed before, from which a killed run goes on; any number of runs may share it. "
        "\\[default: in the user's cache; see: melody cache]",
    ),
]
ReproduceOutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for results, page, tables and plots.")
]
PublishedSamplesOption = Annotated[
    Path | None,
    typer.Option(
        envvar="MELODY_PUBLISHED_SAMPLES",
        help="The authors' demo page as cloned, or a folder with its metadata.csv.",
    ),
]
SpeedPrecisionOption = Annotated[
    str, typer.Option("--precision", help="Of the speed table's networks: fp32, bf16 or fp16.")
]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--budget-s",
        min=1e-3,
        max=30 * DAY_S,
        callback=a_number,
        help="Seconds that the speed table may spend on each system.",
    ),
]
FullOption = Annotated[
    bool,
    typer.Option("--full", help="The long run: more prompts, seeds and steps; if no suite is named, all groups too."),
]
SplitOption = Annotated[
    str,
    typer.Option(
        help="Held-out split of the embedded corpus: test, validation to steer training by, or test-2, by which "
        "nothing was chosen."
    ),
]
