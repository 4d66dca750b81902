"""The explicit midpoint method, as a sampler for melody-toolkit."""

from melody.protocols import Sampler


class Midpoint(Sampler):
    """Explicit midpoint method on dz/dδ = v: half a step to look, then a whole one; two evaluations a step."""

    order = 2
    evaluations_per_step = 2

    def step(self, velocity, latents, angle, next_angle, state, generator):
        middle = (angle + next_angle) / 2
        half_way = latents - (angle - middle).unsqueeze(-1) * velocity(latents, angle)
        return latents - (angle - next_angle).unsqueeze(-1) * velocity(half_way, middle), None
