"""The transposition of a square of bits in place, as g++ builds it, against NumPy's of the unpacked bits."""

import ctypes

import numpy as np
import pytest

from tests.support.emulation import library, require_compiler

CALL = r"""
extern "C" void transpose_bits(unsigned* square, int words) {
    host_threads(1);
    host_thread(0);
    transpose(square, words);
}
"""


def unpacked(square):
    """Bits of words, lowest first: [rows, 32 words]."""
    return np.unpackbits(square.view(np.uint8), axis=1, bitorder="little")


@pytest.mark.parametrize("words", [1, 2, 3, 4, 7, 8, 11, 12, 16, 27, 42])
def test_bits_are_transposed_in_place(words):
    require_compiler()
    square = np.random.default_rng(words).integers(0, 2**32, (32 * words, words), dtype=np.uint32)
    expected = unpacked(square).T
    library("chaos_game", CALL).transpose_bits(square.ctypes.data_as(ctypes.c_void_p), words)
    assert np.array_equal(unpacked(square), expected)
