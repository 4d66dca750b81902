"""Where the public tools are right we agree with them; where they are wrong, the defect is shown on their side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from melody.errors import MelodyError
from melody.metrics.frechet import FrechetDistance, Statistics, frechet_distance_of
from melody.metrics.kernel_distance import kernel_distance


class Itself(torch.nn.Module):
    """The custom feature of torchmetrics' FID: what it is given."""

    num_features = 12

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings


def draw(n: int, dimension: int, seed: int, *, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def public(public_fad: Any, model_name: str = "vggish", model: Any = None) -> Any:
    """Their object as its constructor leaves it, with another network."""
    scorer = object.__new__(public_fad)
    scorer.model_name, scorer.model, scorer.verbose, scorer.device = model_name, model, False, torch.device("cpu")
    scorer.sample_rate, scorer.channels, scorer.audio_load_worker = 16_000, 1, 1
    return scorer


def test_equals_torchmetrics_fid() -> None:
    a, b = draw(60, 12, 0), draw(80, 12, 1, shift=0.3)
    theirs, ours = FrechetInceptionDistance(feature=Itself()), FrechetDistance(dimension=12)
    for embeddings, real in ((a, False), (b, True)):
        theirs.update(embeddings, real=real)
        ours.update(embeddings, real=real)
    assert float(ours.compute()) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_float32_embeddings_far_from_the_origin_lose_nothing() -> None:
    a, b = (draw(200, 12, seed, shift=50.0).float() for seed in (0, 1))
    truth = frechet_distance_of(Statistics.of(a.double() - 50.0), Statistics.of(b.double() - 50.0))
    ours = frechet_distance_of(Statistics.of(a), Statistics.of(b))
    assert ours == pytest.approx(truth, rel=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_their_exception_is_a_score_of_minus_one(
    public_fad: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = draw(20, 4, 0).numpy()
    broken[3, 2] = math.nan
    for name, embeddings in (("background", draw(20, 4, 1).numpy()), ("generated", broken)):
        np.save(tmp_path / f"{name}.npy", embeddings)
    paths = [str(tmp_path / f"{name}.npy") for name in ("background", "generated")]
    assert public(public_fad).score("anywhere", "anywhere", *paths) == -1
    assert "An error occurred" in capsys.readouterr().out
    with pytest.raises(MelodyError, match="1 of 80 values are NaN"):
        Statistics.of(torch.from_numpy(broken))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_their_clip_that_fails_takes_the_rest_away_unseen(public_fad: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class FailsAtTheThird:
        seen = 0

        def forward(self, audio: Any, sample_rate: int) -> Tensor:
            self.seen += 1
            if self.seen == 3:
                raise ValueError("cannot be read")
            return draw(5, 4, self.seen)

    embeddings = public(public_fad, model=FailsAtTheThird()).get_embeddings([np.zeros(16_000)] * 10, sr=16_000)
    assert len(embeddings) == 10  # of 50 windows; nothing in the result says so
    assert "throw an exception" in capsys.readouterr().out
    metric = FrechetDistance(dimension=4)
    for seed in range(2):
        metric.update(draw(5, 4, seed), real=False)
    with pytest.raises(MelodyError, match="NaN"):
        metric.update(draw(5, 4, 2) * math.nan, real=False)
    assert metric.scored == 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_their_one_dimensional_embedding_becomes_a_distance_of_heaps_of_numbers(public_fad: Any) -> None:
    class OneVectorAClip(torch.nn.Module):
        def __init__(self, vectors: Tensor) -> None:
            super().__init__()
            self.vectors, self.seen = vectors, 0

        def forward(self, audio: Tensor, mixup: None) -> dict[str, Tensor]:
            self.seen += 1
            return {"embedding": self.vectors[None, self.seen - 1]}

    def moments(vectors: Tensor) -> tuple[float, float]:
        scorer = public(public_fad, "pann", OneVectorAClip(vectors))
        embeddings = scorer.get_embeddings([np.zeros(100)] * len(vectors), sr=16_000)
        assert embeddings.shape == (vectors.numel(),)  # the vectors end to end
        mean, covariance = scorer.calculate_embd_statistics(embeddings)
        assert np.ndim(mean) == np.ndim(covariance) == 0
        return float(mean), float(covariance)

    shifted = draw(30, 8, 0) + torch.tensor([5.0, 0, 0, 0, 0, 0, 0, 0])
    other = shifted.roll(1, dims=1)  # the same numbers, in other dimensions: another place altogether
    assert moments(shifted) == pytest.approx(moments(other))  # so they cannot be told apart
    assert frechet_distance_of(Statistics.of(shifted), Statistics.of(other)) > 40
    with pytest.raises(MelodyError, match=r"shape \(8,\); expected \(windows, dimension\)"):
        Statistics.of(shifted[0])


def test_bandwidth_of_the_evaluated_set_measures_each_system_with_another_kernel() -> None:
    """With the set's own width, a far worse system gets the better number."""
    reference = draw(80, 4, 0)
    near, far = draw(80, 4, 1, shift=0.8), 60 * draw(80, 4, 2)

    def own_width(x: Tensor) -> float:
        return kernel_distance(x, reference, bandwidth=float(torch.pdist(x).median()))

    assert own_width(far) < kernel_distance(near, reference)
    assert kernel_distance(far, reference) > 2 * kernel_distance(near, reference)
