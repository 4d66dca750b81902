"""``melody train`` and ``export``: the stages of a preset, and what they left as model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from melody.bounds import MAX_SEED
from melody.cli.console import console, notes
from melody.cli.options import PresetOption, SetOption, StrictOption, ThreadsOption
from melody.errors import MelodyError
from melody.extras import lacking
from melody.threads import fix_patiently

LONGEST_TRAINING = 1_000_000_000
"""Steps."""

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
MaxClipsOption = Annotated[
    int | None, typer.Option(min=1, max=1_000_000_000, help="Of each split, the first so many: for a try.")
]


def train(
    stage: StageArgument,
    system: TrainSystemOption = "melody",
    preset: PresetOption = "demo",
    set_: SetOption = None,
    data: DataOption = "embedded",
    strict: StrictOption = False,
    max_clips: MaxClipsOption = None,
    out: OutOption = None,
    denoiser: DenoiserOption = None,
    weights: TrainWeightsOption = None,
    seed: TrainSeedOption = None,
    precision: PrecisionOption = None,
    accumulate: AccumulateOption = None,
    validate_every: ValidateEveryOption = None,
    accelerator: AcceleratorOption = "cpu",
    devices: DevicesOption = "1",
    num_nodes: NumNodesOption = 1,
    strategy: StrategyOption = "auto",
    stop_after: StopAfterOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train one stage of a preset, or all of them."""
    fix_patiently()
    try:
        from melody.config import load_preset, with_changes
        from melody.training.baselines import stage_graph
        from melody.training.hardware import Hardware
        from melody.training.shares import is_main
        from melody.training.stages import TrainingRun, with_settings
        from melody.training.stages import train as train_stage
    except ModuleNotFoundError as error:
        if error.name != "lightning":
            raise
        raise MelodyError(lacking(["lightning"], "training")) from None
    hardware = Hardware(accelerator, devices, num_nodes, strategy)
    graph = stage_graph(system)
    if denoiser is not None and system != "melody":
        raise MelodyError(f"--denoiser was given with --system {system}: only melody's preset has that role")
    changes = [*([] if denoiser is None else [f"denoiser.use={denoiser}"]), *(set_ or [])]
    loaded = with_settings(
        with_changes(load_preset(preset, graph.preset_type), changes),
        seed=seed,
        precision=precision,
        accumulate=accumulate,
        validate_every=validate_every,
    )
    folder = out or Path("runs") / (loaded.name if system == "melody" else f"{system}-{loaded.name}")
    run = TrainingRun(loaded, data, folder, hardware, strict=strict, weights=weights, max_clips=max_clips, plan=graph)
    if is_main():
        for line in run.left_out():
            notes.print(f"left out: {line}", markup=False, highlight=False, soft_wrap=True)
    train_stage(stage, run, stop_after=stop_after)
    if is_main() and (run.folder / "weights").is_dir():
        console.print(f"weights and card: {escape(str(run.folder / 'weights'))}")


def export(
    source: Annotated[Path, typer.Argument(help="A run folder, its weights, a stage's folder, or a checkpoint.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write: melody generate --weights FOLDER uses it.")],
    part: Annotated[
        str | None, typer.Option(help="One part only, as in denoiser; from the last checkpoint if its stage goes on.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="If the run does not tell: name, or path of a TOML file.")
    ] = None,
    set_: SetOption = None,
    dtype: Annotated[str, typer.Option(help="Of the stored values: float16 or float32.")] = "float16",
) -> None:
    """Turn what training left into model files: safetensors, config and card, for the hub or a colleague."""
    from melody.config import load_preset, with_changes
    from melody.training.export import export as run

    if set_ and preset is None:
        raise MelodyError("--set was given without --preset: a run tells its own preset, with all that was set")
    loaded = None if preset is None else with_changes(load_preset(preset), set_ or ())
    for line in run(source, out, part=part, preset=loaded, dtype=dtype):  # type: ignore[arg-type]
        console.print(escape(line))
    console.print(f"model files: {escape(str(out))}")
