from __future__ import annotations

import pytest
import torch

from melody.errors import MelodyError
from melody.samplers.noise import standard_normal


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_row_gets_what_it_would_get_alone():
    together = standard_normal((3, 7, 5), [_seeded(row) for row in range(3)])
    for row in range(3):
        assert torch.equal(together[row : row + 1], standard_normal((1, 7, 5), [_seeded(row)]))
        assert torch.equal(together[row : row + 1], standard_normal((1, 7, 5), _seeded(row)))


def test_half_precision_is_the_same_stream():
    half = standard_normal((2, 3, 4), _seeded(0), dtype=torch.bfloat16)
    assert torch.equal(half, standard_normal((2, 3, 4), _seeded(0)).bfloat16())


def test_it_is_standard_normal_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    drawn = standard_normal((2, 100, 500), _seeded(0))
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)
    assert float(drawn.std()) == pytest.approx(1, abs=0.01)
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_generator_the_global_one_decides():
    torch.manual_seed(5)
    first = standard_normal((1, 2, 3), None)
    torch.manual_seed(5)
    assert torch.equal(first, standard_normal((1, 2, 3), None))


def test_the_number_of_generators_must_be_the_number_of_rows():
    with pytest.raises(MelodyError, match="expected one for each of 2 rows, got 1"):
        standard_normal((2, 3, 4), [_seeded(0)])
