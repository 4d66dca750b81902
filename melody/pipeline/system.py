"""The MeLoDy system as one object: its parts, built from a preset, and what it makes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from melody.artifacts.files import file_hash
from melody.artifacts.hub import local_folder
from melody.artifacts.pretrained import CARD_TEXT, CONFIG, Pretrained
from melody.artifacts.weights import Precision, save_weights
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.config import PARTS, UNSAVED, Preset, load_preset
from melody.data.audio import AudioInput, as_mono
from melody.devices import device_of
from melody.errors import MelodyError, MelodyWarning
from melody.pipeline.composing import WindowedGenerator
from melody.pipeline.editing import Gap, append, check_span, fill_gap, inpainted_latents, known_end
from melody.pipeline.latents import check_learnt
from melody.pipeline.parts import (
    Networks,
    build_part,
    card_of,
    check_weights,
    fill_fitted,
    holds_weights,
    load_part,
    shipped_weights,
    weight_files,
)
from melody.pipeline.plan import WindowPlan
from melody.pipeline.prompts import Prompt, read_prompt
from melody.pipeline.run import GenerationCall
from melody.pipeline.settings import Options, Settings, check_duration
from melody.pipeline.streaming import Stream
from melody.pipeline.work import pipeline_work
from melody.protocols import (
    CallCost,
    Codec,
    Denoiser,
    Generation,
    JointEmbedder,
    LanguageModel,
    SemanticTokenizer,
)


class MelodyPipeline(Pretrained):
    """Text or audio to music by one preset: whole pieces, streams, continuations, inpainting.

    >>> pipeline = MelodyPipeline.from_preset("demo")  # doctest: +SKIP
    >>> generation = pipeline("a slow piano piece in a minor key", num_steps=10, seeds=0)  # doctest: +SKIP
    """

    joint_embedder: JointEmbedder
    rvq: ResidualVectorQuantizer
    semantic_tokenizer: SemanticTokenizer
    language_model: LanguageModel
    codec: Codec
    denoiser: Denoiser

    def __init__(self, preset: Preset, parts: dict[str, nn.Module], weights_hash: str | None = None) -> None:
        self.preset = preset
        self.weights_hash = weights_hash
        """SHA-256 over the weight files of all parts; ``None`` for random weights."""
        self.networks = Networks(preset, parts)
        for part, module in parts.items():
            setattr(self, part, module)

    @classmethod
    def from_preset(
        cls,
        preset: str | Path | Preset,
        *,
        weights: str | Path | None = None,
        parts: Mapping[str, str | Path] | None = None,
        device: str = "cpu",
    ) -> MelodyPipeline:
        """Build every part of a preset and load its weights.

        Args:
            preset: a preset's name, the path of a TOML file, or a loaded preset.
            weights: folder with one safetensors file a part, or a hub id (``OWNER/NAME``, ``OWNER/NAME@REVISION``);
                without it, the weights that ship with the package. What a folder lacks is
                taken from the shipped weights of the preset's base, if the same component sits there.
            parts: file, folder or hub id of the weights of single parts, which go before, as in
                ``{"language_model": "runs/gru/weights"}``.
        Raises:
            MelodyError: unknown preset, missing, damaged or foreign weights, a device that is not there.
        """
        loaded = preset if isinstance(preset, Preset) else load_preset(preset)
        folder = shipped_weights(loaded) if weights is None else local_folder(weights)
        files = weight_files(loaded, None if weights is None else folder, parts)
        check_weights(loaded, files)
        _tell_inherited(loaded, folder, files, parts or {})
        built, digest = {}, hashlib.sha256()
        for part in PARTS:
            if part not in files:
                built[part] = _placed(build_part(loaded, part), device_of(device))
                continue
            built[part] = _placed(load_part(loaded, part, files[part]), device_of(device))
            digest.update(f"{part}:{file_hash(files[part])};".encode())
        pipeline = cls(loaded, built, digest.hexdigest())
        check_learnt(loaded, pipeline.codec, files)
        pipeline._card = card_of(files)
        text = folder / CARD_TEXT
        whole = text.is_file() and all(path.parent == folder for path in files.values())
        pipeline._card_text = text.read_text(encoding="utf-8") if whole else None
        return pipeline

    @classmethod
    def _from_folder(cls, folder: Path, config: dict[str, Any], device: str) -> MelodyPipeline:
        if missing := [part for part in PARTS if part not in config]:
            raise MelodyError(f"{folder} holds no whole pipeline: its {CONFIG} lacks {', '.join(missing)}")
        return cls.from_preset(Preset.of(config, str(folder / CONFIG)), weights=folder, device=device)

    def _config_tables(self) -> dict[str, Any]:
        return {key: value for key, value in self.preset.tables().items() if key not in UNSAVED}

    def _save_pretrained(self, save_directory: Path, dtype: Precision = "float16") -> None:
        for part, module in self.networks.modules.items():
            if not holds_weights(module):
                continue
            path = save_directory / f"{part}.safetensors"
            save_weights(module, path, self.preset.component_of(part), preset=self.preset.name, dtype=dtype)

    @classmethod
    def random(cls, preset: str | Path | Preset, *, seed: int = 0, device: str = "cpu") -> MelodyPipeline:
        """A pipeline with random weights: for counting and timing, which do not depend on the values of weights.

        On the device ``meta`` it has shapes only, takes neither memory nor time, and ``work`` can be counted.
        """
        loaded = preset if isinstance(preset, Preset) else load_preset(preset)
        on_meta = torch.device("meta") if device == "meta" else nullcontext()
        with torch.random.fork_rng(), on_meta:
            torch.manual_seed(seed)
            parts = {part: build_part(loaded, part) for part in PARTS}
            fill_fitted(parts)
        torch_device = torch.device("meta") if device == "meta" else device_of(device)
        return cls(loaded, {part: _placed(module, torch_device) for part, module in parts.items()})

    @property
    def sample_rate(self) -> int:
        return self.networks.sample_rate

    @property
    def device(self) -> torch.device:
        return self.networks.device

    def plan(self, continuation: str = "fixed") -> WindowPlan:
        """The windows in which this system makes music."""
        return self.networks.plan(continuation)

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        """What one clip of ``duration_s`` for a text is made of, by formula; options as of a call."""
        return pipeline_work(self.networks, check_duration(duration_s), **options)

    @torch.inference_mode()
    def __call__(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        prompt_audio: AudioInput | list[AudioInput] | None = None,
        duration_s: float | None = None,
        continuation: str = "fixed",
        **options: Unpack[Options],
    ) -> Generation:
        """Make music for prompts by Algorithm 1, and beyond one segment by Algorithm 2.

        What is held beside the waveform does not grow with the duration.

        Args:
            prompts: a text, or several for a batch.
            prompt_audio: music in the place of text: a file, or ``(samples, rate)`` with samples ``(T,)`` or
                ``(C, T)``; a list of them for a batch. Any rate, any number of channels, one sample or more.
            duration_s: length in seconds; the preset's segment if not given.
            continuation: how Algorithm 2 is read. ``fixed`` (ours, the evident intent) holds the known frames at angle
                0 to the bit; ``as-printed`` applies the rotation (Eq. 29, 32) to all of z, and counts by
                M_ST = ⌈T_ST / M⌉ and L_M = ⌈L / M⌉.
            options: see ``Options``.
        Returns:
            Waveform ``(B, 1, T)`` in [-1, 1], sample rate, and a trace of passes and seconds by part.
        Raises:
            MelodyError: bad prompt, duration, number of steps, or a sampler that misbehaves.
        """
        prompt = self._read_prompt(prompts, prompt_audio)
        duration = self.preset.generation.segment_s if duration_s is None else check_duration(duration_s)
        run = self._run(prompt, options)
        composer = WindowedGenerator(run, run.encode_prompt(prompt), self.plan(continuation))
        return _generation(Stream(composer, duration))

    @torch.inference_mode()
    def stream(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        prompt_audio: AudioInput | list[AudioInput] | None = None,
        duration_s: float | None = None,
        continuation: str = "fixed",
        **options: Unpack[Options],
    ) -> Stream:
        """Make music chunk by chunk, for ever if no duration is given, in memory that does not grow.

        >>> for chunk in pipeline.stream("a slow piano piece", seeds=0):  # doctest: +SKIP
        ...     play(chunk)  # (B, 1, T)

        Arguments as of a call. ``Stream.change_prompt`` goes on after another prompt.

        Raises:
            MelodyError: as a call; a codec that cannot be decoded in pieces (``Codec.decoder_context_frames``).
        """
        if self.codec.decoder_context_frames is None:
            raise MelodyError(
                f"codec {self.preset.codec.use!r} has no decoder_context_frames, so its latents can only be decoded at "
                "once, and not as a stream"
            )
        prompt = self._read_prompt(prompts, prompt_audio)
        duration = None if duration_s is None else check_duration(duration_s)
        run = self._run(prompt, options)
        return Stream(WindowedGenerator(run, run.encode_prompt(prompt), self.plan(continuation)), duration)

    @torch.inference_mode()
    def continue_from(
        self,
        audio: AudioInput,
        prompts: str | Sequence[str] | None = None,
        *,
        prompt_audio: AudioInput | list[AudioInput] | None = None,
        duration_s: float | None = None,
        continuation: str = "fixed",
        **options: Unpack[Options],
    ) -> Generation:
        """Go on where given audio ends, by Algorithm 2: its last tokens and latents are what is known.

        Args:
            audio: a file, or ``(samples, rate)``; mixed to mono, brought to the system's rate.
            prompts, prompt_audio: as of a call; with neither, the audio is its own prompt.
            duration_s: seconds of new audio; the preset's segment if not given.
        Returns:
            The given audio and what follows, ``(B, 1, T)``. The given samples are kept as they are, but for their last
            20 ms, where they fade into the decoder's reconstruction of them, which runs on into the new audio.
        Raises:
            MelodyError: as a call; audio that is unreadable, empty, or holds NaN.
        """
        given = as_mono(audio, self.sample_rate, "the audio to continue")
        duration = self.preset.generation.segment_s if duration_s is None else check_duration(duration_s)
        prompt = self._read_prompt(prompts, prompt_audio, given)
        run, plan = self._run(prompt, options), self.plan(continuation)
        prefix, known = run.encode_prompt(prompt), known_end(run, given, plan)
        made = _generation(Stream(WindowedGenerator(run, prefix, plan, known), known.duration_s + duration))
        waveform = append(given, made.waveform, round(known.duration_s * self.sample_rate), self.sample_rate)
        return Generation(waveform, self.sample_rate, made.trace)

    @torch.inference_mode()
    def inpaint(
        self,
        audio: AudioInput,
        span_s: tuple[float, float],
        prompts: str | Sequence[str] | None = None,
        *,
        prompt_audio: AudioInput | list[AudioInput] | None = None,
        **options: Unpack[Options],
    ) -> Generation:
        """Make a span of given audio anew: noise in the gap, angle 0 elsewhere (appendix A of the paper).

        The networks see a segment around the gap, so audio may be of any length, and a gap at most a segment less a
        chunk long (7.5 s). Tokens of the gap are drawn by the language model after those before it.

        Args:
            audio: as of ``continue_from``.
            span_s: where the gap begins and ends, in seconds.
            prompts, prompt_audio: as of a call; with neither, what remains of the audio is its own prompt.
        Returns:
            The audio with the gap filled ``(B, 1, T)``. The samples outside are kept as they are, but for 20 ms before
            and behind the gap, where they fade into and out of the decoder's reconstruction.
        Raises:
            MelodyError: as ``continue_from``; a span that is outside, reversed, empty, too long or all of the audio.
        """
        check_span(span_s)
        given, plan = as_mono(audio, self.sample_rate, "the audio to inpaint"), self.plan()
        hop = self.codec.hop_length
        gap = Gap.of(span_s, len(given), self.sample_rate, hop, plan)
        prompt = self._read_prompt(prompts, prompt_audio, torch.cat([given[: gap.begin], given[gap.end :]]))
        run = self._run(prompt, options)
        latents = inpainted_latents(run, run.encode_prompt(prompt), given, gap, plan)
        with run.meter.timed("codec"):
            decoded = self.codec.decode(latents).clamp(-1, 1)
        return Generation(fill_gap(given, decoded, gap, hop, self.sample_rate), self.sample_rate, run.meter.trace)

    def _read_prompt(self, prompts: Any, prompt_audio: Any, own: Tensor | None = None) -> Prompt:
        """The prompt; where neither text nor audio is given, ``own`` ``(T,)``, if there is any."""
        if own is not None and prompts is None and prompt_audio is None:
            prompt_audio = (own, self.sample_rate)
        return read_prompt(prompts, prompt_audio, self.joint_embedder)

    def _run(self, prompt: Prompt, options: Options) -> GenerationCall:
        return GenerationCall(self.networks, Settings.of(self.preset.generation, len(prompt), **options))


def _placed(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, nn.Module) else part


def _tell_inherited(preset: Preset, folder: Path, files: Mapping[str, Path], parts: Mapping[str, Any]) -> None:
    """Warn of parts that a folder of weights lacks, and that are as they were shipped."""
    if not folder.is_dir():  # a preset that ships without weights of its own says by its base where they are
        return
    inherited = [part for part, path in files.items() if part not in parts and path.parent != folder]
    if inherited:
        source = preset.base or preset.name
        told = f"{folder} lacks {', '.join(inherited)}: taken from the weights shipped with {source!r}"
        warnings.warn(told, MelodyWarning, stacklevel=3)


def _generation(stream: Stream) -> Generation:
    return Generation(torch.cat(list(stream), dim=-1), stream.sample_rate, stream.trace)
