"""The loop that drives every sampler along a grid of angles, and holds it to what a sampler promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from melody import registry, threads
from melody.bounds import MAX_STEPS, shown
from melody.errors import MelodyError
from melody.protocols import Sampler, Velocity

Grid = str | Callable[[int], Tensor] | Tensor
ANGLE_TOLERANCE = 1e-6
"""float32's π/2 is 4e-8 above the real one."""


@torch.no_grad()
def sample(
    velocity: Velocity,
    latents: Tensor,
    *,
    sampler: Sampler | str,
    grid: Grid,
    num_steps: int,
    generator: Sequence[torch.Generator] | torch.Generator | None = None,
    callback: Callable[[int, int], None] | None = None,
    start_angle: Tensor | None = None,
) -> Tensor:
    """Take latents from noise to music (the inner loop of Algorithms 1 and 2).

    Angles are handed to the sampler in float64 (in float32 where the device has no float64), and to ``velocity`` in the
    precision of the latents.

    Args:
        velocity: ``velocity(latents (B, L, D), angle (B, L)) -> (B, L, D)``, guidance included.
        latents: ``(B, L, D)``: noise where ``start_angle`` is π/2, known latents where it is 0.
        sampler: an instance, or a registered name.
        grid: a registered name, a function of the number of steps, or the ``num_steps + 1`` angles themselves.
        generator: one for all rows, or one a row: then a row's noise is what it would get alone.
        callback: called with (steps done, ``num_steps``) after each.
        start_angle: ``(B, L)`` in [0, π/2], π/2 if not given. A frame goes from it to 0 in proportion to the grid; a
            frame at 0 is returned to the bit as it came (continuation, inpainting).
    Returns:
        Latents ``(B, L, D)`` at angle 0, in the precision they came in.
    Raises:
        MelodyError: bad arguments; a sampler that returns another shape or values that are not finite.
    """
    _check_num_steps(num_steps)
    _check_latents(latents)
    method = _sampler(sampler)
    start = _start(start_angle, latents)
    angles = _grid(grid, num_steps).to(start).view(-1, 1, 1) * start  # (num_steps + 1, B, L)
    model = _CheckedVelocity(velocity, latents)
    held, known = (start == 0).unsqueeze(-1), latents
    state = method.init(latents, angles)
    for step in range(num_steps):
        threads.adapt()
        where = f"at step {step + 1} of {num_steps}"
        try:
            returned = method.step(model, latents, angles[step], angles[step + 1], state, generator)
        except MelodyError:
            raise
        except Exception as error:  # a plug-in may fail in any way
            raise MelodyError(f"sampler {_name(method)!r} failed {where}: {type(error).__name__}: {error}") from error
        stepped, state = _checked(returned, latents, model, method, where)
        latents = torch.where(held, known, stepped)
        if callback is not None:
            callback(step + 1, num_steps)
    return latents


class _CheckedVelocity:
    """The velocity in the latents' precision, whatever the sampler computes in; remembers the last one for errors."""

    def __init__(self, velocity: Velocity, latents: Tensor) -> None:
        self.velocity, self.shape, self.dtype = velocity, latents.shape, latents.dtype
        self.last: Tensor | None = None

    def __call__(self, latents: Tensor, angle: Tensor) -> Tensor:
        predicted = self.velocity(latents.to(self.dtype), angle.to(self.dtype))
        if predicted.shape != self.shape:
            raise MelodyError(f"velocity returned shape {tuple(predicted.shape)}, expected {tuple(self.shape)}")
        self.last = predicted.to(self.dtype)
        return self.last


def _checked(
    returned: Any, latents: Tensor, model: _CheckedVelocity, method: Sampler, where: str
) -> tuple[Tensor, Any]:
    """The new latents, in the old ones' precision, and the state; or one line on what is wrong with them."""
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], Tensor)):
        got = type(returned).__name__
        raise MelodyError(f"sampler {_name(method)!r} returned a {got} {where}, expected (latents, state)")
    stepped, state = returned
    if stepped.shape != latents.shape:
        raise MelodyError(
            f"sampler {_name(method)!r} returned shape {tuple(stepped.shape)} {where}, expected {tuple(latents.shape)}"
        )
    if not torch.isfinite(stepped).all():
        what = "NaN" if torch.isnan(stepped).any() else "infinity"
        blame = (
            ""
            if model.last is None or torch.isfinite(model.last).all()
            else "; the velocity it was given was not finite"
        )
        raise MelodyError(f"sampler {_name(method)!r} returned {what} {where}, expected finite latents{blame}")
    return stepped.to(latents.dtype), state


def _name(method: Sampler) -> str:
    """The registered name of a sampler, or its class's."""
    for entry in registry.samplers.entries():
        if entry.component is type(method):
            return entry.name
    return type(method).__name__


def _check_num_steps(num_steps: int) -> None:
    if not isinstance(num_steps, int) or isinstance(num_steps, bool) or not 1 <= num_steps <= MAX_STEPS:
        raise MelodyError(
            f"num_steps: expected an integer of 1 or more, and at most {MAX_STEPS:,}, got {shown(num_steps)}"
        )


def _check_latents(latents: Tensor) -> None:
    if latents.dim() != 3 or not latents.is_floating_point():
        raise MelodyError(
            f"latents: expected floating-point (B, L, D), got {latents.dtype} of shape {tuple(latents.shape)}"
        )


def _sampler(sampler: Sampler | str) -> Sampler:
    if isinstance(sampler, str):
        created: Sampler = registry.samplers.create(sampler)
        return created
    if not isinstance(sampler, Sampler):
        raise MelodyError(f"sampler: expected a name or an instance of melody.protocols.Sampler, got {sampler!r}")
    return sampler


def _grid(grid: Grid, num_steps: int) -> Tensor:
    """The angles as fractions of π/2, from exactly 1 to exactly 0, checked."""
    if isinstance(grid, Tensor):
        name, angles = "given as a tensor", grid
    else:
        function = registry.grids.get(grid) if isinstance(grid, str) else grid
        name = repr(grid if isinstance(grid, str) else getattr(function, "__name__", "a function"))
        angles = torch.as_tensor(function(num_steps))
    if tuple(angles.shape) != (num_steps + 1,):
        raise MelodyError(f"grid {name}: expected {num_steps + 1} angles, got shape {tuple(angles.shape)}")
    fractions = angles.detach().to("cpu", torch.float64) / (math.pi / 2)
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    if not torch.allclose(fractions[[0, -1]], ends, rtol=0, atol=ANGLE_TOLERANCE) or not (fractions.diff() < 0).all():
        raise MelodyError(f"grid {name}: expected angles that fall from π/2 to 0, got {_brief(angles)}")
    fractions[[0, -1]] = ends
    return fractions


def _brief(angles: Tensor) -> str:
    values = [f"{value:.4g}" for value in angles.tolist()]
    return ", ".join(values if len(values) <= 6 else [*values[:3], "…", *values[-2:]])


def _start(start_angle: Tensor | None, latents: Tensor) -> Tensor:
    """The angle of each frame before the first step, ``(B, L)``."""
    dtype = torch.float32 if latents.device.type == "mps" else torch.float64  # that device has no float64
    if start_angle is None:
        return torch.full(latents.shape[:2], math.pi / 2, dtype=dtype, device=latents.device)
    if start_angle.shape != latents.shape[:2]:
        raise MelodyError(
            f"start_angle: expected shape {tuple(latents.shape[:2])}, one angle a frame, got {tuple(start_angle.shape)}"
        )
    inside = (start_angle >= 0) & (start_angle <= math.pi / 2 + ANGLE_TOLERANCE)
    if not inside.all():
        raise MelodyError("start_angle: expected angles from 0 to π/2")
    return start_angle.to(latents.device, dtype).clamp(max=math.pi / 2)
