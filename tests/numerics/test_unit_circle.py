"""Cosines and sines of any angle, against NumPy's."""

import numpy as np
import torch

from gpurender.numerics.unit_circle import cos_sin


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
