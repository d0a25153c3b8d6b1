"""Jitter's parameters, one by one: each is what its formula gives, in float64, of the words at its address.

tests/augment/test_deit_draws.py compares their distributions with torchvision's; these say nothing of a last bit or
of which word is whose.
"""

import itertools

import pytest
import torch

from gpurender.kernels.augment_params import JitterParams, draw_jitter
from gpurender.kernels.image_ops import Operation
from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream

NUMBERS, SEED = torch.arange(40), 11
KINDS = (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR, Operation.HUE)


def fractions():
    """The first word of each number as an integer, and all of the three blocks as numbers in [0, 1), [40][12]."""
    drawn = words(SEED, Stream.JITTER, NUMBERS, 3).tolist()
    return [(row[0], [(word >> 8) / 2**24 for word in row]) for row in drawn]


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.4, 0.1), (0.8, 0.3, 1.5, 0.2), (0.0, 0.7, 0.0, 0.3)])
@pytest.mark.parametrize("probability", [0.6, 1.0])
def test_factors_and_their_order(strengths, probability):
    operations, arguments = draw_jitter(NUMBERS, SEED, JitterParams(strengths, probability, 0.0, 0.0))
    present = [i for i, strength in enumerate(strengths) if strength]
    orders = list(itertools.permutations(present))
    for (first, row), codes, found in zip(fractions(), operations.tolist(), arguments.tolist(), strict=True):
        order = orders[first * len(orders) >> 32]
        assert codes == [int(KINDS[i]) if row[1] < probability else int(Operation.IDENTITY) for i in order]
        ranges = [(-s, s) if i == 3 else (max(0.0, 1.0 - s), 1.0 + s) for i, s in enumerate(strengths)]
        assert found == [ranges[i][0] + (ranges[i][1] - ranges[i][0]) * row[4 + i] for i in order]


def test_grayscale_and_blur():
    operations, arguments = draw_jitter(NUMBERS, SEED, JitterParams((0.0, 0.0, 0.0, 0.0), 0.8, 0.3, 0.4))
    for (_, row), codes, found in zip(fractions(), operations.tolist(), arguments.tolist(), strict=True):
        assert codes[0] == (Operation.COLOR if row[2] < 0.3 else Operation.IDENTITY)
        assert codes[1] == (Operation.GAUSSIAN_KERNEL if row[3] < 0.4 else Operation.IDENTITY)
        assert found == [0.0, 0.1 + (2.0 - 0.1) * row[8]]


@pytest.mark.parametrize(
    "params",
    [
        JitterParams((0.4, 0.4, 0.4, 0.0), 1.0, 0.0, 0.0),
        JitterParams((0.0, 0.0, 0.0, 0.0), 1.0, 0.2, 0.0),
        JitterParams((0.0, 0.0, 0.0, 0.0), 1.0, 0.0, 0.2),
        JitterParams((0.1, 0.0, 0.0, 0.1), 0.5, 0.2, 0.2),
    ],
)
def test_each_part_alone_has_the_stated_types(params):
    operations, arguments = draw_jitter(NUMBERS, SEED, params)
    assert (operations.dtype, arguments.dtype) == (torch.int32, torch.float64)
    assert operations.shape == arguments.shape == (len(NUMBERS), params.layers)
    drawn = {Operation(code) for code in operations.unique().tolist()}
    assert drawn - {Operation.IDENTITY} == params.operations
    assert params.layers == len(params.operations)


def test_a_jitter_that_never_comes_has_no_components():
    params = JitterParams((0.4, 0.4, 0.4, 0.1), 0.0, 0.0, 0.2)
    assert params.components == ()
    assert params.layers == 1
    assert params.operations == {Operation.GAUSSIAN_KERNEL}
