"""What the loop promises to callers, and demands of samplers."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from melody.errors import MelodyError
from melody.protocols import Sampler
from melody.registry import grids, samplers
from melody.samplers import sample

OURS = ["ancestral", "ddim", "dpmpp_2m", "heun", "unipc"]


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(row) for row in range(count)]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_frames_at_angle_zero_stay_to_the_bit(name, num_steps, mixture, noise):
    start = torch.full((2, 5), math.pi / 2)  # float32, as callers have it
    start[0, :3], start[1, 4] = 0.0, 0.0
    got = sample(
        mixture.velocity,
        noise,
        sampler=name,
        grid="uniform",
        num_steps=num_steps,
        start_angle=start,
        generator=_generators(2),
    )
    held = start == 0
    assert torch.equal(got[held], noise[held])
    assert torch.isfinite(got).all()
    assert not torch.isclose(got[~held], noise[~held]).any()


@pytest.mark.parametrize("name", OURS)
def test_a_sampler_by_itself_leaves_frames_at_zero_alone(name, mixture, noise):
    """The loop would restore them anyway; but what a sampler makes of them must not depend on that."""
    sampler, zero = samplers.create(name), torch.zeros(2, 5, dtype=torch.float64)
    latents, state = noise, sampler.init(noise, torch.zeros(4, 2, 5, dtype=torch.float64))
    for _ in range(3):
        latents, state = sampler.step(mixture.velocity, latents, zero, zero, state, None)
    assert torch.equal(latents, noise)


@pytest.mark.parametrize("name", OURS)
def test_frames_move_independently_where_the_velocity_is_by_frame(name, mixture, noise):
    """A frame that starts at its own angle ends where a whole batch that starts there ends."""
    start = torch.linspace(0.1, math.pi / 2, 10, dtype=torch.float64).view(2, 5)
    arguments = {"sampler": name, "grid": "melody-linear", "num_steps": 6}
    together = sample(mixture.velocity, noise, start_angle=start, generator=_generators(2), **arguments)
    for row, frame in ((0, 0), (0, 3), (1, 1), (1, 4)):
        same = torch.full_like(start, float(start[row, frame]))
        alone = sample(mixture.velocity, noise, start_angle=same, generator=_generators(2), **arguments)
        torch.testing.assert_close(together[row, frame], alone[row, frame], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [*OURS, "diffusers"])
def test_a_row_in_a_batch_equals_the_row_alone_to_the_bit(name, mixture, noise):
    arguments = {"sampler": name, "grid": "cosine", "num_steps": 5}
    together = sample(mixture.velocity, noise, generator=_generators(2), **arguments)
    for row, generator in enumerate(_generators(2)):
        alone = sample(mixture.velocity, noise[row : row + 1], generator=[generator], **arguments)
        assert torch.equal(together[row : row + 1], alone)


@pytest.mark.parametrize("name", [*OURS, "diffusers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_precision_is_kept_and_the_same_seed_gives_the_same_bits(name, dtype, mixture, noise):
    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return sample(mixture.velocity, noise.to(dtype), sampler=name, grid="uniform", num_steps=4, generator=generator)

    first = run()
    assert first.dtype == dtype
    assert torch.equal(first, run())


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun", "unipc"])
def test_single_precision_follows_double(name, mixture, noise):
    double = sample(mixture.velocity, noise.double(), sampler=name, grid="uniform", num_steps=200)
    single = sample(mixture.velocity, noise, sampler=name, grid="uniform", num_steps=200)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-5)


def test_angles_reach_the_velocity_in_the_latents_precision(noise):
    seen = []

    def velocity(latents, angle):
        seen.append((latents.dtype, angle.dtype, tuple(angle.shape), float(angle.max())))
        return torch.zeros_like(latents)

    sample(velocity, noise, sampler="ddim", grid="uniform", num_steps=2)
    assert seen == [
        (torch.float32, torch.float32, (2, 5), pytest.approx(math.pi / 2)),
        (torch.float32, torch.float32, (2, 5), pytest.approx(math.pi / 4)),
    ]


def test_progress_is_reported_after_each_step(mixture, noise):
    seen = []
    sample(
        mixture.velocity, noise, sampler="ddim", grid="uniform", num_steps=3, callback=lambda *done: seen.append(done)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_grid_may_be_a_name_a_function_or_angles(mixture, noise):
    def run(grid):
        return sample(mixture.velocity, noise, sampler="heun", grid=grid, num_steps=5)

    named = run("melody-linear")
    assert torch.equal(named, run(grids.get("melody-linear")))
    assert torch.equal(named, run(grids.get("melody-linear")(5)))
    torch.testing.assert_close(named, run(grids.get("melody-linear")(5).float()))
    assert not torch.equal(named, run("uniform"))


class Breaking(Sampler):
    """Returns what it is told to at its second step."""

    order = 1

    def __init__(self, returned):
        self.returned = returned

    def step(self, velocity, latents, angle, next_angle, state, generator):
        if state is None:
            return latents, "second"
        return self.returned(latents)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda z: (z * math.nan, None), "sampler 'Breaking' returned NaN at step 2 of 10"),
        (lambda z: (z / 0, None), "sampler 'Breaking' returned infinity at step 2 of 10"),
        (lambda z: (z[:, :-1], None), r"returned shape \(2, 4, 4\) at step 2 of 10, expected \(2, 5, 4\)"),
        (lambda z: z, r"sampler 'Breaking' returned a Tensor at step 2 of 10, expected \(latents, state\)"),
        (lambda z: None, "sampler 'Breaking' returned a NoneType at step 2 of 10"),
    ],
)
def test_a_sampler_that_misbehaves_is_named(returned, message, mixture, noise):
    with pytest.raises(MelodyError, match=message):
        sample(mixture.velocity, noise, sampler=Breaking(returned), grid="uniform", num_steps=10)


def test_a_velocity_that_misbehaves_is_told_from_the_sampler(noise):
    arguments = {"sampler": "dpmpp_2m", "grid": "uniform", "num_steps": 3}
    with pytest.raises(MelodyError, match=r"'dpmpp_2m' returned NaN at step 1 of 3.*velocity .* was not finite"):
        sample(lambda z, a: z * math.nan, noise, **arguments)
    with pytest.raises(MelodyError, match=r"velocity returned shape \(2, 5, 1\), expected \(2, 5, 4\)"):
        sample(lambda z, a: z[..., :1], noise, **arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_steps": 0}, "num_steps: expected an integer of 1 or more, and at most 10,000, got 0"),
        ({"num_steps": -3}, "num_steps: .* got -3"),
        ({"num_steps": 2.5}, "num_steps: .* got 2.5"),
        ({"num_steps": True}, "num_steps: .* got True"),
        ({"sampler": "dddim"}, "unknown sampler 'dddim'; did you mean 'ddim'"),
        ({"sampler": Breaking}, "sampler: expected a name or an instance"),
        ({"grid": "unifrom"}, "unknown grid 'unifrom'; did you mean 'uniform'"),
        ({"grid": torch.linspace(math.pi / 2, 0, 4)}, r"grid given as a tensor: expected 6 angles, got shape \(4,\)"),
        (
            {"grid": lambda n: torch.linspace(0, math.pi / 2, n + 1)},
            "angles that fall from π/2 to 0, got 0, 0.31",
        ),
        ({"grid": lambda n: torch.full((n + 1,), math.nan)}, "expected angles that fall from π/2 to 0, got nan"),
        ({"latents": torch.zeros(5, 4)}, r"latents: expected floating-point \(B, L, D\), got .* \(5, 4\)"),
        ({"latents": torch.zeros(2, 5, 4).long()}, r"latents: .* torch.int64"),
        ({"start_angle": torch.zeros(5)}, r"start_angle: expected shape \(2, 5\)"),
        ({"start_angle": torch.full((2, 5), 2.0)}, "start_angle: expected angles from 0 to π/2"),
        ({"start_angle": torch.full((2, 5), math.nan)}, "start_angle: expected angles from 0 to π/2"),
        ({"sampler": "ancestral", "generator": _generators(3)}, "generator: expected one for each of 2 rows, got 3"),
    ],
)
def test_bad_arguments_are_refused(changed, message, mixture, noise):
    arguments = {"latents": noise, "sampler": "ddim", "grid": "uniform", "num_steps": 5, **changed}
    with pytest.raises(MelodyError, match=message):
        sample(mixture.velocity, arguments.pop("latents"), **arguments)


def test_neither_transformers_nor_diffusers_is_imported_unless_asked_for():
    code = (
        "import sys; import melody.samplers; from melody.registry import samplers; samplers.create('unipc');"
        "print(sorted({'diffusers', 'transformers', 'lightning'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert out.stdout.strip() == "[]"
