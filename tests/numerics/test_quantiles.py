"""Normal, Beta and log-uniform variates by look-up, against scipy."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpurender.kernels.philox import bounded, uniform
from gpurender.numerics import quantiles
from tests.support.optional import optional

stats = optional("scipy.stats")

ALPHAS = [0.001, 0.05, 0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 10.0, 100.0, 1000.0]


def test_uniforms_and_bounded_integers_of_words():
    """Of tensors, which policies draw from, as of arrays: 24 bits, and the high half of a product."""
    drawn = torch.tensor([0, 255, 256, 2**31, 2**32 - 1])
    assert uniform(drawn).tolist() == [0.0, 0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]
    assert uniform(drawn).dtype == torch.float64
    for n in (1, 7, 224, 2**31):
        assert bounded(drawn, n).tolist() == [word * n >> 32 for word in drawn.tolist()]
    several = torch.tensor([1, 2, 3, 5, 224])
    assert bounded(drawn, several).tolist() == [
        word * n >> 32 for word, n in zip(drawn.tolist(), several.tolist(), strict=True)
    ]
    words = random_words(1000)
    assert (uniform(words).numpy() == uniform(words.numpy().astype(np.uint32))).all()


def test_normal_quantiles():
    assert np.abs(quantiles.normal_quantiles()[:-1] - stats.norm.isf(quantiles.tail_probabilities())).max() < 1e-7


@pytest.mark.parametrize("alpha", ALPHAS)
def test_beta_quantiles(alpha):
    wanted = 0.5 - stats.beta.ppf(quantiles.tail_probabilities(), alpha, alpha)
    assert np.abs(quantiles.beta_quantiles(alpha)[:-1] - wanted).max() < 5e-6


def random_words(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2**32, n))


def test_normal_variates():
    drawn = random_words(200_000)
    z = quantiles.normal(drawn).numpy()
    tail = ((drawn & 0x7FFFFFFF) + 1).double().numpy() * 2.0**-32
    assert np.abs(np.abs(z) - stats.norm.isf(tail)).max() < 1e-5
    assert ((z < 0) == (drawn.numpy() >= 2**31)).all()
    assert stats.kstest(z, "norm").pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 2.0])
def test_beta_variates(alpha):
    drawn = quantiles.beta(random_words(200_000, 1), alpha)
    assert stats.kstest(drawn.numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-3


def test_variates_are_on_the_lines_between_the_nodes_of_their_tables():
    """To the last bit of a word, by NumPy's own interpolation."""
    words = torch.cat(
        [torch.arange(9), 2**31 + torch.arange(-9, 9), 2**32 - 9 + torch.arange(9), random_words(4000, 3)]
    )
    x = ((words & 0x7FFFFFFF) + 1).float().double().numpy() * 2.0**-32  # float32 keeps 24 bits of a tail
    sign = np.where(words.numpy() < 2**31, 1.0, -1.0)
    nodes = quantiles.tail_probabilities()
    for found, table in (
        (quantiles.normal(words), quantiles.normal_quantiles()),
        (quantiles.beta(words, 0.8) - 0.5, quantiles.beta_quantiles(0.8)),
    ):
        assert np.abs(found.numpy() - sign * np.interp(x, nodes, table[:-1])).max() < 1e-13
    table = quantiles.log_uniform_quantiles(0.3, 1 / 0.3)
    assert np.abs(table[:-1] / 0.3 - (1 / 0.09) ** (np.arange(4097) / 4096)).max() < 1e-13
    found = quantiles.log_uniform(words, 0.3, 1 / 0.3).numpy()
    assert np.abs(found - np.interp(words.numpy() / 2**32, np.arange(4097) / 4096, table[:-1])).max() < 1e-14


def test_log_uniform_variates():
    drawn = quantiles.log_uniform(random_words(200_000, 2), 0.3, 1 / 0.3)
    assert drawn.min() >= 0.3
    assert drawn.max() <= 1 / 0.3
    assert stats.kstest(drawn.numpy(), "loguniform", args=(0.3, 1 / 0.3)).pvalue > 1e-3


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50), st.sampled_from(ALPHAS))
def test_any_word_has_a_variate(words, alpha):
    words = torch.tensor([*words, 0, 2**31 - 1, 2**31, 2**32 - 1])
    assert (quantiles.normal(words).abs() <= 6.2303).all()
    beta = quantiles.beta(words, alpha)
    assert ((beta >= 0) & (beta <= 1)).all()
    mirrored = quantiles.beta(words ^ 0x80000000, alpha)
    assert torch.allclose(beta + mirrored, torch.ones_like(beta), rtol=0, atol=1e-15)


def test_tables_are_the_same_everywhere():
    """Golden: made of + − × ÷ √ alone, they do not depend on the machine."""
    tables = [
        quantiles.normal_quantiles(),
        *(quantiles.beta_quantiles(a) for a in ALPHAS),
        quantiles.log_uniform_quantiles(0.3, 1 / 0.3),
    ]
    digest = hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()
    assert digest == GOLDEN


GOLDEN = "9d1c83cb239eee8d627392ca608b5866056e6ca1cab50c8cf1b35792253db342"
