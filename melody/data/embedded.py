"""The embedded corpus: composed, rendered and captioned here, so that every table can be run from a fresh clone.

A clip is a pure function of (version, seed, split, index, length): its random streams are keyed by the first four, and
nothing else is drawn from them, so that pieces of every length have the same facts and captions at the same index.
Sound is rendered once and cached in files of ``CHUNK_CLIPS`` clips, keyed by everything that decides it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from melody.artifacts.code_identity import tree_hash
from melody.artifacts.files import canonical, file_hash, write_bytes
from melody.artifacts.store import Store
from melody.data.attributes import Attributes, draw_attributes
from melody.data.audio import from_int16, resampled, to_int16
from melody.data.captions import caption, full_caption, tags
from melody.data.composer import Piece, compose
from melody.data.corpus import SPLITS, Clip, Corpus, Progress, check_split
from melody.data.rendering import PROGRAMS, SAMPLE_RATE, render, synthesizer
from melody.data.soundfont import original_soundfont, prepared_soundfont
from melody.errors import MelodyError, StorageError
from melody.paths import PACKAGE, cache_dir

CORPUS_VERSION = 3
NAME = "embedded"
CLIP_S = 10.0
LONGEST_CLIP_S = 300.0
"""Shorter than ``CLIP_S`` a piece has no room for a progression; longer, nobody has asked for one."""
EMBEDDED_SPLITS = (*SPLITS, "test-2")
"""``test-2`` is a second test split, of other seeds of the composer: for numbers by which nothing was chosen."""
DEFAULT_SIZES = {"train": 6144, "validation": 128, "test": 256, "test-2": 256}
CHUNK_CLIPS = 32
STREAMS = {"attributes": 0, "score": 1, "caption": 2, "further captions": 3}
FURTHER_CAPTIONS = 6
SOUND_DECIDING_SOURCES = ("attributes.py", "patterns.py", "composer.py", "soundfont.py", "rendering.py", "audio.py")


@dataclass(frozen=True)
class EmbeddedAudio:
    """The sound of one clip, in the cache."""

    split: str
    index: int
    seed: int
    duration_s: float = CLIP_S

    def waveform(self, sample_rate: int) -> Tensor:
        """Mono ``(T,)``; renders the clip's chunk if the cache lacks it."""
        return resampled(from_int16(self._samples()), SAMPLE_RATE, sample_rate)

    def content(self) -> bytes:
        """The 16-bit samples."""
        return self._samples().tobytes()

    def _samples(self) -> NDArray[np.int16]:
        number, row = divmod(self.index, CHUNK_CLIPS)
        samples: NDArray[np.int16] = _chunk(_cache(), Chunk(self.split, number, self.seed, self.duration_s))[row]
        return samples


@dataclass(frozen=True)
class Chunk:
    """Clips that are rendered together, into one file of the cache."""

    split: str
    number: int
    seed: int = 0
    duration_s: float = CLIP_S

    @property
    def key(self) -> str:
        """Hash of all that decides its sound."""
        decides = [sound_version(), self.split, int(self.seed), float(self.duration_s), int(self.number)]
        return hashlib.sha256(canonical(decides)).hexdigest()

    @property
    def indices(self) -> range:
        return range(self.number * CHUNK_CLIPS, (self.number + 1) * CHUNK_CLIPS)


def embedded_corpus(
    split: str,
    num_clips: int | None = None,
    seed: int = 0,
    *,
    durations_s: Sequence[float] = (CLIP_S,),
    progress: Progress | None = None,
) -> Corpus:
    """The embedded corpus's split, its first ``num_clips`` clips.

    Sound is rendered when it is first asked for; with ``progress`` all of it is rendered now.

    Args:
        split: ``train``, ``validation``, ``test`` or ``test-2``.
        durations_s: length of the pieces; of several, each ``CHUNK_CLIPS`` clips in a row have the next.
    Raises:
        MelodyError: unknown split, no clips, a length out of bounds, or a cache folder that cannot be written.
    """
    check_split(split, EMBEDDED_SPLITS)
    _check_durations(durations_s)
    count = DEFAULT_SIZES[split] if num_clips is None else num_clips
    if count < 1:
        raise MelodyError(f"number of clips is {count}, expected at least 1")
    if seed < 0:
        raise MelodyError(f"seed of the embedded corpus is {seed}, expected 0 or more")
    if progress is not None:
        render_missing(split, count, seed, durations_s=durations_s, progress=progress)
    clips = [embedded_clip(split, index, seed, _duration_of(index, durations_s)) for index in range(count)]
    return Corpus(f"{corpus_spec(durations_s)}/{split}", clips)


def corpus_spec(durations_s: Sequence[float]) -> str:
    """A corpus of pieces of these lengths as ``--data`` takes it.

    >>> corpus_spec([10.0]), corpus_spec([10, 30])
    ('embedded', 'embedded:10,30')
    """
    lengths = ",".join(f"{duration_s:g}" for duration_s in durations_s)
    return NAME if tuple(durations_s) == (CLIP_S,) else f"{NAME}:{lengths}"


def is_embedded(where: str) -> bool:
    """Whether ``where`` names the embedded corpus: ``embedded``, or ``embedded:10,30``."""
    return where == NAME or where.startswith(f"{NAME}:")


def durations_of(where: str) -> tuple[float, ...]:
    """The lengths in ``embedded:10,30``, in seconds; raises ``MelodyError`` if they are no lengths."""
    _, colon, lengths = where.partition(":")
    if not colon:
        return (CLIP_S,)
    try:
        durations_s = tuple(float(length) for length in lengths.split(","))
    except ValueError:
        raise MelodyError(f"corpus {where!r}: expected lengths in seconds, as in 'embedded:10,30'") from None
    _check_durations(durations_s)
    return durations_s


def embedded_clip(split: str, index: int, seed: int = 0, duration_s: float = CLIP_S) -> Clip:
    """One clip, whatever the size of the corpus."""
    attributes = clip_attributes(split, index, seed)
    name = split + (f"-seed-{seed}" if seed else "") + (f"-{duration_s:g}s" if duration_s != CLIP_S else "")
    return Clip(
        identifier=f"{name}/{index:05d}",
        text=caption(attributes, _stream("caption", split, index, seed)),
        tags=tags(attributes),
        attributes=attributes.as_mapping(),
        duration_s=duration_s,
        audio=EmbeddedAudio(split, index, seed, duration_s),
    )


def clip_attributes(split: str, index: int, seed: int = 0) -> Attributes:
    """What the clip is."""
    return draw_attributes(index, _stream("attributes", split, index, seed))


def clip_score(split: str, index: int, seed: int = 0, duration_s: float = CLIP_S) -> Piece:
    """The clip's notes."""
    return compose(clip_attributes(split, index, seed), _stream("score", split, index, seed), duration_s)


def further_captions(clip: Clip) -> tuple[str, ...]:
    """Other true captions of a clip, the full one first; none for a clip that is not of the embedded corpus."""
    if not isinstance(clip.audio, EmbeddedAudio):
        return ()
    facts = Attributes.from_mapping(clip.attributes)
    rng = _stream("further captions", clip.audio.split, clip.audio.index, clip.audio.seed)
    return (full_caption(facts), *(caption(facts, rng) for _ in range(FURTHER_CAPTIONS - 1)))


def distinct_prompts(num_prompts: int, seed: int = 0, *, split: str = "test") -> list[Clip]:
    """Clips of a split with captions of which no two describe the same combination of attributes, nor read the same.

    Raises:
        MelodyError: the split has fewer such clips.
    """
    corpus = embedded_corpus(split)
    order = np.random.default_rng([CORPUS_VERSION, seed]).permutation(len(corpus))
    chosen: dict[tuple[object, ...], Clip] = {}
    texts: set[str] = set()
    for index in order:
        clip = corpus[int(index)]
        combination = Attributes.from_mapping(clip.attributes).combination
        if combination in chosen or clip.text in texts:
            continue
        if len(chosen) == num_prompts:
            break
        chosen[combination] = clip
        texts.add(clip.text)
    if len(chosen) < num_prompts or num_prompts < 1:
        raise MelodyError(f"{num_prompts} distinct prompts were asked for, {corpus.name} has 1 to {len(chosen)}")
    return list(chosen.values())


def distinct_combinations(corpus: Corpus, count: int, seed: int = 0) -> list[int]:
    """Places of clips of which no two have the same combination of attributes, in a random order by seed.

    Raises:
        MelodyError: the corpus has fewer of them, or a clip without the embedded corpus's attributes.
    """
    chosen: dict[tuple[object, ...], int] = {}
    for index in np.random.default_rng([CORPUS_VERSION, seed]).permutation(len(corpus)):
        clip = corpus[int(index)]
        try:
            combination = Attributes.from_mapping(clip.attributes).combination
        except (KeyError, TypeError):
            raise MelodyError(f"{corpus.name}: {clip.identifier} lacks attributes of the embedded corpus") from None
        chosen.setdefault(combination, int(index))
    if not 1 <= count <= len(chosen):
        raise MelodyError(f"{count} clips with distinct attributes were asked for, {corpus.name} has {len(chosen)}")
    return list(chosen.values())[:count]


def render_missing(
    split: str,
    num_clips: int,
    seed: int = 0,
    *,
    durations_s: Sequence[float] = (CLIP_S,),
    progress: Progress | None = None,
) -> None:
    """Render what the cache lacks of the first ``num_clips`` clips, reporting clips done."""
    for number in range(-(-num_clips // CHUNK_CLIPS)):
        _chunk(_cache(), Chunk(split, number, seed, _duration_of(number * CHUNK_CLIPS, durations_s)))
        if progress is not None:
            progress(min((number + 1) * CHUNK_CLIPS, num_clips), num_clips)


def corpus_synthesizer() -> Any:
    """The synthesizer that the corpus is rendered with; its SoundFont is prepared once and cached."""
    return _synthesizer(_cache("soundfont", sound_version()) / "soundfont.sf2")


@lru_cache(maxsize=1)
def sound_version() -> str:
    """Hash of all that decides the sound: our sources, the SoundFont, the versions of symusic and numpy."""
    parts = [tree_hash(PACKAGE / "data" / name) for name in SOUND_DECIDING_SOURCES]
    parts += [
        file_hash(original_soundfont()),
        version("symusic"),
        version("numpy"),
        str(CORPUS_VERSION),
        str(CHUNK_CLIPS),
    ]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _stream(name: str, split: str, index: int, seed: int) -> np.random.Generator:
    key = [CORPUS_VERSION, seed, EMBEDDED_SPLITS.index(split), index, STREAMS[name]]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _cache(*parts: str) -> Path:
    try:
        return cache_dir(*parts)
    except OSError as error:
        raise StorageError(
            f"cannot make the cache folder {error.filename}: {error.strerror}; MELODY_CACHE moves the cache"
        ) from None


def _check_durations(durations_s: Sequence[float]) -> None:
    if not durations_s:
        raise MelodyError("no length of the embedded corpus's pieces was given: expected at least one, in seconds")
    for duration_s in durations_s:
        if not CLIP_S <= duration_s <= LONGEST_CLIP_S:
            raise MelodyError(
                f"length of the embedded corpus's pieces is {duration_s:g} s, expected {CLIP_S:g} to {LONGEST_CLIP_S:g}"
            )


def _duration_of(index: int, durations_s: Sequence[float]) -> float:
    return float(durations_s[index // CHUNK_CLIPS % len(durations_s)])


@lru_cache(maxsize=512)
def _chunk(_: Path, chunk: Chunk) -> NDArray[np.int16]:
    """The chunk's clips, ``(CHUNK_CLIPS, T)``, through a memory map; another cache folder has its own."""
    path = Store().mapped("corpus", chunk.key, lambda: [_rendered(chunk)])
    with safe_open(path, framework="pt") as file:
        samples: NDArray[np.int16] = file.get_tensor("samples").numpy()
        return samples


@lru_cache(maxsize=1)
def _synthesizer(path: Path) -> Any:
    """A second process waits for the first, and finds the file."""
    try:
        if not path.is_file():
            with FileLock(path.with_suffix(".lock")):
                if not path.is_file():
                    write_bytes(path, prepared_soundfont(PROGRAMS))
    except OSError as error:
        raise StorageError(f"cannot write the cache {path}: {error.strerror}; MELODY_CACHE moves the cache") from None
    return synthesizer(path)


def _rendered(chunk: Chunk) -> bytes:
    synth = corpus_synthesizer()
    scores = (clip_score(chunk.split, index, chunk.seed, chunk.duration_s) for index in chunk.indices)
    rows = [to_int16(render(score, synth)) for score in scores]
    content: bytes = save({"samples": np.stack(rows)})
    return content
