"""What the training of every codec shares: spectra, and two discriminators from a given step on (appendix B.1)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from melody.config import ReconstructionStage
from melody.data.corpus import Corpus
from melody.errors import MelodyError
from melody.training.audio import random_crops, segment_batch, segments
from melody.training.recipe import STEP_STRIDE, Recipe, mean_over_rows
from melody.training.shares import WHOLE, Share
from melody.vae.discriminators import MultiPeriodDiscriminator, MultiResolutionDiscriminator
from melody.vae.losses import (
    MultiResolutionStftLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
)

VALIDATION_CLIPS = 32
SOUNDS = 4


class Reconstruction(Recipe):
    """A codec whose output is held against its input. Two optimisers, so the optimisation is by hand."""

    settings: ReconstructionStage

    def __init__(self, part: torch.nn.Module, settings: ReconstructionStage, train: Corpus, validation: Corpus) -> None:
        super().__init__(part, settings)
        self.automatic_optimization = False
        self.train_corpus, self.validation_corpus = train, validation
        if settings.decoder_only_from is not None and not self._encoder():
            raise MelodyError(
                f"decoder_only_from is {settings.decoder_only_from}, but no parameter of "
                f"{type(part).__name__} is named encoder…, so what to hold is not known; leave it out"
            )
        self.stft = MultiResolutionStftLoss(reduction=settings.reduction)
        self.discriminators = torch.nn.ModuleList()
        if settings.adversarial_start is not None:
            self.discriminators.append(MultiPeriodDiscriminator(width=settings.discriminator_width))
            self.discriminators.append(MultiResolutionDiscriminator(width=settings.discriminator_width))

    def batch(self, step: int, share: Share = WHOLE) -> Tensor:
        samples = round(self.settings.clip_s * self.train_corpus.sample_rate)
        return random_crops(self.train_corpus, self.settings.batch_size, samples, self.generator(step), share)[0]

    def training_step(self, step: int, batch_index: int) -> None:  # type: ignore[override]
        torch.manual_seed(self.settings.seed * STEP_STRIDE + step)
        if step == self.settings.decoder_only_from:
            self._fix_encoder()
        optimizers = self._as_list(self.optimizers())
        pairs = self._update_codec(step, optimizers[0])
        if self._is_adversarial(step):
            self._update_discriminators(step, optimizers[1], pairs)
        for schedule in self._as_list(self.lr_schedulers()):
            schedule.step()
        self.record(step)

    def is_decoder_only(self, step: int) -> bool:
        return self.settings.decoder_only_from is not None and step >= self.settings.decoder_only_from

    def _is_adversarial(self, step: int) -> bool:
        start = self.settings.adversarial_start
        return start is not None and step >= start and not self.is_decoder_only(step)

    @torch.no_grad()
    def _fix_encoder(self) -> None:
        """Take the encoder that is exported, once; it gets no gradients from here on."""
        average = dict(self.trained().named_parameters())
        for name, weight in self._encoder():
            weight.copy_(average[name])

    def _encoder(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.part.named_parameters() if n.startswith("encoder")]

    def _update_codec(self, step: int, optimizer: Any) -> list[tuple[Tensor, Tensor]]:
        """One step of the codec over all parts of the batch; returns each part's target and reconstruction."""
        shares = [self.share(part) for part in range(self.settings.accumulate)]
        drawn, pairs = self.draw(), []
        for _, weight in self._encoder():
            weight.requires_grad_(not self.is_decoder_only(step))
        optimizer.zero_grad()
        for share in shares:
            batch = self.batch(step, share)
            target = batch.to(self.device)
            preds, own = self.reconstruct(target, drawn[share.rows(len(drawn))])
            preds = preds.float()  # spectra want more than 16 bits
            losses = self.generator_losses(preds, target, own, step)
            self.check(step, losses, batch)
            self.manual_backward(losses["loss"] / len(shares))
            pairs.append((target, preds.detach()))
        optimizer.step()
        self.after_update(step)
        return pairs

    def after_update(self, step: int) -> None:
        """What a codec does after each step of its own."""

    def _update_discriminators(self, step: int, optimizer: Any, pairs: list[tuple[Tensor, Tensor]]) -> None:
        optimizer.zero_grad()
        reduction = self.settings.reduction
        for part, (target, preds) in enumerate(pairs):
            judged = [discriminator_loss(d(target)[0], d(preds)[0], reduction) for d in self.discriminators]
            loss = sum(judged, torch.zeros(()))
            self.check(step, {"discriminator": loss}, target, part)
            self.manual_backward(loss / len(pairs))
        optimizer.step()

    @abstractmethod
    def draw(self) -> Tensor:
        """What is random in a step but for its batch, for the whole batch: its first axis is rows."""

    @abstractmethod
    def reconstruct(self, target: Tensor, drawn: Tensor) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Output of the codec for ``(B, 1, T)``, with the rows' share of ``draw``; its own terms and their weights."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Lightning clips by itself only where it optimises by itself; here 16-bit gradients are unscaled already.
        module = self.part if optimizer is self.trainer.optimizers[0] else self.discriminators
        self.check_norm(torch.nn.utils.clip_grad_norm_(module.parameters(), self.settings.gradient_clip))

    def generator_losses(
        self, preds: Tensor, target: Tensor, own: dict[str, tuple[float, Tensor]], step: int
    ) -> dict[str, Tensor]:
        """The terms of appendix B.1, the codec's own, our two (log magnitudes, L1 of the waveform), and their sum."""
        settings = self.settings
        linear, log = self.stft.linear_and_log(preds, target)
        terms = {"stft": linear, "log_stft": log, **{name: value for name, (_, value) in own.items()}}
        log_weight = settings.log_stft_weight
        if self.is_decoder_only(step) and settings.decoder_log_stft_weight is not None:
            log_weight = settings.decoder_log_stft_weight
        total = settings.stft_weight * linear
        for weight, value in own.values():
            total = total + weight * value
        total = total + log_weight * log
        if settings.waveform_weight:
            terms["waveform"] = (preds - target).abs().mean()
            total = total + settings.waveform_weight * terms["waveform"]
        if self._is_adversarial(step):
            terms["feature"], terms["adversarial"] = self._adversarial_terms(preds, target)
            total = (
                total + settings.feature_weight * terms["feature"] + settings.adversarial_weight * terms["adversarial"]
            )
        return {"loss": total, **terms}

    def _adversarial_terms(self, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        feature, adversarial, reduction = torch.zeros(()), torch.zeros(()), self.settings.reduction
        for discriminator in self.discriminators:
            with torch.no_grad():
                _, real_features = discriminator(target)
            logits, fake_features = discriminator(preds)
            feature = feature + feature_matching_loss(real_features, fake_features, reduction)
            adversarial = adversarial + generator_loss(logits, reduction)
        return feature, adversarial

    def configure_optimizers(self) -> Any:
        codec = self.optimizer(self.part, betas=(0.8, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(codec, self.learning_rate_factor)
        if not len(self.discriminators):
            return [codec], [schedule]
        # The discriminators may begin late, when the codec's learning rate has fallen; theirs stays as it is.
        discriminators = self.optimizer(self.discriminators, betas=(0.8, 0.99))
        return [codec, discriminators], [schedule]

    @staticmethod
    def _as_list(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    @torch.no_grad()
    def sounds(self) -> dict[str, Tensor]:
        """Held-out clips, each beside its reconstruction."""
        part, corpus = self.trained().eval(), self.validation_corpus
        samples = corpus.sample_rate * 4
        sounds = {}
        for number, segment in enumerate(segments(corpus, samples)[:SOUNDS]):
            target = segment_batch(corpus, [segment], samples).to(self.device)
            sounds[f"clip {number}/original"] = target[0, 0]
            sounds[f"clip {number}/reconstruction"] = part.decode(part.encode(target))[0, 0, :samples]  # type: ignore[operator]
        return sounds

    def _held_out(self) -> tuple[Tensor, ...]:
        """Held-out clips of four seconds ``(B, 1, T)``, eight at a time."""
        samples = self.validation_corpus.sample_rate * 4
        places = segments(self.validation_corpus, samples)[:VALIDATION_CLIPS]
        clips = segment_batch(self.validation_corpus, places, samples).to(self.device)
        return tuple(clips[first : first + 8] for first in range(0, len(clips), 8))

    def _distances(self, preds: list[Tensor], batches: tuple[Tensor, ...]) -> dict[str, float]:
        """Spectral distance (mean over resolutions) and SI-SDR of reconstructions, at least as long as the clips."""
        preds = [p[..., : t.shape[-1]] for p, t in zip(preds, batches, strict=True)]
        spectral = MultiResolutionStftLoss(reduction="mean").to(self.device)
        distances = [spectral(p, t) for p, t in zip(preds, batches, strict=True)]
        measured = {"stft": mean_over_rows(distances, batches)}
        clips, targets = torch.cat(preds), torch.cat(batches)
        audible = targets.abs().amax(dim=(1, 2)) > 0  # nothing can be measured against silence
        if silent := int((~audible).sum()):
            measured["silent_clips"] = float(silent)
        if audible.any():
            measured["si_sdr_db"] = float(si_sdr_db(clips[audible], targets[audible]).mean())
        return measured


def si_sdr_db(preds: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB of each clip: ``(B, 1, T) -> (B, 1)``."""
    scale = (preds * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True).clamp_min(1e-8)
    signal = scale * target
    return 10 * torch.log10(signal.square().sum(-1) / (preds - signal).square().sum(-1).clamp_min(1e-8) + 1e-8)
