"""Cosines and sines of any angle, and of the parts of a turn, against NumPy's."""

import numpy as np
import pytest
import torch

from gpurender.numerics import unit_circle
from gpurender.numerics.unit_circle import cos_sin, cos_sin_table, cos_sin_tables


def test_cosines_and_sines_of_any_angle():
    edges = np.arange(256) * 2**24
    turns = np.r_[edges, edges + 1, edges + 2**24 - 1, np.random.default_rng(0).integers(0, 2**32, 20_000)]
    cosine, sine = cos_sin(torch.from_numpy(turns))
    assert cosine.dtype == sine.dtype == torch.float64
    angle = 2 * np.pi * (turns / 2**32)
    assert np.abs(cosine.numpy() - np.cos(angle)).max() < 1e-15
    assert np.abs(sine.numpy() - np.sin(angle)).max() < 1e-15
    quarters = cos_sin(torch.arange(4) * 2**30)
    assert [part.tolist() for part in quarters] == [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]


@pytest.mark.parametrize("q", [1, 2, 3, 7, 8, 200, 999, 4096])
def test_a_table_has_the_parts_of_a_turn(q):
    cosines, sines = cos_sin_table(q)
    assert (cosines.shape, cosines.dtype, sines.shape, sines.dtype) == ((q,), np.float64, (q,), np.float64)
    angle = 2 * np.pi * np.arange(q) / q
    assert np.abs(cosines - np.cos(angle)).max() < 2e-15  # an angle near 2 pi is itself off by 4e-16
    assert np.abs(sines - np.sin(angle)).max() < 2e-15
    assert not np.signbit(cosines[cosines == 0]).any()
    assert not np.signbit(sines[sines == 0]).any()


def test_quarters_of_a_turn_are_exact():
    cosines, sines = cos_sin_table(8)
    assert cosines[[0, 2, 4, 6]].tolist() == [1, 0, -1, 0]
    assert sines[[0, 2, 4, 6]].tolist() == [0, 1, 0, -1]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tables_lie_one_after_another(monkeypatch, dtype):
    parts = np.array([3, 50, 1, 1000])
    single = np.concatenate([np.stack(cos_sin_table(q)) for q in parts.tolist()], axis=1).astype(dtype)
    for block in (unit_circle.BLOCK, 1054, 1053, 64, 7):  # one block or many; some end within a table
        monkeypatch.setattr(unit_circle, "BLOCK", block)
        together = cos_sin_tables(parts, dtype)
        assert together.dtype == dtype
        assert together.tobytes() == single.tobytes()
