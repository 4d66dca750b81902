from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody.data.corpus import InvalidFile
from melody.data.loading import load_corpus
from melody.data.walking import walk
from melody.errors import MelodyError

# How files of the authors' demo page are called, and what a manifest says of them.
DEMO_PAGE = [
    ("wavs/ablation_angle_schedules/acoustic_guitar_linear_10steps.wav", "angle-schedules/acoustic_guitar.linear.10"),
    ("wavs/ablation_angle_schedules/flute_uniform_20steps.wav", "angle-schedules/flute.uniform.20"),
    ("wavs/prompts_from_musiclm/genres/jazz-10s.wav", "musiclm-prompts/genres/jazz.melody"),
    ("wavs/prompts_from_musiclm/genres/jazz-MusicLM.wav", "musiclm-prompts/genres/jazz.musiclm"),
    ("wavs/prompts_from_musiclm/epochs/club-in-the-00s-10s.wav", "musiclm-prompts/epochs/club-in-the-00s.melody"),
]


def write_tone(path: Path, seconds: float = 0.1, rate: int = 24_000, pitch: float = 440) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate), rate)


def write_metadata(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return folder


def test_metadata_gives_texts_tags_and_attributes(tmp_path: Path) -> None:
    write_tone(tmp_path / "b/two.flac", seconds=0.2, rate=48_000)
    write_tone(tmp_path / "один.wav")
    write_tone(tmp_path / "unlisted.wav")
    write_metadata(
        tmp_path,
        "\ufefffile_name,text,tags,num_steps,system\n"
        'один.wav,"a slow, sad piano",,10,melody\n./b/two.flac,флейта,"flute, folk",,musiclm\n',
    )
    corpus = load_corpus(tmp_path)
    assert [clip.identifier for clip in corpus] == ["один", "b/two"]
    assert corpus[0].text == "a slow, sad piano"
    assert corpus[0].attributes == {"num_steps": 10, "system": "melody"}
    assert corpus.clip("b/two").tags == ("flute", "folk")
    assert corpus[1].duration_s == pytest.approx(0.2)
    assert corpus[1].waveform(16_000).shape == (3200,)
    assert corpus.left_out == ("unlisted.wav",)
    assert [clip.identifier for clip in corpus.select(system="musiclm")] == ["b/two"]


def test_pairs_by_name_never_by_order(tmp_path: Path) -> None:
    for name, pitch in (("a", 200), ("b", 400), ("c", 800)):
        write_tone(tmp_path / f"{name}.wav", pitch=pitch, seconds=0.5)
    write_metadata(tmp_path, "text,file_name\n800 Hz,c.wav\n200 Hz,a.wav\n400 Hz,b.wav\n")
    for clip in load_corpus(tmp_path):
        spectrum = torch.fft.rfft(clip.waveform()).abs()
        assert clip.text == f"{round(float(spectrum.argmax()) / 0.5)} Hz"


def test_files_that_differ_by_extension_keep_it(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav")
    write_tone(tmp_path / "a.flac")
    write_metadata(tmp_path, "file_name,text\na.wav,x\na.flac,y\n")
    assert [clip.identifier for clip in load_corpus(tmp_path)] == ["a.wav", "a.flac"]


def test_content_hash_follows_sound_text_and_nothing_else(tmp_path: Path) -> None:
    def corpus_hash(folder: str, text: str, pitch: float) -> str:
        write_tone(tmp_path / folder / "a.wav", pitch=pitch)
        return load_corpus(write_metadata(tmp_path / folder, f"file_name,text\na.wav,{text}\n")).content_hash()

    first = corpus_hash("one", "piano", 440)
    assert corpus_hash("two", "piano", 440) == first
    assert len({first, corpus_hash("three", "flute", 440), corpus_hash("four", "piano", 441)}) == 3


def test_splits(tmp_path: Path) -> None:
    for i in range(40):
        write_tone(tmp_path / "plain" / f"{i}.wav", seconds=0.01)
        write_tone(tmp_path / "split" / f"{i}.wav", seconds=0.01)
    lines = "".join(f"{i}.wav,text {i}\n" for i in range(40))
    plain = write_metadata(tmp_path / "plain", f"file_name,text\n{lines}")
    parts = {
        split: {c.identifier for c in load_corpus(plain, split=split)} for split in ("train", "validation", "test")
    }
    assert parts["train"] | parts["validation"] == parts["test"]
    assert not parts["train"] & parts["validation"]
    assert len(parts["validation"]) == 2

    own = "".join(f"{i}.wav,text {i},{'test' if i < 3 else 'train'}\n" for i in range(40))
    said = write_metadata(tmp_path / "split", f"file_name,text,split\n{own}")
    assert [c.identifier for c in load_corpus(said, split="test")] == ["0", "1", "2"]
    assert len(load_corpus(said, split="train", num_clips=5)) == 5
    with pytest.raises(MelodyError, match="no rows of split 'validation'"):
        load_corpus(said, split="validation")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,text\na.wav,x\n", "line 1: column 'file_name' is missing; is 'file' meant?"),
        ("file_name,caption\na.wav,x\n", "line 1: column 'text' is missing .*there: file_name, caption"),
        ("", "metadata.csv is empty"),
        ("file_name,text\n", "no rows"),
        ("file_name,text\na.wav,\n", "line 2: text is empty"),
        ("file_name,text\na.wav\n", "line 2: got 1 cells; the header has 2"),
        ("file_name,text\na.wav,x,y\n", "line 2: got 3 cells; the header has 2: a text with commas needs quotes"),
        ("file_name,text\na.wav,x\n./a.wav,y\n", r"lists './a.wav' twice: lines 2 and 3"),
        ("file_name,text\na.wav,x\nb.wav,y\nc.wav,z\n", "2 of 3 files that are not in .*: b.wav, c.wav"),
        ("file_name,text\n../outside.wav,x\n", "'../outside.wav' is outside the folder"),
        ("file_name,text\n/etc/hostname,x\n", "'/etc/hostname' is outside the folder"),
        ("file_name,text\nlost.wav,x\n", "1 of 1 files that are not in .*: lost.wav"),
        ("file_name,text\ncut.wav,x\n", "cannot read audio .*cut.wav: it ends before its header says"),
        ("file_name,text\nbroken.wav,x\n", "cannot read audio .*broken.wav"),
        ("file_name,text\nempty.wav,x\n", "empty.wav: it is empty"),
        ('file_name,text\n"a.wav,x\n', "metadata.csv, line 2: not CSV"),
    ],
)
def test_bad_metadata_is_one_clear_line(tmp_path: Path, text: str, reason: str) -> None:
    folder = write_metadata(tmp_path / "set", text)
    write_tone(folder / "a.wav")
    write_tone(tmp_path / "outside.wav")
    os.symlink(tmp_path / "nowhere.wav", folder / "lost.wav")
    whole = (tmp_path / "outside.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 10])
    (folder / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "empty.wav", np.zeros(0), 24_000)
    with pytest.raises(MelodyError, match=reason) as raised:
        load_corpus(folder)
    assert "\n" not in str(raised.value)


def test_links_are_followed(tmp_path: Path) -> None:
    """As hub caches and datasets on another disk are laid out: every file and folder a link."""
    write_tone(tmp_path / "disk/more/b.wav")
    write_tone(tmp_path / "disk/a.wav", pitch=300)
    folder = write_metadata(tmp_path / "set", "file_name,text\na.wav,x\nmore/b.wav,y\n")
    os.symlink(tmp_path / "disk/a.wav", folder / "a.wav")
    os.symlink(tmp_path / "disk/more", folder / "more")
    assert [clip.identifier for clip in load_corpus(folder)] == ["a", "more/b"]
    assert [clip.identifier for clip in load_corpus(folder, captions=False)] == ["a.wav", "more/b.wav"]
    os.symlink(folder, folder / "more/again")
    with pytest.raises(MelodyError, match="more/again: it is a link to a folder that it lies in"):
        load_corpus(folder, captions=False)


def test_a_folder_with_two_names_is_read_once(tmp_path: Path) -> None:
    """Also where folders link to each other in diamonds: as many ways as 2 to the power of their levels."""
    write_tone(tmp_path / "set/runs/3/a.wav")
    os.symlink(tmp_path / "set/runs/3", tmp_path / "set/latest")
    with pytest.raises(MelodyError, match=r"holds latest: it is a link to a folder that is read as runs/3$"):
        load_corpus(tmp_path / "set", captions=False)
    top = tmp_path / "levels"
    for level in range(40):
        (top / f"{level}").mkdir(parents=True)
        for side in ("left", "right") if level else ():
            os.symlink(top / f"{level}", top / f"{level - 1}" / side)
    write_tone(top / "39/a.wav")
    (tmp_path / "entry").symlink_to(top / "0")
    names, faults = walk(tmp_path / "entry")
    assert names == ["/".join(["left"] * 39) + "/a.wav"]
    assert len(faults) == 39
    assert faults[0] == InvalidFile("right", "it is a link to a folder that is read as left")


def test_sounds_that_are_not_read_are_told(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav")
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(20))
    with pytest.raises(MelodyError, match=r"b.m4a: it is AAC .* ffmpeg -i .*b.m4a .*b.wav"):
        load_corpus(tmp_path, captions=False)
    write_metadata(tmp_path, "file_name,text\na.wav,x\n")
    assert load_corpus(tmp_path).left_out == ("b.m4a",)
    write_metadata(tmp_path, "file_name,text\na.wav,x\nb.m4a,y\n")
    corpus = load_corpus(tmp_path, report=True)
    assert [fault.file for fault in corpus.faults] == ["b.m4a"]


def test_metadata_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(MelodyError, match=r"metadata\.csv is not UTF-16"):
        load_corpus(tmp_path)


def test_folder_without_metadata_says_what_was_expected(tmp_path: Path) -> None:
    write_tone(tmp_path / "sub/a.wav")
    (tmp_path / "meta.csv").write_text("")
    with pytest.raises(
        MelodyError, match=r"no metadata.csv \(expected columns file_name, text\); did you mean 'meta.csv'"
    ) as e:
        load_corpus(tmp_path)
    assert "1 audio files, which captions=False takes" in str(e.value)
    with pytest.raises(
        MelodyError, match="no corpus 'embeded': expected 'embedded' or a folder; did you mean 'embedded'"
    ):
        load_corpus("embeded")


def test_bare_audio_needs_the_flag(tmp_path: Path) -> None:
    write_tone(tmp_path / "b/x.wav")
    write_tone(tmp_path / "b/x.flac")
    write_tone(tmp_path / ".hidden/y.wav")
    corpus = load_corpus(tmp_path, captions=False)
    assert [(clip.identifier, clip.text) for clip in corpus] == [("b/x.flac", ""), ("b/x.wav", "")]
    assert corpus.waveforms().shape == (2, 2400)
    (tmp_path / "none").mkdir()
    with pytest.raises(MelodyError, match="holds no audio"):
        load_corpus(tmp_path / "none", captions=False)


def test_unequal_lengths_are_not_stacked(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", seconds=0.1)
    write_tone(tmp_path / "b.wav", seconds=0.2)
    with pytest.raises(MelodyError, match=r"b.wav has 4800 samples, the first 2400"):
        load_corpus(tmp_path, captions=False).waveforms()


def test_demo_page_reads_as_its_manifest(tmp_path: Path) -> None:
    clone, manifest = tmp_path / "clone", tmp_path / "manifest"
    rows = []
    for i, (source, identifier) in enumerate(DEMO_PAGE):
        write_tone(clone / source, pitch=200 + 50 * i)
        write_tone(manifest / f"{identifier}.flac", pitch=200 + 50 * i)
        rows.append(manifest_row(source, identifier))
    write_tone(clone / "wavs/other/long_sample.wav")
    write_tone(clone / "wavs/prompts_from_musiclm/genres/jazz-30s.wav")
    with (manifest / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert_alike(load_corpus(clone), load_corpus(manifest))
    assert load_corpus(clone).left_out == (
        "wavs/other/long_sample.wav",
        "wavs/prompts_from_musiclm/genres/jazz-30s.wav",
    )
    assert load_corpus(clone).clip("angle-schedules/flute.uniform.20").attributes["num_steps"] == 20


def test_demo_page_layout_maps_to_every_published_sample(tmp_path: Path, published_samples: Path) -> None:
    published = load_corpus(published_samples)
    for clip in published:
        write_tone(tmp_path / str(clip.attributes["source"]), seconds=0.01)
    assert_alike(load_corpus(tmp_path), published)


def manifest_row(source: str, identifier: str) -> dict[str, str]:
    category, name = identifier.removeprefix("musiclm-prompts/").split("/")
    schedule, steps, system = "", "", "melody"
    if category == "angle-schedules":
        name, schedule, steps = name.split(".")
    else:
        name, system = name.split(".")
    return {
        "file_name": f"{identifier}.flac",
        "text": name.replace("_" if schedule else "-", " "),
        "system": system,
        "category": category,
        "angle_schedule": schedule,
        "num_steps": steps,
        "source": source,
    }


def assert_alike(clone: object, manifest: object) -> None:
    keys = ("system", "category", "angle_schedule", "num_steps", "source")

    def facts(corpus: object) -> dict[str, tuple[object, ...]]:
        return {c.identifier: (c.text, *(c.attributes.get(k) for k in keys)) for c in corpus}  # type: ignore[attr-defined]

    assert facts(clone) == facts(manifest)
    assert facts(clone)


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav")
    os.rename(tmp_path / "a.wav", os.fsencode(tmp_path) + b"/b\xff.wav")
    with pytest.raises(MelodyError, match=r"b.udcff.wav: its name is not UTF-8"):
        load_corpus(tmp_path, captions=False)
