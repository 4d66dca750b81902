"""Music as it is made: waveform chunks one after the other, for ever or to an end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from melody.data.audio import AudioInput
from melody.errors import MelodyError
from melody.pipeline.composing import WindowedGenerator
from melody.pipeline.decoding import PiecewiseDecoder
from melody.pipeline.prompts import read_prompt
from melody.protocols import GenerationStats


class Stream(Iterator[Tensor]):
    """Waveform chunks ``(B, 1, T)`` in [-1, 1], made when they are asked for.

    The first is about a segment long, the others a chunk (10 s, then 2.5 s). What is kept does not grow: the tokens and
    latents of one segment, and the decoder's context. Put together, the chunks are what one call with the same duration
    and seeds makes, to the bit; without a duration, all but its last frames, which see the end.

    ``close`` ends it; so does the end of the duration.
    """

    def __init__(self, composer: WindowedGenerator, duration_s: float | None = None) -> None:
        run, plan = composer.run, composer.plan
        self._run, self._composer, self._plan = run, composer, plan
        self._duration_s = duration_s
        self._known_tokens = composer.tokens.shape[1]
        self._windows = plan.windows(duration_s)
        self._runs = 0
        self._last = None if duration_s is None else plan.count(duration_s)
        self._decoder = PiecewiseDecoder(run.networks.codec)
        self._left = None if duration_s is None else max(1, round(duration_s * self.sample_rate))
        self.position_s = 0.0
        """Seconds of audio that came out so far."""
        if self._last is not None:
            settings = run.settings
            run.totals = {**self._passes(self._last), "denoiser": self._last * settings.num_steps}

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self._run.networks.sample_rate

    @property
    def trace(self) -> GenerationStats:
        """Passes, by hooks and by formula, and seconds of all that was made so far."""
        return self._run.meter.trace

    @torch.inference_mode()
    def __next__(self) -> Tensor:
        waveform = None
        while waveform is None or not waveform.shape[-1]:  # a chunk may be no longer than the decoder's context
            waveform = self._advance()
        self.position_s += waveform.shape[-1] / self.sample_rate
        return waveform

    @torch.inference_mode()
    def change_prompt(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        prompt_audio: AudioInput | list[AudioInput] | None = None,
    ) -> None:
        """Go on after another prompt, from the next chunk that is made.

        The tokens drawn so far stay, so the music changes as it goes on, over about a segment, and does not jump.

        Raises:
            MelodyError: as ``MelodyPipeline.stream``; another number of prompts than before.
        """
        prompt = read_prompt(prompts, prompt_audio, self._run.networks.joint_embedder)
        if len(prompt) != self._run.rows:
            raise MelodyError(f"the stream has {self._run.rows} rows: got {len(prompt)} prompts")
        self._composer.prefix = self._run.encode_prompt(prompt)

    def close(self) -> None:
        """End the stream; nothing comes out after it."""
        self._windows = iter(())

    def _advance(self) -> Tensor:
        """The waveform that the next window makes certain; raises ``StopIteration`` at the end."""
        latents = self._composer.advance(next(self._windows))
        self._runs += 1
        self._run.meter.check_passes(self._passes(self._runs))
        last = self._runs == self._last
        if last:
            latents = torch.cat([latents, self._composer.finish()], dim=1)
        with self._run.meter.timed("codec"):
            waveform = self._decoder.push(latents, last=last).clamp(-1, 1)
        if self._left is not None:
            waveform = waveform[..., : self._left]
            self._left -= waveform.shape[-1]
        return waveform

    def _passes(self, runs: int) -> dict[str, int]:
        settings = self._run.settings
        return self._plan.passes(
            runs,
            settings.num_steps,
            settings.sampler.evaluations_per_step,
            duration_s=self._duration_s,
            known_tokens=self._known_tokens,
        )
