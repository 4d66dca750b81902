"""The embedded corpus: composed, rendered and captioned here, so that every table can be run from a fresh clone.

A clip is a pure function of (version, seed, split, index): its random streams are keyed so, and nothing else is drawn
from them. Sound is rendered once and cached in files of ``CHUNK_CLIPS`` clips, keyed by everything that decides it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from melody.data.attributes import Attributes, draw_attributes
from melody.data.audio import from_int16, resampled, to_int16
from melody.data.captions import caption, full_caption, tags
from melody.data.composer import Piece, compose
from melody.data.corpus import SPLITS, Clip, Corpus, Progress, check_split
from melody.data.rendering import NUM_SAMPLES, PROGRAMS, SAMPLE_RATE, render, synthesizer
from melody.data.soundfont import original_soundfont, prepared_soundfont
from melody.errors import MelodyError
from melody.paths import PACKAGE, cache_dir
from melody.weights import file_hash, write_bytes

CORPUS_VERSION = 3
CLIP_S = 10.0
DEFAULT_SIZES = {"train": 6144, "validation": 128, "test": 256}
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

    def waveform(self, sample_rate: int) -> Tensor:
        """Mono ``(T,)``; renders the clip's chunk if the cache lacks it."""
        return resampled(from_int16(self._samples()), SAMPLE_RATE, sample_rate)

    def content(self) -> bytes:
        """The 16-bit samples."""
        return self._samples().tobytes()

    def _samples(self) -> NDArray[np.int16]:
        chunk, row = divmod(self.index, CHUNK_CLIPS)
        samples: NDArray[np.int16] = _chunk(_chunk_path(self.split, chunk, self.seed), self.split, chunk, self.seed)[
            row
        ]
        return samples


def embedded_corpus(
    split: str, num_clips: int | None = None, seed: int = 0, *, progress: Progress | None = None
) -> Corpus:
    """The embedded corpus's split, its first ``num_clips`` clips.

    Sound is rendered when it is first asked for; with ``progress`` all of it is rendered now.

    Raises:
        MelodyError: unknown split, no clips, or a cache folder that cannot be written.
    """
    check_split(split)
    count = DEFAULT_SIZES[split] if num_clips is None else num_clips
    if count < 1:
        raise MelodyError(f"number of clips is {count}, expected at least 1")
    if seed < 0:
        raise MelodyError(f"seed of the embedded corpus is {seed}, expected 0 or more")
    if progress is not None:
        render_missing(split, count, seed, progress)
    return Corpus(f"embedded/{split}", [embedded_clip(split, index, seed) for index in range(count)])


def embedded_clip(split: str, index: int, seed: int = 0) -> Clip:
    """One clip, whatever the size of the corpus."""
    attributes = clip_attributes(split, index, seed)
    return Clip(
        identifier=f"{split}/{index:05d}" if seed == 0 else f"{split}-seed-{seed}/{index:05d}",
        text=caption(attributes, _stream("caption", split, index, seed)),
        tags=tags(attributes),
        attributes=attributes.as_mapping(),
        duration_s=CLIP_S,
        audio=EmbeddedAudio(split, index, seed),
    )


def clip_attributes(split: str, index: int, seed: int = 0) -> Attributes:
    """What the clip is."""
    return draw_attributes(index, _stream("attributes", split, index, seed))


def clip_score(split: str, index: int, seed: int = 0) -> Piece:
    """The clip's notes."""
    return compose(clip_attributes(split, index, seed), _stream("score", split, index, seed))


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


def render_missing(split: str, num_clips: int, seed: int = 0, progress: Progress | None = None) -> None:
    """Render what the cache lacks of the first ``num_clips`` clips, reporting clips done."""
    for chunk in range(-(-num_clips // CHUNK_CLIPS)):
        _chunk(_chunk_path(split, chunk, seed), split, chunk, seed)
        if progress is not None:
            progress(min((chunk + 1) * CHUNK_CLIPS, num_clips), num_clips)


def corpus_synthesizer() -> Any:
    """The synthesizer that the corpus is rendered with; its SoundFont is prepared once and cached."""
    return _synthesizer(_folder() / "soundfont.sf2")


@lru_cache(maxsize=1)
def sound_version() -> str:
    """Hash of all that decides the sound: our sources, the SoundFont, the versions of symusic and numpy."""
    parts = [_code(PACKAGE / "data" / name) for name in SOUND_DECIDING_SOURCES]
    parts += [
        file_hash(original_soundfont()),
        version("symusic"),
        version("numpy"),
        str(CORPUS_VERSION),
        str(CHUNK_CLIPS),
    ]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _code(path: Path) -> str:
    """A module without comments, layout and docstrings, so that wording alone renders nothing again."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _stream(name: str, split: str, index: int, seed: int) -> np.random.Generator:
    key = [CORPUS_VERSION, seed, SPLITS.index(split), index, STREAMS[name]]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _folder() -> Path:
    try:
        return cache_dir("embedded", sound_version())
    except OSError as error:
        raise MelodyError(
            f"cannot make the cache folder {error.filename}: {error.strerror}; MELODY_CACHE moves the cache"
        ) from None


def _chunk_path(split: str, chunk: int, seed: int) -> Path:
    return _folder() / f"{split}-{seed}-{chunk:05d}.npy"


@lru_cache(maxsize=512)
def _chunk(path: Path, split: str, chunk: int, seed: int) -> NDArray[np.int16]:
    """The chunk's memory map ``(CHUNK_CLIPS, NUM_SAMPLES)``, rendered first if it is missing or damaged."""
    found = _opened(path)
    if found is None:
        _made(path, lambda: _opened(path) is not None, lambda: _rendered_chunk(split, chunk, seed))
        found = _opened(path)
    if found is None:
        raise MelodyError(f"the cache {path} was written, and cannot be read: delete it and try again")
    return found


@lru_cache(maxsize=1)
def _synthesizer(path: Path) -> Any:
    _made(path, path.is_file, lambda: prepared_soundfont(PROGRAMS))
    return synthesizer(path)


def _made(path: Path, is_there: Callable[[], bool], content: Callable[[], bytes]) -> None:
    """Write a file of the cache unless it is there; a second process waits for the first, and finds the file."""
    if is_there():
        return
    try:
        with FileLock(path.with_suffix(".lock")):
            if not is_there():
                write_bytes(path, content())
    except OSError as error:
        raise MelodyError(f"cannot write the cache {path}: {error.strerror}; MELODY_CACHE moves the cache") from None


def _opened(path: Path) -> NDArray[np.int16] | None:
    try:
        array: NDArray[np.int16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # missing or damaged: to be rendered again
        return None
    return array if array.shape == (CHUNK_CLIPS, NUM_SAMPLES) and array.dtype == np.int16 else None


def _rendered_chunk(split: str, chunk: int, seed: int) -> bytes:
    first = chunk * CHUNK_CLIPS
    synth = corpus_synthesizer()
    rows = [to_int16(render(clip_score(split, index, seed), synth)) for index in range(first, first + CHUNK_CLIPS)]
    buffer = BytesIO()
    np.save(buffer, np.stack(rows), allow_pickle=False)
    return buffer.getvalue()
