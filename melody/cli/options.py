"""Options that several commands share: what each is called, takes and says of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melody.threads import fix

if TYPE_CHECKING:
    from melody.config import Preset

DAY_S = 86_400


def a_number(given: float | None) -> float | None:
    """Refuse what no bound refuses: NaN is neither below nor above one."""
    if given is not None and math.isnan(given):
        raise typer.BadParameter("expected a number, got nan")
    return given


def preset_and_weights(
    preset: str | None, weights: str | None, changes: Sequence[str] = ()
) -> tuple[Preset, Path | None]:
    """The preset that ``--preset`` or else ``--weights`` names, with changes, and the folder of its weights, if any."""
    from melody.artifacts.hub import local_folder
    from melody.config import preset_for, with_changes

    folder = None if weights is None else local_folder(weights)
    return with_changes(preset_for(preset, folder), changes), folder


PresetOption = Annotated[str, typer.Option("--preset", "-p", help="Name of a preset, or the path of a TOML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another value of one key of the preset (repeat it), as in training.vae.steps=5 or denoiser.use=NAME; "
        "KEY= is its default.",
    ),
]
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
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse a corpus with unreadable, empty or duplicate files.")
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of what was computed before, from which a killed run goes on; any number of runs may share it. "
        "\\[default: in the user's cache; see: melody cache]",
    ),
]
SplitOption = Annotated[
    str,
    typer.Option(
        help="Held-out split of the embedded corpus: test, validation to steer training by, or test-2, by which "
        "nothing was chosen."
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", help="Tell the reason of every mark, every note, and where every number is from.")
]
