"""What a call of the cascade may set, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from melody.baselines.noise2music.preset import PARTS, Noise2MusicPreset
from melody.config import Generation
from melody.errors import MelodyError, did_you_mean
from melody.pipeline.settings import Settings

OPTIONS = frozenset({"num_steps", "sampler", "grid", "guidance_scale"})


def stage_settings(preset: Noise2MusicPreset, seeds: Sequence[int], **options: Any) -> dict[str, Settings]:
    """How each stage is sampled, by part.

    Args:
        seeds: one a row.
        num_steps: three numbers, of the generator, the cascader and the super-resolution; or a factor in (0, 1] on the
            preset's, as 0.05 for 50 + 40 + 40 of 1000 + 800 + 800.
        sampler, grid: of all stages.
        guidance_scale: of the generator; the other stages keep to the preset's.
    Raises:
        MelodyError: an unknown option, or a value that cannot be.
    """
    for name in options:
        if name not in OPTIONS:
            raise MelodyError(f"noise2music: unknown option {name!r}{did_you_mean(name, OPTIONS)}")
    steps = steps_of(preset, options.get("num_steps"))
    settings = {}
    for part in PARTS:
        network = getattr(preset, part)
        defaults = Generation(sampler=network.sampler, grid=network.grid, guidance_scale=network.guidance_scale)
        scale = options.get("guidance_scale") if part == PARTS[0] else None
        settings[part] = Settings.of(
            defaults,
            len(seeds),
            num_steps=steps[part],
            sampler=options.get("sampler"),
            grid=options.get("grid"),
            guidance_scale=scale,
            seeds=seeds,
        )
    return settings


def steps_of(preset: Noise2MusicPreset, num_steps: Any = None) -> dict[str, int]:
    """Sampler steps by part; see ``stage_settings``."""
    defaults = {part: getattr(preset, part).num_steps for part in PARTS}
    if num_steps is None:
        return defaults
    if isinstance(num_steps, int | float) and not isinstance(num_steps, bool) and 0 < num_steps <= 1:
        return {part: max(1, math.floor(count * num_steps + 0.5)) for part, count in defaults.items()}
    if isinstance(num_steps, list | tuple) and len(num_steps) == len(PARTS) and all(map(_is_count, num_steps)):
        return dict(zip(PARTS, num_steps, strict=True))
    whole = " + ".join(map(str, defaults.values()))
    raise MelodyError(
        f"noise2music: num_steps is {num_steps!r}: expected three integers of 1 or more (generator, cascader, "
        f"super-resolution), or a factor in (0, 1] on {whole}"
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def passes_of(settings: dict[str, Settings]) -> dict[str, int]:
    """Forward passes by part: steps times the sampler's evaluations a step, whatever the duration (Table 3)."""
    return {part: chosen.num_steps * chosen.sampler.evaluations_per_step for part, chosen in settings.items()}
