"""Jobs on the preset's components by themselves, on a system of tones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from melody.reproduce.context import Context
from melody.reproduce.jobs import components
from melody.reproduce.jobs.components import CodecJob


class WholeCodec:
    """Keeps everything: latents are the samples."""

    sample_rate = 24_000

    def encode(self, waveform: Tensor) -> Tensor:
        return waveform[:, 0, :, None]

    def decode(self, latents: Tensor) -> Tensor:
        return latents[..., 0][:, None]


def test_the_other_clip_is_the_same_whatever_the_batch(tones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tones.context()
    parts, subject = replace(context.loaded.parts, codec=WholeCodec()), context.inputs.subject
    context = Context(replace(context.inputs, subject=replace(subject, load=lambda: parts)))

    def rows(batch: int) -> list[float]:
        monkeypatch.setattr(components, "BATCH", batch)
        jobs = CodecJob.batches(context, clips=5, label="codec")
        return [value for job in jobs for value in job.compute(context.loaded).values["rows"]["another.si_sdr"]]

    whole = rows(16)
    assert max(whole) < 0  # no tone is held against itself
    for batch in (1, 2):
        assert rows(batch) == pytest.approx(whole, abs=1e-3)
