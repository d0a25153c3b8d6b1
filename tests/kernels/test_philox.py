"""Philox against the known answers published with Random123, and the numbers made from its words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpurender.kernels.philox import bounded, philox, uniform, words
from gpurender.numerics.streams import Stream

# Random123, kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert philox(np.array([counter], np.uint32), key).tolist() == [list(answer)]


def test_words_stand_at_their_addresses():
    number, seed = (7 << 32) | 9, (5 << 32) | 3
    drawn = words(seed, Stream.CROP, np.array([4, number], np.uint64), blocks=3)
    counter = np.array([[2, Stream.CROP, 9, 7]], np.uint32)
    assert drawn.shape == (2, 12)
    assert drawn[1, 8:].tolist() == philox(counter, (3, 5))[0].tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**32))
def test_bounded_is_the_high_half_of_the_product(word, n):
    value = int(bounded(np.array([word], np.uint32), n)[0])
    assert value == word * n >> 32
    assert 0 <= value < n


def test_uniform_stays_below_one():
    values = uniform(np.array([0, 255, 256, 0xFFFFFFFF], np.uint32))
    assert values.tolist() == [0.0, 0.0, 2.0**-24, 1.0 - 2.0**-24]
    assert (values.astype(np.float32) == values).all()


def test_streams_have_values_of_their_own_that_stay():
    """In the order of their numbers, from 1: another number would be another dataset. New ones come at the end.

    By ``__members__``, because an enumeration leaves out a name whose value another one has.
    """
    names = [
        "POINTS", "MASK", "MASK_EXCESS", "NOISE", "LINE_COLOR", "NUCLEUS", "CLASS", "SEARCH", "SYSTEM", "PERTURBATION",
        "ORDER", "CROP", "FLIP", "LAYER", "JITTER", "MIX", "ERASING", "ERASED", "VIEW", "LABEL",
    ]  # fmt: skip
    values = [(name, int(stream)) for name, stream in Stream.__members__.items()]
    assert values[: len(names)] == [(name, number) for number, name in enumerate(names, 1)]
    assert sorted(value for _, value in values) == list(range(1, len(values) + 1))


@pytest.mark.parametrize("counters", [np.zeros((2, 4), np.int32), np.zeros((2, 3), np.uint32), np.zeros(4, np.uint32)])
def test_counters_of_another_shape_are_refused(counters):
    with pytest.raises(ValueError, match=r"counters must be uint32 \[n, 4\]"):
        philox(counters, (0, 0))
