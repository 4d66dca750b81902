"""The MusicLM-style system: sizes, counted passes, windows, batches, continuation, its work, bad input."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from melody.artifacts.weights import save_weights
from melody.baselines.musiclm import MusicLmSystem
from melody.baselines.musiclm.preset import MusicLmPreset
from melody.baselines.musiclm.windows import Window, independent, striding
from melody.config import load_preset
from melody.errors import MelodyError
from melody.lm.multi_stream import MultiStream
from melody.metrics.flops import count
from melody.metrics.passes import musiclm_passes, musiclm_serial_passes
from melody.pipeline import MelodyPipeline
from melody.pipeline.work import spread
from melody.registry import systems

TINY = """
name = "tiny"
description = "For tests"
melody = "{melody}"

[codec]
use = "fourier-rvq"
hop_length = 480
num_levels = 12
codebook_size = 6
latent_dim = 4
hidden_dim = 8
encoder_layers = 1
decoder_layers = 1

[semantic]
window_s = 1.0
stride_s = 0.25
temperature = 1.0

[coarse]
hidden_size = 8
num_layers = 1
num_heads = 2
feed_forward_size = 8

[fine]
hidden_size = 8
num_layers = 1
num_heads = 2
feed_forward_size = 8
"""


@pytest.fixture(scope="module")
def path(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("musiclm") / "tiny.toml"
    path.write_text(TINY.format(melody=tiny_path))
    return path


@pytest.fixture(scope="module")
def system(path: Path) -> MusicLmSystem:
    system = MusicLmSystem.random(path, seed=1)
    with torch.no_grad():
        for stage in (system.coarse, system.fine):  # logits far from uniform, so that what is given shows
            for parameter in stage.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(20)
    generator = torch.Generator().manual_seed(0)
    system.semantic_tokenizer.fit_codebook(torch.randn(70, 8, generator=generator), 0)  # type: ignore[attr-defined]
    return system


@pytest.fixture(scope="module")
def weights(system: MusicLmSystem, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("musiclm-weights")
    for part in system.preset.parts:
        save_weights(getattr(system, part), folder / f"{part}.safetensors", system.preset.component_of(part))
    for part in tiny_weights.glob("*.safetensors"):
        if part.stem not in system.preset.parts:
            (folder / part.name).write_bytes(part.read_bytes())
    return folder


class Watch:
    """What the acoustic stages were given and made, call by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[list[Tensor], Tensor | None, Tensor]] = []
        own = MultiStream.generate

        def generate(model: MultiStream, given: Any, num_frames: int, **options: Any) -> Tensor:
            made = own(model, given, num_frames, **options)
            self.calls.append((given, options.get("known"), made))
            return made

        monkeypatch.setattr(MultiStream, "generate", generate)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_each_stage_has_430_million_parameters_at_the_papers_size() -> None:
    system = MusicLmSystem.random("paper", device="meta")
    for stage in (system.language_model, system.coarse, system.fine):
        assert sum(p.numel() for p in stage.parameters()) == pytest.approx(430e6, rel=0.01)
    assert (len(system.coarse.layers), system.coarse.head_dim) == (len(system.fine.layers), system.fine.head_dim)
    assert sum(work.calls for work in system.work(30.0, fine_windows="sequential") if not work.once) == 18_750
    assert system.codec.frame_rate == 50


@pytest.mark.parametrize(
    ("duration_s", "fine_windows"), [(10.0, "sequential"), (10.0, "batched"), (30.0, "batched"), (7.3, "batched")]
)
def test_passes_by_hooks_are_those_by_formula(system: MusicLmSystem, duration_s: float, fine_windows: str) -> None:
    made = system.generate(["a flute"], duration_s=duration_s, seeds=[0], fine_windows=fine_windows)
    trace = made.trace
    assert trace.passes == trace.formula
    if fine_windows == "sequential":
        assert trace.passes == {"semantic": 250, "coarse": 2000, "fine": 4000}
        assert sum(trace.passes.values()) == musiclm_passes(10)
    else:
        assert sum(trace.passes.values()) == musiclm_serial_passes(duration_s)
    if duration_s == 10.0 and fine_windows == "batched":  # four windows of 2.5 s
        assert trace.passes == {"semantic": 250, "coarse": 2000, "fine": 125 * 8}
        assert musiclm_serial_passes(10.0) == 3250
    assert trace.weighted_passes == trace.passes  # windows side by side are no halves of guidance
    assert made.waveform.shape == (1, 1, round(duration_s * 24_000))
    work = system.work(duration_s, fine_windows=fine_windows)
    assert trace.prefill_tokens == sum(each.prefill_tokens for each in work)
    for part, passes in trace.passes.items():
        assert sum(each.calls for each in work if each.part == part) == passes
        halves = sum(each.calls * each.rows // each.windows for each in work if each.part == part)
        assert halves == trace.weighted_passes[part]


@pytest.mark.parametrize("fine_windows", ["batched", "sequential"])
def test_a_row_is_the_same_alone_as_in_a_batch(system: MusicLmSystem, fine_windows: str) -> None:
    options = {"duration_s": 3.2, "fine_windows": fine_windows}
    together = system.generate(["a flute", "a drum"], seeds=[3, 8], **options)
    alone = system.generate(["a drum"], seeds=[8], **options)
    again = system.generate(["a drum"], seeds=[9], **options)
    torch.testing.assert_close(together.waveform[1:], alone.waveform, rtol=0, atol=1e-5)
    assert (alone.waveform - again.waveform).abs().max() > 1e-3
    assert together.trace.weighted_passes == alone.trace.weighted_passes


def test_windows_stride_with_an_overlap_or_lie_side_by_side() -> None:
    assert striding(0, 500, 500, 250) == [Window(0, 0, 500)]
    assert striding(0, 600, 500, 250) == [Window(0, 0, 500), Window(250, 500, 600)]
    assert striding(400, 700, 500, 250) == [Window(150, 400, 650), Window(400, 650, 700)]
    assert striding(7, 7, 500, 250) == []
    assert [w.end - w.begin for w in striding(0, 375, 250, 62.5)] == [250, 250, 250]  # a stride of 62.5 tokens
    (batch,) = independent(0, 500, 150)
    assert [(w.begin, w.end) for w in batch] == [(0, 125), (125, 250), (250, 375), (375, 500)]
    (batch,) = independent(10, 311, 150)
    assert {w.new for w in batch} == {101}
    assert (batch[0].begin, batch[-1].end) == (10, 311)
    assert [len(batch) for batch in independent(0, 3000, 150)] == [16, 4]


def test_a_window_is_given_the_end_of_what_came_before(system: MusicLmSystem, watch: Watch) -> None:
    system.generate(["a flute"], duration_s=10.4, seeds=[0], fine_windows="sequential")
    (first, second), fine = watch.calls[:2], watch.calls[2:]
    assert first[1] is not None
    assert (first[1].shape[1], first[2].shape[1]) == (0, 500)
    assert [stream.shape[1] for stream in first[0]] == [1, 250]
    assert second[1] is not None
    assert torch.equal(second[1], first[2][:, 250:])  # 5 s are known
    assert [stream.shape[1] for stream in second[0]] == [1, 135]  # the semantic tokens of 5 s to 10.4 s
    assert torch.equal(second[0][1][:, :125], first[0][1][:, 125:])
    coarse = torch.cat([first[2], second[2]], dim=1)
    assert torch.equal(fine[1][0][0], coarse[:, 75:225])  # and no semantic token
    assert fine[1][1] is not None
    assert torch.equal(fine[1][1], fine[0][2][:, 75:])


def test_batched_windows_are_what_each_is_alone(system: MusicLmSystem, watch: Watch) -> None:
    system.generate(["a flute"], duration_s=4.0, seeds=[0])
    (_, (given, known, made)) = watch.calls
    assert known is None
    assert made.shape == (2, 100, 8)
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    drawn = system.fine.generate(given, 30, temperature=0.4, generators=streams)
    streams = [torch.Generator().manual_seed(2)]
    alone = system.fine.generate([given[0][1:]], 30, temperature=0.4, generators=streams)
    assert torch.equal(drawn[1:], alone)


def test_semantic_tokens_are_those_of_melody(
    system: MusicLmSystem, tiny_pipeline: MelodyPipeline, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    model = tiny_pipeline.language_model
    own = model.generate
    monkeypatch.setattr(model, "generate", lambda *a, **k: drawn.append(own(*a, **k)) or drawn[-1])  # type: ignore[func-returns-value]
    tiny_pipeline("a flute", duration_s=1.75, seeds=4)
    for part in ("joint_embedder", "rvq", "language_model"):
        monkeypatch.setattr(system, part, getattr(tiny_pipeline, part))
        monkeypatch.setitem(system.parts, part, getattr(tiny_pipeline, part))
    system.generate(["a flute"], duration_s=1.75, seeds=[4])
    assert watch.calls[0][0][1].shape == (1, 44, 1)
    half = len(drawn) // 2
    assert torch.equal(torch.cat(drawn[:half], dim=1), torch.cat(drawn[half:], dim=1))


def test_continues_given_audio(system: MusicLmSystem, watch: Watch) -> None:
    given = 0.3 * torch.sin(torch.arange(5 * 24_000 + 100) / 20)
    made = system.continue_from((given, 24_000), ["a flute"], duration_s=1.0, seeds=[0])
    assert made.waveform.shape == (1, 1, 6 * 24_000 + 100)
    torch.testing.assert_close(made.waveform[0, 0, : 5 * 24_000 - 480], given[: 5 * 24_000 - 480], rtol=0, atol=0)
    assert made.trace.passes == made.trace.formula == {"semantic": 25, "coarse": 200, "fine": 400}
    known = system.codec.encode(given[100:][None, None])[:, :, :4]
    assert watch.calls[0][1] is not None
    assert torch.equal(watch.calls[0][1], known)


def test_continues_audio_of_no_whole_token_by_itself(system: MusicLmSystem) -> None:
    made = system.continue_from((torch.full((300,), 0.1), 24_000), duration_s=0.2, seeds=[0, 1][:1])
    assert made.waveform.shape == (1, 1, 300 + 4800)
    assert made.trace.passes["coarse"] == 40


def test_work_at_a_few_lengths_has_the_flops_of_all() -> None:
    model = MultiStream([(1, 5, 2.0)], 2, 5, hidden_size=8, num_layers=2, num_heads=2, feed_forward_size=8)

    def flops(cached: int) -> int:
        cache = model.empty_cache(1, 40)
        cache.keys.zero_()
        cache.values.zero_()
        cache.length = cached
        row = torch.zeros(1, 1, dtype=torch.int64)
        return count(model, lambda: model(row, row[0], 0, cache)).flops

    for number in (1, 2, 8, 13):
        few = list(spread(10, number))
        assert sum(calls for _, calls in few) == number
        assert sum(calls * flops(length) for length, calls in few) == sum(flops(10 + i) for i in range(number))


def test_work_runs(system: MusicLmSystem) -> None:
    for work in system.work(0.5):
        if work.setup is not None:
            work.setup()
        with torch.no_grad():
            made = work.run()
        assert made.numel() > 0, work.name
        assert made.isfinite().all(), work.name


def test_weights_are_saved_and_loaded(system: MusicLmSystem, path: Path, weights: Path) -> None:
    state = torch.get_rng_state()
    loaded = systems.create("musiclm", {"preset": str(path), "weights": str(weights)})
    assert torch.equal(torch.get_rng_state(), state)
    assert set(loaded.identity()["weights"]) == {
        "codec", "coarse", "fine", "joint_embedder", "rvq", "semantic_tokenizer", "language_model",
    }  # fmt: skip
    torch.testing.assert_close(loaded.coarse.head.weight, system.coarse.head.weight.half().float(), rtol=0, atol=0)
    made = loaded.generate(["a flute"], duration_s=0.3, seeds=[0])
    assert made.waveform.isfinite().all()
    assert loaded.identity() == systems.create("musiclm", {"preset": str(path), "weights": str(weights)}).identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration_s": 0.0}, "the duration is 0.0 s"),
        ({"duration_s": 4000.0}, "the duration is 4000.0 s"),
        ({"fine_windows": "batch"}, "unknown fine_windows 'batch'; did you mean 'batched'"),
        ({"seeds": [0, 1]}, "got 2 seeds for 1 prompts"),
        ({"prompts": [" "]}, "prompt"),
    ],
)
def test_bad_requests_are_one_clear_line(system: MusicLmSystem, options: dict[str, Any], message: str) -> None:
    request = {"prompts": ["a flute"], "duration_s": 1.0, "seeds": [0], **options}
    with pytest.raises(MelodyError, match=message):
        system.generate(request.pop("prompts"), **request)


def test_weights_of_another_codebook_are_refused(path: Path, weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(path.read_text().replace("codebook_size = 6", "codebook_size = 9"))
    with pytest.raises(MelodyError, match=r"(codec|coarse)\.safetensors holds weights of .*codebook_size.*6"):
        MusicLmSystem(str(other), weights)
    with pytest.raises(MelodyError, match="musiclm preset 'tiny' has no weights in"):
        MusicLmSystem(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("window_s = 1.0", "window_s = 0.2", "stride_s 0.25 is longer than window_s 0.2"),
        ("hop_length = 480", "hop_length = 600", "the codec has 40 frames a second, expected a multiple of the 25"),
        ("[fine]", "[fine]\nnum_heads_ = 3", "unknown key 'fine.num_heads_'"),
        ("[coarse]", "[coarse]\nnum_levels = 12", "num_levels 12 of the coarse stage"),
        ("[coarse]", "[coarse]\nstride_s = 0.5", "window_s and stride_s of the coarse stage"),
    ],
)
def test_presets_that_do_not_fit_together_are_refused(
    path: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(MelodyError, match=message):
        load_preset(other, MusicLmPreset)


def test_presets_that_ship_load() -> None:
    for name in ("demo", "paper"):
        assert isinstance(load_preset(name, MusicLmPreset), MusicLmPreset)


def test_the_weights_that_ship_make_sound() -> None:
    made = MusicLmSystem().generate(["a slow piano piece in a minor key"], duration_s=0.4, seeds=[0])
    assert made.waveform.shape == (1, 1, 9600)
    assert made.trace.weighted_passes["semantic"] == 20  # MeLoDy's demo guides its language model
    assert made.waveform.abs().max() > 0.01


def test_threads_share_the_system(system: MusicLmSystem, differences_in_threads: Any) -> None:
    settings: list[dict[str, Any]] = [{}, {"fine_windows": "sequential"}, {}, {"fine_windows": "sequential"}]
    differing = differences_in_threads(
        [
            partial(system.generate, [f"a flute {number}"], duration_s=0.4, seeds=[number], **options)
            for number, options in enumerate(settings)
        ],
        times=1,
    )
    assert differing == []
