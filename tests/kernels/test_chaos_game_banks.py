"""How many threads of a warp wait for each other at the banks of shared memory, counted from the addresses they read.

Shared memory has 32 banks, one word wide; of different words in one bank, one is read at a time (CUDA programming
guide, shared memory). The addresses are the kernel's own: its source is built by g++ with a function that writes them
down.
"""

import ctypes

import numpy as np
import pytest

from tests.support.emulation import library, require_compiler

ADDRESSES = r"""
// The words that the items of a canvas read, in four steps: [items, 4], -1 where an item is beyond the canvas.
extern "C" int fours_read(int size, int code, int* words) {
    static uint32 bits[1 << 17];
    const Bitmap bitmap = band_of(bits, size, size, 0);
    const Orientation orientation = {(int)code, size};
    const Fours fours = {size, code & 4};
    for (int item = 0; words && item < fours.items(); ++item)
        for (int k = 0; k < 4; ++k) {
            int p = fours.four(item), pixel = 4 * p + fours.place(item, k), y, x;
            orientation.source(pixel / size, pixel % size, y, x);
            words[4 * item + k] = p < size * size / 4 ? (int)(bitmap.row(y) + (x >> 5) - bits) : -1;
        }
    return fours.items();
}
"""


def words_read(size, code):
    """int32 [items, 4]."""
    read = library("chaos_game", ADDRESSES).fours_read
    words = np.empty((read(size, code, None), 4), np.int32)
    read(size, code, words.ctypes.data_as(ctypes.c_void_p))
    return words


def waits(words):
    """How long each of a warp's reads takes, in reads without a conflict: [warps, 4]."""
    warps = np.pad(words, ((0, -len(words) % 32), (0, 0)), constant_values=-1).reshape(-1, 32, 4).transpose(0, 2, 1)
    ordered = np.sort(warps, axis=2)
    new = (np.diff(ordered, axis=2, prepend=-1) != 0) & (ordered >= 0)  # a word that several threads read is one read
    return np.stack([(new & (ordered % 32 == bank)).sum(2) for bank in range(32)]).max(0)


@pytest.mark.parametrize("code", [4, 5, 6, 7])
@pytest.mark.parametrize(
    ("size", "most"), [(32, 1), (98, 2), (128, 1), (192, 2), (224, 4), (250, 4), (256, 2), (362, 2), (384, 1), (448, 2),
                       (480, 2), (500, 4), (512, 4), (640, 1), (1024, 8)],
)  # fmt: skip
def test_a_transposed_canvas_is_read_with_few_conflicts(size, most, code):
    """Without the order of the items it would be 32 at 256, 512 and 1,024 pixels and 16 at 362 and 384."""
    require_compiler()
    words = words_read(size, code)
    assert waits(words).max() <= most
    assert (words >= 0).sum() == size * size


@pytest.mark.parametrize("size", [34, 98, 250, 362, 500])
def test_a_canvas_that_is_not_transposed_is_read_without_conflicts(size):
    require_compiler()
    for code in range(4):
        assert waits(words_read(size, code)).max() <= 2  # two rows meet in a warp


def test_the_model_counts_a_column_of_sixteen_words_a_row_as_thirty_two_reads():
    rows = np.arange(32, dtype=np.int32)
    assert waits(np.repeat((16 * 4 * rows)[:, None], 4, 1)).tolist() == [[32] * 4]
    assert waits(np.repeat((13 * 4 * rows)[:, None], 4, 1)).tolist() == [[4] * 4]
    assert waits(np.zeros((32, 4), np.int32)).tolist() == [[1] * 4]
