"""A corpus in shards is the corpus in its folder."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody.cli import main
from melody.data.folders import metadata_corpus
from melody.data.loading import load_corpus, whole_corpora
from melody.data.shards import write_shards
from melody.errors import MelodyError


def tone(pitch: float, seconds: float = 0.1) -> bytes:
    buffer = io.BytesIO()
    time = np.arange(round(seconds * 24_000)) / 24_000
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * pitch * time), 24_000, format="FLAC")
    return buffer.getvalue()


def write_folder(folder: Path, columns: str = "file_name,text,tags", split: bool = False) -> Path:
    (folder / "a.b").mkdir(parents=True)
    rows = [columns + (",split" if split else "")]
    for i in range(6):
        (folder / "a.b" / f"{i}.flac").write_bytes(tone(200 + 50 * i))
        rows.append(f'a.b/{i}.flac,text {i},"x, {i}"' + (f",{'validation' if i < 2 else 'train'}" if split else ""))
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("split", [False, True])
def test_shards_hold_what_the_folder_holds(tmp_path: Path, split: bool) -> None:
    folder = write_folder(tmp_path / "set", split=split)
    paths = write_shards(whole_corpora(str(folder)), tmp_path / "shards", shard_bytes=1)
    assert [path.name for path in paths] == [f"shards-{i:06d}.tar" for i in range(6)]
    for part in ("train", "validation"):
        one = load_corpus(folder, split=part)
        for where in (tmp_path / "shards", f"{tmp_path}/shards/shards-{{000000..000005}}.tar"):
            other = load_corpus(where, split=part)
            assert [(c.identifier, c.text, c.tags, c.duration_s) for c in one] == [
                (c.identifier, c.text, c.tags, c.duration_s) for c in other
            ]
            assert all(torch.equal(a.waveform(), b.waveform()) for a, b in zip(one, other, strict=True))
            assert one.content_hash() == other.content_hash()  # so features are not computed again


def test_shards_made_elsewhere_need_a_text_and_no_more(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "x.tar",
        {
            "one.flac": tone(300),
            "one.txt": b"a flute\n",
            "two.json": json.dumps({"text": "a drum", "other": 1}).encode(),
            "two.flac": tone(400, 0.2),
        },
    )
    corpus = load_corpus(path)
    assert [(clip.identifier, clip.text) for clip in corpus] == [("one", "a flute"), ("two", "a drum")]
    assert corpus[1].duration_s == pytest.approx(0.2)
    assert corpus[1].waveform().shape == (4800,)


def test_shards_of_shards_hold_every_split(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", split=True)
    write_shards(whole_corpora(str(folder)), tmp_path / "one")
    write_shards(whole_corpora(str(tmp_path / "one")), tmp_path / "two")
    assert len(load_corpus(tmp_path / "two", split="train")) == 4
    assert len(load_corpus(tmp_path / "two", split="validation")) == 2


def test_samples_that_cannot_be_used_are_told_by_name(tmp_path: Path) -> None:
    good = {"one.flac": tone(300), "one.txt": b"a flute"}
    same = {"same.flac": tone(300), "same.txt": b"again"}
    bad = {
        "noise.flac": b"fLaC",
        "noise.txt": b"broken",
        "mute.flac": tone(1, 0),
        "mute.txt": b"empty",
        "bare.flac": tone(500),
        "late.txt": b"no sound",
    }
    path = write_tar(tmp_path / "x.tar", {**good, **same, **bad})
    corpus = load_corpus(path, report=True)
    assert [clip.identifier for clip in corpus] == ["one"]
    told = {fault.file: fault.reason for fault in corpus.faults}
    assert set(told) == {f"x.tar:{name}" for name in ("same", "noise", "mute", "bare", "late")}
    assert "the same content as x.tar:one" in told["x.tar:same"]
    assert "has no text" in told["x.tar:bare"]
    assert "no audio" in told["x.tar:late"]
    with pytest.raises(MelodyError, match="cannot read audio .*noise.flac"):
        load_corpus(path)
    with pytest.raises(MelodyError, match="none of the 5 files of y.tar can be used"):
        load_corpus(write_tar(tmp_path / "y.tar", {"z.flac": tone(1, 0), **bad}), report=True)


def test_facts_of_another_type_are_told_and_nothing_is_made_of_them(tmp_path: Path) -> None:
    said = {
        "string": {"text": "a", "tags": "piano, slow"},
        "null": {"text": "a", "tags": None, "attributes": None, "sha256": None, "duration_s": None},
        "hash": {"text": "a", "sha256": "zz"},
        "length": {"text": "a", "duration_s": "3"},
        "negative": {"text": "a", "duration_s": -4},
        "name": {"text": "a", "identifier": 7},
        "list": {"text": "a", "attributes": [1]},
        "blank": {"text": "  "},
    }
    members = {}
    for number, (key, facts) in enumerate(said.items()):
        members |= {f"{key}.flac": tone(300 + number), f"{key}.json": json.dumps(facts).encode()}
    corpus = load_corpus(write_tar(tmp_path / "x.tar", members), report=True)
    assert {clip.identifier: clip.tags for clip in corpus} == {"string": ("piano", "slow"), "null": ()}
    told = {fault.file.removeprefix("x.tar:"): fault.reason for fault in corpus.faults}
    assert set(told) == {"hash", "length", "negative", "name", "list", "blank"}
    assert all("x.tar, sample '" in reason for reason in told.values())
    assert "sha256" in told["hash"]
    assert "duration_s" in told["length"]
    assert len(corpus.content_hash()) == 64


def test_a_sample_that_ends_early_is_told_as_a_file_is(tmp_path: Path) -> None:
    noise = io.BytesIO()
    soundfile.write(noise, np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 24_000, format="FLAC")
    members = {"a.flac": tone(300), "a.txt": b"whole", "b.flac": noise.getvalue()[:40_000], "b.txt": b"broken off"}
    corpus = load_corpus(write_tar(tmp_path / "x.tar", members), report=True)
    assert [fault.file for fault in corpus.faults] == ["x.tar:b"]


def told(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


@pytest.mark.parametrize("second", ["000.flac", "000.wav"])
def test_no_sound_gets_the_text_of_another(tmp_path: Path, second: str) -> None:
    """Two samples of one key, one after the other: which text belongs to which sound is not to be guessed."""
    members = [("000.flac", tone(300)), ("000.json", told("slow")), (second, tone(400)), ("000.json", told("fast"))]
    members += [("001.flac", tone(500)), ("001.json", told("good"))]
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(MelodyError, match=r"x\.tar, sample '000': 000\.\w+ is there twice"):
        load_corpus(path)
    corpus = load_corpus(path, report=True)
    assert [(clip.identifier, clip.text) for clip in corpus] == [("001", "good")]
    assert [fault.file for fault in corpus.faults] == ["x.tar:000"]


def test_a_sample_with_two_sounds_is_told(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"0.flac": tone(300), "0.wav": tone(300), "0.json": told("a")})
    with pytest.raises(MelodyError, match=r"sample '0': 2 sounds \(flac, wav\); expected one"):
        load_corpus(path)


def test_keys_that_begin_anew_in_every_shard(tmp_path: Path) -> None:
    for number in range(3):
        members = {"000.flac": tone(300 + number), "000.json": told(f"text {number}")}
        write_tar(
            tmp_path / f"s-{number}.tar", members | {f"own{number}.flac": tone(500), f"own{number}.json": told("x")}
        )
    corpus = load_corpus(tmp_path)
    found = {clip.identifier: clip.text for clip in corpus}
    assert found == {f"s-{n}/000": f"text {n}" for n in range(3)} | {f"own{n}": "x" for n in range(3)}


def test_one_key_at_two_places_of_a_shard(tmp_path: Path) -> None:
    members = [
        (f"{key}.{kind}", tone(pitch) if kind == "flac" else told(key))
        for key, pitch in (("a", 300), ("b", 400), ("a", 500))
        for kind in ("flac", "json")
    ]
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(MelodyError, match="sample 'a': another sample is called 'x/a'"):
        load_corpus(path)
    assert {clip.identifier for clip in load_corpus(path, report=True)} == {"x/a", "b"}


def test_what_other_systems_put_into_a_tar(tmp_path: Path) -> None:
    """A byte-order mark is no letter of a text, and macOS's twin of every file is no file."""
    twin = b"\0\5\26\7\0\2\0\0Mac OS X"
    members = {"./._a.txt": twin, "./a.txt": b"\xef\xbb\xbfslow piano\r\n", "./._a.flac": twin, "./a.flac": tone(300)}
    members |= {"b.json": b"\xef\xbb\xbf" + told("a flute"), "b.FLAC": tone(400)}
    corpus = load_corpus(write_tar(tmp_path / "x.tar", members))
    assert [(clip.identifier, clip.text) for clip in corpus] == [("a", "slow piano"), ("b", "a flute")]


def test_a_cut_wav_is_no_sample(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 24_000, format="WAV")
    members = {"a.flac": tone(300), "a.txt": b"whole", "b.wav": buffer.getvalue()[:20_000], "b.txt": b"cut"}
    path = write_tar(tmp_path / "x.tar", members)
    assert [fault.file for fault in load_corpus(path, report=True).faults] == ["x.tar:b"]
    with pytest.raises(MelodyError, match="b.wav: it ends before its header says"):
        load_corpus(path)


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_clips_of_no_split_are_told(tmp_path: Path, kind: str) -> None:
    where = write_folder(tmp_path / "set", split=True)
    metadata = where / "metadata.csv"
    lines = metadata.read_text().splitlines()
    lines[4:6] = [lines[4].replace("train", "trian"), lines[5].removesuffix("train")]
    metadata.write_text("\n".join(lines) + "\n")
    if kind == "shards":
        write_shards([(None, metadata_corpus(where, None))], tmp_path / "shards")
        where = tmp_path / "shards"
    corpus = load_corpus(where, split="train", report=True)
    assert len(corpus) == 2
    assert [fault.reason.partition(" is ")[2] for fault in corpus.faults] == [
        "'trian', expected train, validation, test",
        "'', expected train, validation, test",
    ]


def test_the_command_tells_of_files_that_are_not_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "set")
    (folder / "stray.flac").write_bytes(tone(700))
    with pytest.raises(SystemExit, match="0"):
        main(["data", "shards", str(folder), "--out", str(tmp_path / "shards")])
    assert "1 audio files of" in capsys.readouterr().err


def test_bad_shards_are_one_line(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    (path,) = write_shards(whole_corpora(str(folder)), tmp_path / "shards")
    with pytest.raises(MelodyError, match="shards is there already"):
        write_shards(whole_corpora(str(folder)), tmp_path / "shards")
    with pytest.raises(MelodyError, match=r"1 of 2 shards of .* are missing: .*shards-000001\.tar"):
        load_corpus(f"{tmp_path}/shards/shards-{{000000..000001}}.tar")
    whole = path.read_bytes()
    for length in (len(whole) // 2, 512 * (len(whole) // 1024), 512 * (len(whole) // 1024) + 100):
        path.write_bytes(whole[:length])
        with pytest.raises(MelodyError, match=r"cannot read shard .*shards-000000\.tar"):
            load_corpus(tmp_path / "shards")


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import webdataset

    def full(self: object, sample: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(webdataset.ShardWriter, "write", full)
    folder = write_folder(tmp_path / "set")
    with pytest.raises(MelodyError, match="cannot write shards to .*: No space left on device; nothing was left"):
        write_shards(whole_corpora(str(folder)), tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
