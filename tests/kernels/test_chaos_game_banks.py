"""How many threads of a warp wait for each other at the banks of shared memory, counted from the addresses they use.

Shared memory has 32 banks, one word wide; of different words in one bank, one is read at a time (CUDA programming
guide, shared memory). The addresses are the kernel's own: its source is built by g++ with functions that write them
down for each of a block's 128 threads.
"""

import ctypes

import numpy as np
import pytest

from tests.support.emulation import library, require_compiler

THREADS = 128
ADDRESSES = r"""
static uint32 bits[1 << 17];

// Call visit(cell, words of its accesses) for each round of the threads; a thread that has no cell accesses -1.
template <class Visit>
int rounds(int rows, int columns, int width, int accesses, int* words, const Visit& visit) {
    host_threads(128);
    int most = 0;
    for (int thread = 0; thread < 128; ++thread) {
        host_thread(thread);
        int round = 0;
        for (Cells at(columns, width); at.row < rows; at.next(), ++round)
            if (words) visit(at, words + (round * 128 + thread) * accesses);
        most = max(most, round);
    }
    return most;
}

// The words that the writes of an image read: one per sixteen pixels, or two per four.
extern "C" int written(int size, int code, int* words) {
    Orientation orientation = {code, size};
    if (orientation.transposed()) orientation = orientation.of_transposed();
    const Flipped canvas(band_of(bits, size, size, 0), orientation);
    if (size % 16 == 0)
        return rounds(size, size, 16, 1, words, [&](const Cells& at, int* found) {
            *found = canvas.word(at.row, canvas.left(at.column, 16)) - bits;
        });
    return rounds(size, size, 4, 2, words, [&](const Cells& at, int* found) {
        const bool ends = at.column + 2 == size;
        found[0] = canvas.word(at.row, canvas.left(at.column, 2)) - bits;
        found[1] = canvas.word(at.row + ends, canvas.left(ends ? 0 : at.column + 2, 2)) - bits;
    });
}

// The words that change places when a square is transposed, and the sixteen words of a thread's blocks.
extern "C" int exchanged(int size, int, int* words) {
    const Exchange exchange = {(size + 31) / 32};
    return rounds(exchange.rows(), exchange.words, 1, 4, words, [&](const Cells& at, int* found) {
        int one, other, below = 16 * exchange.words;
        if (!exchange.places(at, one, other)) return;
        found[0] = one, found[1] = one + below, found[2] = other, found[3] = other + below;
    });
}
extern "C" int blocks(int size, int, int* words) {
    const int columns = (size + 31) / 32;
    return rounds(2 * columns, columns, 1, 16, words, [&](const Cells& at, int* found) {
        for (int k = 0; k < 16; ++k) found[k] = (16 * at.row + k) * columns + at.column;
    });
}
"""
ACCESSES = {"exchanged": 4, "blocks": 16}


def words_of(name, size, code=0):
    """The words that the threads access together, int32 [rounds, accesses, 128]; -1: a thread has nothing to do."""
    require_compiler()
    function = getattr(library("chaos_game", ADDRESSES), name)
    accesses = ACCESSES.get(name, 1 if size % 16 == 0 else 2)
    words = np.full((function(size, code, None), THREADS, accesses), -1, np.int32)
    function(size, code, words.ctypes.data_as(ctypes.c_void_p))
    return words.transpose(0, 2, 1)


def waits(words):
    """How long each access of a warp takes, in accesses without a conflict: [rounds, accesses, warps]."""
    warps = words.reshape(*words.shape[:-1], -1, 32)
    ordered = np.sort(warps, axis=-1)
    new = (np.diff(ordered, axis=-1, prepend=-1) != 0) & (ordered >= 0)  # a word that several threads read is one read
    return np.stack([(new & (ordered % 32 == bank)).sum(-1) for bank in range(32)]).max(0)


@pytest.mark.parametrize("code", range(8))
@pytest.mark.parametrize("size", [32, 34, 98, 224, 250, 256, 362, 500, 512, 1024])
def test_a_canvas_is_written_without_conflicts(size, code):
    words = words_of("written", size, code)
    assert waits(words).max() == 1
    assert len(np.unique(words[words >= 0])) == size * ((size + 31) // 32)


@pytest.mark.parametrize(
    ("size", "most", "mean"),
    [(32, 1, 1), (224, 2, 1.5), (256, 1, 1), (362, 2, 1.4), (512, 1, 1), (640, 2, 1.5), (1024, 1, 1)],
)
def test_blocks_change_places_with_few_conflicts(size, most, mean):
    """Every word of the square is accessed once, those on the diagonal from both sides."""
    words, side = words_of("exchanged", size), (size + 31) // 32
    rows = np.arange(32 * side)
    taken = waits(words)
    assert taken.max() <= most
    assert taken[taken > 0].mean() <= mean
    expected = np.append(np.arange(len(rows) * side), rows * side + rows // 32)
    assert np.array_equal(np.sort(words[words >= 0]), np.sort(expected))


@pytest.mark.parametrize(("size", "most"), [(32, 1), (224, 3), (256, 4), (362, 3), (512, 2), (1024, 1)])
def test_blocks_are_read_with_few_conflicts(size, most):
    """A warp has as many banks at a time as a row has words."""
    words = words_of("blocks", size)
    assert waits(words).max() <= most
    assert np.array_equal(np.sort(words[words >= 0]), np.arange(32 * ((size + 31) // 32) ** 2))


def test_the_model_counts_a_column_of_sixteen_words_a_row_as_thirty_two_reads():
    rows = np.arange(32, dtype=np.int32)
    assert waits((16 * 4 * rows)[None, None]).tolist() == [[[32]]]
    assert waits((13 * 4 * rows)[None, None]).tolist() == [[[4]]]
    assert waits(np.zeros((1, 1, 32), np.int32)).tolist() == [[[1]]]
