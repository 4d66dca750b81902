"""Numbers, texts and files out of all bounds: one line and exit code 2, at once, and nothing written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import soundfile

from melody.artifacts.pretrained import CONFIG, read_config
from melody.cli.cache import parse_bytes
from melody.config import load_preset
from melody.data.loading import load_corpus
from melody.documents import read_toml
from melody.errors import MelodyError
from melody.listening.analysis import analyse
from melody.pipeline.settings import Settings


@pytest.mark.parametrize("line", [
    "segment_s = 1e-9", "segment_s = inf", "segment_s = nan", "segment_s = 1e30", "num_steps = 1000000000000",
    "num_steps = " + "9" * 5000, "chunks = 1000000", "temperature = nan", "temperature = inf", "temperature = 1e-300",
    "guidance_scale = nan", "guidance_scale = -inf", "token_guidance_scale = inf", "top_p = nan", "top_k = 0",
    "x = " + "[" * 3000 + "]" * 3000,
])  # fmt: skip
def test_fields_of_a_preset(line: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'base = "demo"\nname = "own"\n[generation]\n{line}\n')
    begin = time.process_time()
    with pytest.raises(MelodyError) as error:
        load_preset(path)
    assert "\n" not in str(error.value)
    assert "Input should" not in str(error.value) or ", got " in str(error.value)
    assert len(str(error.value)) < 500
    assert "Input should" not in str(error.value) or ", got " in str(error.value)
    assert time.process_time() - begin < 20  # modules are imported


@pytest.mark.parametrize("line", [
    "steps = 1000000000000", "learning_rate = nan", "learning_rate = inf", "batch_size = 1000000000", "clip_s = inf",
    "clip_s = 1e-9", "seed = -1", "seed = " + "9" * 100, "weight_decay = nan", "gradient_clip = inf",
])  # fmt: skip
def test_fields_of_a_stage(line: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'base = "demo"\nname = "own"\n[training.dpd]\n{line}\n')
    with pytest.raises(MelodyError) as error:
        load_preset(path)
    assert "\n" not in str(error.value)
    assert "Input should" not in str(error.value) or ", got " in str(error.value)


def test_deep_and_long_json(tmp_path: Path) -> None:
    for content in ("[" * 100_000, '{"a": ' * 5000 + "1" + "}" * 5000, '{"n": ' + "9" * 5000 + "}"):
        (tmp_path / CONFIG).write_text(content)
        with pytest.raises(MelodyError, match="cannot read"):
            read_config(tmp_path)
    (tmp_path / "deep.toml").write_text("x = " + "[" * 5000 + "]" * 5000 + "\n")
    with pytest.raises(MelodyError, match="nested too deep"):
        read_toml(tmp_path / "deep.toml")


@pytest.mark.parametrize("options", [
    {"num_steps": 10**30}, {"num_steps": 2.5}, {"guidance_scale": float("nan")}, {"guidance_scale": float("inf")},
    {"seeds": 10**5000}, {"seeds": [2**64]}, {"seeds": -1},
])  # fmt: skip
def test_arguments_of_a_call(options: dict[str, object]) -> None:
    defaults = load_preset("demo").generation
    with pytest.raises(MelodyError) as error:
        Settings.of(defaults, 1, **options)  # type: ignore[arg-type]
    assert len(str(error.value)) < 200


def test_thousands_of_systems_in_one_file_of_ratings(tmp_path: Path) -> None:
    head = "rater,item,question,system_a,system_b,answer,first_shown"
    path = tmp_path / "ratings.csv"
    rows = [f"r{n % 3},i{n},audio quality,s{n},s{n + 1},first,a" for n in range(3000)]
    path.write_text("\n".join([head, *rows]) + "\n")
    begin = time.process_time()
    with pytest.raises(MelodyError) as error:
        analyse(path)
    assert "3,001 systems: expected at most 100" in str(error.value)
    assert time.process_time() - begin < 10


LONG = "9" * 5000


def test_numbers_of_thousands_of_digits_in_tables(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", [0.1] * 800, 8000)
    (tmp_path / "metadata.csv").write_text(f"file_name,text,take,level\na.wav,a waltz,{LONG},{LONG}.5\n")
    assert dict(load_corpus(tmp_path)[0].attributes) == {"take": LONG, "level": f"{LONG}.5"}
    head = "rater,item,question,system_a,system_b,answer,repeat"
    (tmp_path / "ratings.csv").write_text(f"{head}\nr,i,audio quality,x,y,first,{LONG}\n")
    with pytest.raises(MelodyError, match="expected a whole number from 0 to 99"):
        analyse(tmp_path / "ratings.csv")


@pytest.mark.parametrize("text", [LONG, f"{LONG}.5GB", f"{'9' * 30}t"])
def test_sizes_beyond_any_disk(text: str) -> None:
    with pytest.raises(MelodyError, match="is no size") as error:
        parse_bytes(text)
    assert len(str(error.value)) < 200
