from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from melody.artifacts.store import Store
from melody.data.audio import write_audio
from melody.errors import MelodyError
from melody.reproduce.context import Context
from melody.reproduce.results import Cell
from melody.reproduce.runner import plan, run

PROMPTS = {"a tone of 220 Hz": 220.0, "a tone of 440 Hz": 440.0, "a tone of 880 Hz": 880.0}


@pytest.fixture
def samples(tones: SimpleNamespace, tmp_path: Path) -> Path:
    """Three prompts by both systems, MusicLM's 6 dB softer and on the wrong note, and two schedules for two prompts."""
    folder = tmp_path / "samples"
    rows = ["file_name,text,system,category,angle_schedule,num_steps"]
    for text, frequency in PROMPTS.items():
        for system, gain, shift in (("melody", 1.0, 1.0), ("musiclm", 0.5, 1.5)):
            name = f"prompts/{frequency:g}.{system}.flac"
            waveform = gain * tones.tone(frequency * shift, 2.0)
            write_audio(folder / name, waveform + 0.01 * torch.sin(torch.arange(48_000) ** 1.5), tones.rate)
            rows.append(f"{name},{text},{system},tones,,")
    for schedule in ("linear", "uniform"):
        for text in list(PROMPTS)[:2]:
            name = f"schedules/{text.split()[3]}.{schedule}.10.flac"
            write_audio(folder / name, tones.tone(PROMPTS[text], 2.0), tones.rate)
            rows.append(f"{name},{text},melody,angle-schedules,{schedule},10")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def _run(tones: SimpleNamespace, samples: Path, tmp_path: Path) -> dict[tuple[str, str], Cell]:
    context: Context = tones.context(published_samples=samples)
    suite = tones.small("published-samples")
    (table,) = run([suite], context, store=Store(tmp_path / "s"), output=tmp_path / "o").tables
    return {(str(cell.row["set"]), cell.column): cell for cell in table.cells}


def test_sets_pairs_and_counts(tones: SimpleNamespace, samples: Path, tmp_path: Path) -> None:
    cells = _run(tones, samples, tmp_path)
    louder = cells["melody minus musiclm", "loudness"].measured
    assert louder is not None
    assert louder.scored == 3
    assert louder.p_value == 0.25, "the smallest that 3 pairs can give"
    peak = cells["melody minus musiclm", "peak"].measured
    assert peak is not None
    assert peak.value == pytest.approx(0.25, abs=0.01)
    better = cells["melody minus musiclm", "cosine"].measured
    assert better is not None
    assert better.low is not None
    assert better.low > 0
    rate = cells["melody", "sample_rate"]
    assert rate.measured is not None
    assert (rate.measured.value, rate.measured.scored, rate.measured.expected) == (24_000, 3, 64)
    assert (rate.verdict, rate.reason) == ("not comparable", "only 3 of 64 items could be scored")
    distance = cells["melody", "fad"].measured
    assert distance is not None
    assert distance.value > 0
    assert distance.warning is not None
    assert cells["linear 20", "peak"].reason == "the folder holds no samples of the set 'linear 20'"
    assert "of sets, not of pairs" in cells["melody minus musiclm", "fad"].reason


def test_a_column_names_any_registered_metric(tones: SimpleNamespace, samples: Path, tmp_path: Path) -> None:
    suite = tones.small("published-samples")
    kad = suite.column("fad").model_copy(update={"name": "kad", "measure": "", "metric": "kad"})
    loudness = suite.column("loudness").model_copy(update={"name": "lufs", "measure": "", "metric": "loudness"})
    rows = ({"set": "melody", "against": "musiclm"}, {"set": "musiclm"}, {"set": "melody minus musiclm"})
    update = {
        "columns": (*suite.columns, kad, loudness),
        "rows": tuple(suite.rows[0].model_copy(update={"row": row}) for row in rows),
    }
    context: Context = tones.context(published_samples=samples)
    (table,) = run([suite.model_copy(update=update)], context, store=Store(tmp_path / "s"), output=tmp_path).tables
    cells = {(str(cell.row["set"]), cell.column): cell for cell in table.cells}
    assert cells["melody", "kad"].measured is not None
    for name in ("kad", "fad"):
        reason = cells["musiclm", name].reason
        assert reason == f"metric '{name}' takes a set of reference sounds, which this row has not"
    assert cells["melody minus musiclm", "kad"].reason == "kad is of sets, not of pairs"
    for name in ("melody", "musiclm", "melody minus musiclm"):
        registered, own = cells[name, "lufs"].measured, cells[name, "loudness"].measured
        assert registered is not None
        assert own is not None
        assert registered.value == pytest.approx(own.value, abs=0.01)


def test_unreadable_sample_spoils_its_set_and_no_pair_is_dropped(
    tones: SimpleNamespace, samples: Path, tmp_path: Path
) -> None:
    (samples / "prompts/440.melody.flac").write_bytes(b"not audio")
    with pytest.raises(MelodyError, match=r"440\.melody\.flac"):
        _run(tones, samples, tmp_path)


def test_changed_sample_is_computed_again_under_the_same_name(
    tones: SimpleNamespace, samples: Path, tmp_path: Path
) -> None:
    suite, context = tones.small("published-samples"), tones.context(published_samples=samples)
    before = {job.key for job in plan([suite], context).jobs}
    write_audio(samples / "prompts/440.melody.flac", 0.3 * tones.tone(440.0, 2.0), tones.rate)
    after = {job.key for job in plan([suite], tones.context(published_samples=samples)).jobs}
    assert len(before - after) == 1


def test_the_published_samples_are_all_there(tones: SimpleNamespace, published_samples: Path) -> None:
    jobs = plan([tones.small("published-samples")], tones.context(published_samples=published_samples)).jobs
    assert sorted(len(job.config["clips"]) for job in jobs) == [3, 3, 3, 3, 64, 64]
    melody, musiclm = (job for job in jobs if len(job.config["clips"]) == 64)
    assert {c["text"] for c in melody.config["clips"]} == {c["text"] for c in musiclm.config["clips"]}
    assert len({c["text"] for c in melody.config["clips"]}) == 64
