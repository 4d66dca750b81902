"""The judges of attributes, trained on the spot on real clips of a corpus's training split, and cached by content.

About a minute on one core: half of it to hear 2,048 clips, half to learn. One seed, the same judges, on whatever number
of threads the rest runs: sums come out otherwise on two than on one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from melody.artifacts.code_identity import source_hash
from melody.artifacts.files import canonical
from melody.artifacts.provenance import deciding_versions
from melody.artifacts.store import Record, Store
from melody.data.attributes import TONICS
from melody.data.corpus import Corpus
from melody.errors import MelodyError
from melody.metrics import attributes
from melody.metrics.attributes import (
    CHROMA_ROWS,
    MODES,
    TEMPO_STEP,
    AttributeClassifiers,
    Features,
    features,
    log_power,
    tempo_candidates,
)

SEED = 0
TIMBRE_STEPS, TEMPO_STEPS, KEY_STEPS = 640, 640, 960
MOST_EPOCHS = 40  # few clips are learnt by heart after so many
TIMBRE_BATCH, BATCH = 32, 64
CROP_FRAMES = 256  # 5 s: more variety from the same clips
QUIETEST, LOUDEST = -7.0, -2.5  # log10 of the power of added noise
MUFFLED_SHARE = 0.3
GRAIN = 0.3
TEMPO_SPREAD = 1.5  # candidates, of the target around the true tempo
RHYTHM_NOISE = 0.03
KIND = "classifiers"
NEEDED = ("instrument", "bpm", "mode", "tonic", "drums")
Progress = Callable[[int, int], None]


def trained_classifiers(corpus: Corpus, progress: Progress | None = None) -> AttributeClassifiers:
    """Judges that learnt from a corpus's clips: from the cache, or trained now.

    Raises:
        MelodyError: a clip without the attributes that are to be learnt.
    """
    judges = _untrained(corpus)
    store, key = Store(), classifiers_key(corpus)
    record = store.read(KIND, key)
    if record is None:
        with _one_thread():
            _learn(judges, extract_features(corpus, progress), corpus)
        store.write(KIND, key, Record({name: tensor.numpy() for name, tensor in judges.state_dict().items()}))
    else:
        judges.load_state_dict({name: torch.from_numpy(array) for name, array in record.arrays.items()})
    return judges.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def classifiers_key(corpus: Corpus, progress: Progress | None = None) -> str:
    """What decides the judges: clips, our code with all that it imports, and the libraries that do arithmetic."""
    facts = f"{corpus.content_hash(progress)} {source_hash(__name__)} {canonical(deciding_versions()).decode()}"
    return hashlib.sha256(facts.encode()).hexdigest()


def extract_features(corpus: Corpus, progress: Progress | None = None) -> Features:
    """Features of every clip."""
    parts = []
    for index in range(len(corpus)):
        parts.append(features(corpus[index].waveform(attributes.SAMPLE_RATE)[None], attributes.SAMPLE_RATE))
        if progress is not None:
            progress(index + 1, len(corpus))
    frames = min(part.timbre.shape[2] for part in parts)
    return Features.joined([Features(p.timbre[..., :frames], p.rhythm, p.chroma) for p in parts])


def _untrained(corpus: Corpus) -> AttributeClassifiers:
    for clip in corpus:
        if missing := [name for name in NEEDED if name not in clip.attributes]:
            raise MelodyError(f"{corpus.name}: {clip.identifier} has no attribute {missing[0]!r} to learn from")
    instruments = sorted({str(clip.attributes["instrument"]) for clip in corpus})
    tempi = [float(clip.attributes["bpm"]) for clip in corpus]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return AttributeClassifiers(instruments, tempo_candidates(min(tempi), max(tempi)))


def _learn(judges: AttributeClassifiers, heard: Features, corpus: Corpus) -> None:
    facts = [clip.attributes for clip in corpus]
    instrument = torch.tensor([judges.instruments.index(str(f["instrument"])) for f in facts])
    drums = torch.tensor([float(f["drums"] == "yes") for f in facts])
    key = torch.tensor([TONICS.index(str(f["tonic"])) * len(MODES) + MODES.index(str(f["mode"])) for f in facts])
    bpm = torch.tensor([float(f["bpm"]) for f in facts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        judges.train()
        _learn_timbre(judges, heard.timbre, instrument, drums)
        _learn_tempo(judges, heard.rhythm, bpm)
        _learn_key(judges, heard.chroma, key)


def _learn_timbre(judges: AttributeClassifiers, timbre: Tensor, instrument: Tensor, drums: Tensor) -> None:
    frames = timbre.shape[2]

    def loss(rows: Tensor) -> Tensor:
        start = int(torch.randint(max(1, frames - CROP_FRAMES + 1), ()))
        crop = timbre[rows, :, start : start + CROP_FRAMES]
        logits = judges.timbre(_degraded(crop))
        named = nn.functional.cross_entropy(logits[:, :-1], instrument[rows], label_smoothing=0.05)
        return named + nn.functional.binary_cross_entropy_with_logits(logits[:, -1], drums[rows])

    _fit(judges.timbre, loss, _batches(len(timbre), TIMBRE_STEPS, TIMBRE_BATCH), learning_rate=6e-3, weight_decay=0.01)


def _degraded(timbre: Tensor) -> Tensor:
    """Log powers of clips as they may come back: other colour, noise, muffled, grainy; each clip in its own way."""
    clips, bands, frames = timbre.shape
    band = torch.linspace(-1, 1, bands)[:, None]
    noise = 10 ** (QUIETEST + (LOUDEST - QUIETEST) * torch.rand(clips, 1, 1) + 0.3 * torch.randn(clips, 1, 1) * band)
    texture = torch.empty(timbre.shape).exponential_()  # as the power of white noise fluctuates
    cutoff = torch.where(torch.rand(clips, 1, 1) < MUFFLED_SHARE, 2 * torch.rand(clips, 1, 1) - 0.5, 2.0)
    muffled = timbre * 10 ** (-40 * (band - cutoff).clamp(min=0, max=0.1))
    tilt = 0.3 * torch.randn(clips, 1, 1) * band + 0.05 * torch.randn(clips, bands, 1).cumsum(dim=1)
    grain = GRAIN * torch.rand(clips, 1, 1) * torch.randn(clips, bands, frames)
    return log_power(muffled + noise * texture) + tilt + grain


def _learn_tempo(judges: AttributeClassifiers, rhythm: Tensor, bpm: Tensor) -> None:
    away = torch.log(judges.tempo.candidates / bpm[:, None]) / torch.log(torch.tensor(TEMPO_STEP))
    target = torch.softmax(-0.5 * (away / TEMPO_SPREAD).square(), dim=1)  # (clips, candidates)

    def loss(rows: Tensor) -> Tensor:
        heard = rhythm[rows] + RHYTHM_NOISE * torch.randn(len(rows), *rhythm.shape[1:])
        return nn.functional.cross_entropy(judges.tempo(heard), target[rows])

    _fit(judges.tempo, loss, _batches(len(rhythm), TEMPO_STEPS, BATCH), learning_rate=5e-3, weight_decay=0.01)


def _learn_key(judges: AttributeClassifiers, chroma: Tensor, key: Tensor) -> None:
    whole = torch.arange(CHROMA_ROWS)[:, None] < 2

    def loss(rows: Tensor) -> Tensor:
        kept = whole | (torch.rand(len(rows), 1, 1) < 0.5)
        return nn.functional.cross_entropy(judges.key(chroma[rows] * kept).flatten(1), key[rows])

    _fit(judges.key, loss, _batches(len(chroma), KEY_STEPS, BATCH), learning_rate=5e-3, weight_decay=0.05)


def _batches(count: int, steps: int, size: int) -> list[Tensor]:
    """Rows of each step, epoch by epoch in a new order."""
    epochs = min(MOST_EPOCHS, math.ceil(steps / math.ceil(count / size)))
    return [rows for _ in range(epochs) for rows in torch.randperm(count).split(size)][:steps]


def _fit(
    part: nn.Module,
    loss: Callable[[Tensor], Tensor],
    batches: list[Tensor],
    *,
    learning_rate: float,
    weight_decay: float,
) -> None:
    optimizer = torch.optim.AdamW(part.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=len(batches) + 1)
    for rows in batches:
        optimizer.zero_grad()
        loss(rows).backward()
        optimizer.step()
        schedule.step()
