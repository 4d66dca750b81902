"""diffusers' schedulers as samplers, at the angles of our grids.

A scheduler is built as usual, and then its table of noise levels is replaced by that of our angles; with that, and with
v-prediction, which is our velocity, it makes its own update and nothing else.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from melody.errors import MelodyError, did_you_mean
from melody.extras import need
from melody.protocols import Sampler, Velocity
from melody.registry import samplers
from melody.samplers.rotation import rotate

Family = Literal["preserving", "exploding", "table"]

FAMILIES: dict[str, Family] = {
    "DDIMParallelScheduler": "table",
    "DDIMScheduler": "table",
    "DDPMParallelScheduler": "table",
    "DDPMScheduler": "table",
    "DPMSolverMultistepScheduler": "preserving",
    "DPMSolverSinglestepScheduler": "preserving",
    "EulerAncestralDiscreteScheduler": "exploding",
    "EulerDiscreteScheduler": "exploding",
    "LMSDiscreteScheduler": "exploding",
    "UniPCMultistepScheduler": "preserving",
}
"""How a scheduler holds noise levels, and thereby which ones can be run at given angles with one evaluation a step.

``preserving``: ``sigmas`` = tan δ, latents as ours; ``exploding``: ``sigmas`` = tan δ, latents over cos δ; ``table``:
cos²δ by integer time. Others take no v-prediction, evaluate twice a step, break at noise level 0 (DEIS, SA), or are
bound to the schedule of a distilled model.
"""

OURS: dict[str, Any] = {
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "thresholding": False,
    "timestep_spacing": "linspace",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
}
"""What the adapter decides: the model predicts velocity, the grid sets the noise levels and ends at 0."""

MEANINGLESS = {
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "num_train_timesteps",
    "rescale_betas_zero_snr",
    "sigma_min",
    "sigma_max",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "use_flow_sigmas",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "interpolation_type",
    "timestep_type",
    "variance_type",
}
"""Options that set noise levels (the grid does), or that belong to models which predict something else besides."""

CLEARANCE = 1e-3
"""How far from π/2 a scheduler starts (ours): its noise level tan δ is infinite there, and negative in float32."""


@samplers.register("diffusers")
class DiffusersScheduler(Sampler):
    """Any compatible scheduler of the diffusers package, by its class name, for frames that share one angle.

    Order and randomness are the scheduler's; what is declared here holds for the default one.

    Args:
        scheduler: name of the class, as in ``UniPCMultistepScheduler``.
        options: arguments of its constructor, as in ``{solver_order = 3}``.
    Raises:
        MelodyError: diffusers is not installed; the scheduler or an option is unknown or cannot be used here.
    """

    needs: ClassVar[tuple[str, ...]] = ("diffusers",)
    order: ClassVar[int] = 2

    def __init__(self, scheduler: str = "DPMSolverMultistepScheduler", options: dict[str, Any] | None = None) -> None:
        self.scheduler = scheduler
        self.options = dict(options or {})
        self._class = _scheduler_class(scheduler)
        _check_options(self._class, self.options)
        _build(self._class, self.options, 2)

    def init(self, latents: Tensor, angles: Tensor) -> _Run:
        """Build the scheduler anew for this run's angles; raises ``MelodyError`` if frames differ in theirs."""
        low, high = float(angles[0].min()), float(angles[0].max())
        if low != high:
            raise MelodyError(
                f"sampler 'diffusers': {self.scheduler} has one time for all frames, but they start at angles from "
                f"{low:.4g} to {high:.4g}; continuation and inpainting need a sampler such as 'ddim' or 'unipc'"
            )
        return _Run(self._class, self.options, FAMILIES[self.scheduler], angles[:, 0, 0].cpu())

    def step(
        self,
        velocity: Velocity,
        latents: Tensor,
        angle: Tensor,
        next_angle: Tensor,
        state: _Run,
        generator: Sequence[torch.Generator] | torch.Generator | None,
    ) -> tuple[Tensor, _Run]:
        """One step of the scheduler, with the velocity as its v-prediction."""
        if not angle.any():  # every frame is known already
            return latents, state
        predicted = velocity(latents, angle)
        # Only at π/2 does the scheduler stand elsewhere than we: turn latents and velocity there, so that they still
        # imply the same clean latents.
        omega = angle - state.angles[state.done].to(angle)
        return state.step(rotate(latents, predicted, omega), rotate(predicted, -latents, omega), generator), state


class _Run:
    """One scheduler in the course of one run; ``done`` steps of it lie behind."""

    def __init__(self, kind: Any, options: dict[str, Any], family: Family, angles: Tensor) -> None:
        self.family, self.done = family, 0
        self.angles = angles.clone()
        self.angles[0] = torch.clamp(angles[0], max=math.pi / 2 - min(CLEARANCE, float(angles[0] - angles[1]) / 2))
        num_steps = len(angles) - 1
        self.scheduler = _build(kind, options, num_steps)
        if family == "table":
            self._place_table(num_steps)
        else:
            self._place_sigmas()
        self.draws = "generator" in inspect.signature(self.scheduler.step).parameters

    def step(
        self, latents: Tensor, velocity: Tensor, generator: Sequence[torch.Generator] | torch.Generator | None
    ) -> Tensor:
        scheduler, time = self.scheduler, self.scheduler.timesteps[self.done]
        sample = latents.float() / self._scale(self.done)
        scheduler.scale_model_input(sample, time)  # Some warn unless it was called; its result is our own latents.
        rows = generator if generator is None or isinstance(generator, torch.Generator) else list(generator)
        noise_source = {"generator": rows} if self.draws else {}
        stepped: Tensor = scheduler.step(velocity.float(), time, sample, return_dict=False, **noise_source)[0]
        self.done += 1
        return stepped * self._scale(self.done)

    def _scale(self, step: int) -> float:
        return float(torch.cos(self.angles[step])) if self.family == "exploding" else 1.0

    def _place_sigmas(self) -> None:
        self.scheduler.sigmas = torch.tan(self.angles).float()
        # Times serve as labels only; distinct and not integers, for some schedulers refuse those.
        self.scheduler.timesteps = (self.angles[:-1] / (math.pi / 2) * 1000).float()
        self.scheduler.set_begin_index(0)

    def _place_table(self, num_steps: int) -> None:
        self.scheduler.alphas_cumprod = torch.cos(self.angles[:-1]).square().flip(0).float()
        self.scheduler.timesteps = torch.arange(num_steps - 1, -1, -1)


def _scheduler_class(name: str) -> Any:
    module = need("diffusers", "sampler 'diffusers'")
    scheduler = getattr(module, name, None)
    if name in FAMILIES and scheduler is not None:
        return scheduler
    what = "is unknown" if scheduler is None else "cannot be run at given angles with one evaluation a step"
    raise MelodyError(f"sampler 'diffusers': scheduler {name!r} {what}{did_you_mean(name, FAMILIES)}")


def _build(kind: Any, options: dict[str, Any], num_steps: int) -> Any:
    """The scheduler for so many steps; raises ``MelodyError`` with its own words if it refuses the options."""
    # A table has one row a step; other schedulers want no more steps than times, of which we use none.
    decided = {**OURS, "num_train_timesteps": num_steps if FAMILIES[kind.__name__] == "table" else max(1000, num_steps)}
    accepted = inspect.signature(kind.__init__).parameters
    try:
        scheduler = kind(**options, **{name: value for name, value in decided.items() if name in accepted})
        scheduler.set_timesteps(num_steps)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise MelodyError(
            f"sampler 'diffusers': {kind.__name__} refuses {options}: {' '.join(str(error).split())}"
        ) from None
    return scheduler


def _check_options(kind: Any, options: dict[str, Any]) -> None:
    free = set(inspect.signature(kind.__init__).parameters) - {"self"} - OURS.keys() - MEANINGLESS
    for name in options:
        if name in OURS or name in MEANINGLESS:
            raise MelodyError(f"sampler 'diffusers': option {name!r} is the adapter's or the grid's to decide")
        if name not in free:
            raise MelodyError(f"sampler 'diffusers': {kind.__name__} has no option {name!r}{did_you_mean(name, free)}")
