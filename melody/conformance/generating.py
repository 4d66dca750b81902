"""Checks of what makes music: samplers, grids, the parts of a preset, systems."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from melody.conformance.checks import (
    BrokenPromiseError,
    Candidate,
    NotTriedError,
    above_zero,
    attempt,
    check,
    drawn,
    row_alone,
    same_bits,
    same_numbers,
    tensor_of,
    within,
)
from melody.pipeline.counters import counting
from melody.pipeline.taken import takes


@check("samplers", "it leads to finite latents of the same shape, with as many evaluations as it declares")
def _sampler_runs(candidate: Candidate) -> None:
    tensor_of("sampling", _sampled(candidate, 4), (2, 6, 3))


@check("samplers", "the same generators give the same bits")
def _sampler_repeats(candidate: Candidate) -> None:
    same_bits("sampling", _sampled(candidate, 4), _sampled(candidate, 4))


@check("samplers", "a row alone and in a batch ends in the same latents")
def _sampler_rows(candidate: Candidate) -> None:
    same_numbers("sampling of a row alone and in a batch", _sampled(candidate, 4, rows=1), _sampled(candidate, 4)[:1])


@check("samplers", "more steps come nearer to the known end, unless it is stochastic")
def _sampler_converges(candidate: Candidate) -> None:
    if candidate.built.stochastic:
        raise NotTriedError("it draws noise")
    noise = drawn(0, 2, 6, 3)
    few, many = (float((_sampled(candidate, steps) - noise / 2).norm()) for steps in (8, 64))
    if not many < few:
        raise BrokenPromiseError(f"the error is {few:.3g} with 8 steps and {many:.3g} with 64")


def _sampled(candidate: Candidate, num_steps: int, rows: int = 2) -> Tensor:
    """From noise to data of N(0, 1/4), whose velocity is known: noise ends at half of itself."""
    from melody.samplers import sample

    def velocity(latents: Tensor, angle: Tensor) -> Tensor:
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        return (0.75 * cos * sin / (cos**2 / 4 + sin**2) * latents).to(latents.dtype)

    generators = [torch.Generator().manual_seed(seed) for seed in range(rows)]
    return sample(
        velocity, drawn(0, 2, 6, 3)[:rows], sampler=candidate.create(), grid="uniform", num_steps=num_steps,
        generator=generators,
    )  # fmt: skip


@check("grids", "1, 2 and 20 steps give angles that fall from π/2 to 0")
def _grid_falls(candidate: Candidate) -> None:
    for num_steps in (1, 2, 20):
        angles = tensor_of(f"the grid of {num_steps} steps", candidate.built(num_steps), (num_steps + 1,)).double()
        ends = (abs(float(angles[0]) - math.pi / 2) < 1e-6, abs(float(angles[-1])) < 1e-6)
        if not all(ends) or not (angles.diff() < 0).all():
            raise BrokenPromiseError(f"{num_steps} steps: {angles.tolist()}")


@check("codecs", "its rate, hop and width are numbers above 0")
def _codec_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate", "hop_length", "latent_dim")


@check("codecs", "a waveform becomes latents and comes back, the same at each call")
def _codec_goes_round(candidate: Candidate) -> None:
    built = candidate.built
    waveform = 0.1 * drawn(0, 1, 1, 8 * built.hop_length - 1)
    first, second = (attempt(candidate, lambda: built.encode(waveform)) for _ in range(2))
    same_bits("encode", tensor_of("encode", first, (1, 8, built.latent_dim)), second)
    tensor_of("decode", attempt(candidate, lambda: built.decode(first)), (1, 1, 8 * built.hop_length))


@check("codecs", "a row alone and in a batch gives the same latents and the same sound")
def _codec_rows(candidate: Candidate) -> None:
    codec = candidate.built
    rows = 0.1 * drawn(0, 2, 1, 8 * codec.hop_length)
    latents = attempt(candidate, lambda: codec.encode(rows))
    attempt(candidate, lambda: row_alone("encode", codec.encode, rows))
    attempt(candidate, lambda: row_alone("decode", codec.decode, latents))


@check("token_codecs", "its rate, hop, levels and entries are numbers above 0")
def _token_codec_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate", "hop_length", "num_levels", "codebook_size")


@check("token_codecs", "a waveform becomes tokens and comes back, the same at each call")
def _token_codec_goes_round(candidate: Candidate) -> None:
    built = candidate.built
    waveform = 0.1 * drawn(0, 1, 1, 8 * built.hop_length - 1)
    first, second = (attempt(candidate, lambda: built.encode(waveform)) for _ in range(2))
    tokens = tensor_of("encode", first, (1, 8, built.num_levels), whole=True)
    same_bits("encode", tokens, second)
    within("encode", tokens, built.codebook_size)
    tensor_of("decode", attempt(candidate, lambda: built.decode(tokens)), (1, 1, 8 * built.hop_length))
    tensor_of(
        "decode of one level", attempt(candidate, lambda: built.decode(tokens[..., :1])), (1, 1, 8 * built.hop_length)
    )


@check("semantic_tokenizers", "its rates and codebook are numbers above 0")
def _tokenizer_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate", "token_rate", "codebook_size")


@check("semantic_tokenizers", "a second gives one token a period, within the codebook, the same at each call")
def _tokenizer_tokenizes(candidate: Candidate) -> None:
    built = candidate.built
    waveform = 0.1 * drawn(0, 1, 1, built.sample_rate)
    first, second = (attempt(candidate, lambda: built.tokenize(waveform)) for _ in range(2))
    same_bits("tokenize", tensor_of("tokenize", first, (1, math.floor(built.token_rate)), whole=True), second)
    within("tokenize", first, built.codebook_size)


@check("semantic_tokenizers", "a row alone and in a batch gives the same tokens")
def _tokenizer_rows(candidate: Candidate) -> None:
    tokenizer = candidate.built
    rows = 0.1 * drawn(0, 2, 1, tokenizer.sample_rate)
    attempt(candidate, lambda: row_alone("tokenize", tokenizer.tokenize, rows))


@check("joint_embedders", "its rate and width are numbers above 0")
def _joint_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate", "embedding_dim")


@check("joint_embedders", "texts and sounds become unit vectors of one space")
def _joint_embeds(candidate: Candidate) -> None:
    built = candidate.built
    texts = attempt(candidate, lambda: built.embed_text(["a piano", "drums"]))
    sounds = attempt(candidate, lambda: built.embed_audio(0.1 * drawn(0, 2, 1, built.sample_rate)))
    for what, vectors in (("embed_text", texts), ("embed_audio", sounds)):
        norms = tensor_of(what, vectors, (2, built.embedding_dim)).float().norm(dim=1)
        if not torch.allclose(norms, torch.ones(2), atol=1e-3):
            raise BrokenPromiseError(f"{what} gives vectors of length {norms.tolist()}: expected 1")


@check("joint_embedders", "a row alone and in a batch gives the same vectors")
def _joint_rows(candidate: Candidate) -> None:
    embedder = candidate.built
    rows = 0.1 * drawn(0, 2, 1, embedder.sample_rate)
    attempt(candidate, lambda: row_alone("embed_audio", embedder.embed_audio, rows))


@check("language_models", "it draws as many tokens as asked, within the codebook, the same from the same generator")
def _language_model_draws(candidate: Candidate) -> None:
    built = candidate.built
    prefix = torch.zeros(2, built.num_prefix_tokens, dtype=torch.long)
    first, second = (
        attempt(candidate, lambda: built.generate(prefix, 3, generator=torch.Generator().manual_seed(0)))
        for _ in range(2)
    )
    same_bits("generate", tensor_of("generate", first, (2, 3), whole=True), second)
    within("generate", first, built.codebook_size)


@check("language_models", "its loss is one finite number")
def _language_model_loses(candidate: Candidate) -> None:
    built = candidate.built
    prefix = torch.zeros(2, built.num_prefix_tokens, dtype=torch.long)
    tensor_of("loss", attempt(candidate, lambda: built.loss(prefix, torch.zeros(2, 4, dtype=torch.long))), ())


@check("language_models", "its loss of two rows is the mean of each one's")
def _language_model_rows(candidate: Candidate) -> None:
    model = candidate.built
    prefix = torch.zeros(2, model.num_prefix_tokens, dtype=torch.long)
    tokens = torch.arange(8).view(2, 4) % model.codebook_size
    whole = attempt(candidate, lambda: model.loss(prefix, tokens))
    rows = [attempt(candidate, partial(model.loss, prefix[[row]], tokens[[row]])) for row in (0, 1)]
    same_numbers("loss of a row alone and in a batch", torch.stack(rows).mean(), whole)


@check("language_models", "it makes a token in one pass, as passes are counted")
def _language_model_passes(candidate: Candidate) -> None:
    model: Any = candidate.built
    if not isinstance(candidate.built, nn.Module):
        raise BrokenPromiseError("it is no torch.nn.Module, so its passes cannot be counted")
    passes: list[Any] = []
    prefix = torch.zeros(2, model.num_prefix_tokens, dtype=torch.long)
    with counting(model, passes.append):
        attempt(candidate, lambda: model.generate(prefix, 3, generator=torch.Generator().manual_seed(0)))
    if len(passes) != 3:
        raise BrokenPromiseError(f"3 tokens took {len(passes)} calls of its forward: expected 3")


@check("denoisers", "velocities are finite, of the latents' shape, the same at each call, at both ends of the angle")
def _denoiser_predicts(candidate: Candidate) -> None:
    denoiser = candidate.built
    latents, angles = drawn(0, 2, 32, denoiser.latent_dim), torch.linspace(0, math.pi / 2, 32).repeat(2, 1)
    for angle in (torch.zeros(2, 32), torch.full((2, 32), math.pi / 2), angles):
        first, second = (_velocity(candidate, latents, angle, TOKENS) for _ in range(2))
        same_bits("forward", tensor_of("forward", first, (2, 32, denoiser.latent_dim)), second)


@check("denoisers", "a row alone and in a batch gives the same, and so do copies of rows with a repeated condition")
def _denoiser_rows(candidate: Candidate) -> None:
    denoiser = candidate.built
    latents, angle = drawn(0, 2, 32, denoiser.latent_dim), torch.full((2, 32), 0.7)
    whole = _velocity(candidate, latents, angle, TOKENS)
    alone = _velocity(candidate, latents[:1], angle[:1], TOKENS[:1])
    same_numbers("forward of a row alone and in a batch", alone, whole[:1])

    def twice() -> Tensor:
        condition = denoiser.repeat(denoiser.prepare(TOKENS), 2)
        found: Tensor = denoiser(latents.repeat(2, 1, 1), angle.repeat(2, 1), condition)
        return found

    same_numbers("forward of copies with repeat", attempt(candidate, twice), whole.repeat(2, 1, 1))


@check("denoisers", "rows that must not see the tokens do not")
def _denoiser_drops(candidate: Candidate) -> None:
    denoiser = candidate.built
    if not takes(type(denoiser).forward, "unconditional"):
        raise NotTriedError("its forward does not use unconditional, so it has no guidance")
    latents, angle = drawn(0, 2, 32, denoiser.latent_dim), torch.full((2, 32), 0.7)
    blind = torch.ones(2, dtype=torch.bool)
    first, second = (_velocity(candidate, latents, angle, tokens, blind) for tokens in (TOKENS, 1 - TOKENS))
    same_numbers("forward with unconditional, with other tokens", first, second)


def _velocity(candidate: Candidate, latents: Tensor, angle: Tensor, tokens: Tensor, *unconditional: Tensor) -> Tensor:
    denoiser = candidate.built
    found: Tensor = attempt(candidate, lambda: denoiser(latents, angle, denoiser.prepare(tokens), *unconditional))
    return found


TOKENS = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]])


@check("systems", "its name and rate are declared")
def _system_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate")
    if not isinstance(getattr(candidate.built, "name", None), str):
        raise BrokenPromiseError("it lacks 'name': expected a text")


@check("systems", "half a second for one prompt is a finite waveform of that length, the same for the same seed")
def _system_generates(candidate: Candidate) -> None:
    built = candidate.built
    if candidate.entry.in_tree:
        raise NotTriedError("systems of ours are run by the tables")
    first, second = (
        attempt(candidate, lambda: built.generate(["a piano"], duration_s=0.5, seeds=[0])) for _ in range(2)
    )
    wanted = (1, 1, round(0.5 * built.sample_rate))
    same_bits("generate", tensor_of("generate", first.waveform, wanted), second.waveform)
    if first.sample_rate != built.sample_rate:
        raise BrokenPromiseError(
            f"the waveform's rate is {first.sample_rate}: expected {built.sample_rate}, as declared"
        )


@check("systems", "a prompt alone and beside another gives the same sound, and passes are as many as its formula says")
def _system_rows(candidate: Candidate) -> None:
    system = candidate.built
    if candidate.entry.in_tree:
        raise NotTriedError("systems of ours are run by the tables")
    whole = attempt(candidate, lambda: system.generate(["a piano", "drums"], duration_s=0.5, seeds=[0, 1]))
    alone = attempt(candidate, lambda: system.generate(["a piano"], duration_s=0.5, seeds=[0]))
    same_numbers("generate of a prompt alone and beside another", alone.waveform, whole.waveform[:1])
    for part, expected in whole.trace.formula.items():
        if whole.trace.passes.get(part, 0) != expected:
            counted = whole.trace.passes.get(part, 0)
            raise BrokenPromiseError(f"{part}: {counted} passes were counted, but the formula gives {expected}")
