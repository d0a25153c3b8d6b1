"""Normal, Beta and log-uniform variates by look-up in tables of quantiles, equal bit for bit on every machine.

The tables are made with + − × ÷ √ alone (:mod:`gpurender.numerics.portable_math`), in float64; a variate is one
interpolation between two of their entries.

For a distribution that is symmetric about a centre, the highest bit of a word u gives the sign of the variate, and the
other bits give the probability q of the tail beyond it::

    x = float32((u mod 2^31) + 1),   q = x 2^-32 in (0, 1/2]

``T[k]`` is the quantile at the beginning of the k-th cell, where a cell is 1/128 of an octave of q. The cells of the
tails are as narrow, in proportion, as those at the centre, so that interpolation is accurate everywhere: to 1e-5 for
the normal distribution, up to 6.2 standard deviations. The cell of x and the offset in the cell are bits of x as a
float32.
"""

import functools

import numpy as np
import torch

from gpurender.numerics.portable_math import exp, log
from gpurender.util import device_tables

OCTAVES = 31
CELLS = 128  # cells per octave
ONE = 127 * CELLS  # the highest bits, exponent and 7 of the fraction, of 1 as a float32
GRID = 1 << 16  # intervals of the numerical integration
TOP = 9.0  # standard deviations: the tail of the normal distribution beyond is below 2^-62
RATIO_CELLS = 4096  # cells of a log-uniform distribution


def tail_probabilities() -> np.ndarray:
    """Return the q at which each cell begins, and the end of the last cell; float64 ``[OCTAVES * CELLS + 1]``, from
    2^-32 to 1/2.
    """
    octave, cell = np.divmod(np.arange(OCTAVES * CELLS + 1), CELLS)
    return (1.0 + cell / CELLS) * 2.0 ** (octave - 32.0)


@functools.cache
def normal_quantiles() -> np.ndarray:
    """Return quantiles of the upper half of the normal distribution: ``T[k] = z`` with P(Z > z) = q of cell k.

    Returns:
        float64 ``[3970]``, decreasing from 6.23 to 0; the last entry appears twice.
    """
    z = TOP - np.arange(GRID + 1) * (TOP / GRID)  # from the tail inwards
    return _with_end(TOP - TOP * _inverse(exp(-0.5 * z * z)))


@functools.lru_cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """Return quantiles of the upper half of Beta(alpha, alpha), from its centre: ``T[k] = d`` with P(X > 1/2 + d) = q.

    With t = 1 - X on [0, 1/2] the density is proportional to (t (1 - t))^(alpha - 1). Below alpha = 1 the density is
    unbounded at 0; substituting t = s^(1/alpha) / 2 leaves (1 - t)^(alpha - 1), which is bounded.

    Args:
        alpha: 1e-3 to 1000.

    Returns:
        float64 ``[3970]`` in [0, 1/2], decreasing; the last entry appears twice.
    """
    s = np.arange(GRID + 1) * (1.0 / GRID)
    if alpha < 1.0:
        return _with_end(0.5 - _from_power(_inverse(_power(1.0 - _from_power(s, alpha), alpha - 1.0)), alpha))
    t = 0.5 * s
    return _with_end(0.5 - 0.5 * _inverse(_power(4.0 * t * (1.0 - t), alpha - 1.0)))


@functools.lru_cache
def log_uniform_quantiles(low: float, high: float) -> np.ndarray:
    """Return log-uniform quantiles from ``low`` to ``high``: float64 ``[4098]``, evenly spaced in logarithm, the last
    entry twice.
    """
    first, last = float(log(low)), float(log(high))
    return _with_end(exp(first + np.arange(RATIO_CELLS + 1) * ((last - first) / RATIO_CELLS)))


def _power(base: np.ndarray, exponent: float) -> np.ndarray:
    """Return base ** exponent for base in [0, 1], with base at least the smallest normal number and the result at least
    e^-700; 0 ** 0 is 1.
    """
    if exponent == 0.0:
        return np.ones_like(base)
    logarithm = log(np.maximum(base, np.finfo(np.float64).tiny))
    return exp(np.clip(exponent * logarithm, -700.0, 700.0))


def _from_power(s: np.ndarray, alpha: float) -> np.ndarray:
    """Return t = s^(1/alpha) / 2."""
    return np.where(s > 0.0, 0.5 * _power(s, 1.0 / alpha), 0.0)


def _inverse(density: np.ndarray) -> np.ndarray:
    """Return the points in [0, 1] at which the fraction 2q of the mass is reached, for the q of all cells.

    Args:
        density: float64 ``[GRID + 1]``, not normalised, at even steps from the end of the tail (0) to the centre (1);
            it is summed by Simpson's rule, and the sums are inverted with linear interpolation.
    """
    pairs = density[0:-2:2] + 4.0 * density[1:-1:2] + density[2::2]
    mass = np.concatenate([[0.0], np.cumsum(pairs)])  # summed sequentially: the same sums on every machine
    wanted = 2.0 * tail_probabilities() * mass[-1]
    after = np.searchsorted(mass, wanted)  # never the first, which is 0; the last is that of the centre itself
    within = (wanted - mass[after - 1]) / (mass[after] - mass[after - 1])
    return (after - 1 + within) * (2.0 / GRID)


def _with_end(table: np.ndarray) -> np.ndarray:
    """Return the table with its last entry twice: the last node begins a cell, too, of zero width."""
    return np.append(table, table[-1])


@device_tables.on_device
def table_on_device(device: torch.device, distribution: str, *parameters: float) -> torch.Tensor:
    """Return the table of a distribution on a device, copied once: every further copy would wait for the GPU."""
    tables = {"normal": normal_quantiles, "beta": beta_quantiles, "ratio": log_uniform_quantiles}
    return torch.from_numpy(tables[distribution](*parameters)).to(device)


def normal(words: torch.Tensor) -> torch.Tensor:
    """Return the standard normal variates of words, int64 in [0, 2^32): float64 of the same shape and device."""
    return _symmetric(words, table_on_device(words.device, "normal"))


def beta(words: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the Beta(alpha, alpha) variates of words, int64 in [0, 2^32): float64 in [0, 1], on the same device."""
    return 0.5 + _symmetric(words, table_on_device(words.device, "beta", alpha))


def log_uniform(words: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return the log-uniform variates in [low, high] of words, int64 in [0, 2^32): float64, on the same device."""
    table = table_on_device(words.device, "ratio", low, high)
    cell = words >> 20
    return _between(table, cell, (words & 0xFFFFF).to(torch.float64) * 2.0**-20)


def _symmetric(words: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    bits = ((words & 0x7FFFFFFF) + 1).to(torch.float32).view(torch.int32)
    cell = (bits >> 16) - ONE
    size = _between(table, cell, (bits & 0xFFFF).to(torch.float64) * 2.0**-16)
    return torch.where((words >> 31).bool(), -size, size)


def _between(table: torch.Tensor, cell: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    low = table[cell]
    return low + (table[cell + 1] - low) * share
