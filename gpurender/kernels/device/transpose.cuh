// The transposition of a square of bits in shared memory, in place: first blocks of 16 x 16 bits in registers, two of
// them per thread, then the blocks change places across the diagonal.
//
// A transposed canvas that is read bit by bit takes a load per pixel, and at 512 x 512 the loads of a column hit one or
// two of the 32 banks of shared memory. This takes two loads and two stores per word, and the writes after it read
// rows: at 512 x 512 2,000 issue slots on each scheduler of a multiprocessor, and 800 cycles of its shared memory (a
// model from machine code and addresses, not measured on a GPU; tests/kernels/test_chaos_game_banks.py counts them).

#include "device/common.cuh"

// Transpose the left and the right half of 16 rows of 32 bits: bit j of word i becomes bit i of word j, and so in the
// upper halves of the words. Blocks of 8 x 8 bits change places across the diagonal, then those of 4 x 4 in each, ...
__device__ __forceinline__ void transpose_halves(uint32 (&row)[16]) {
#pragma unroll
    for (int half = 8; half > 0; half /= 2) {
        const uint32 low = 0xFFFFFFFFu / ((1u << half) + 1);  // the lower half of every 2 half bits
#pragma unroll
        for (int k = 0; k < 16; ++k) {
            if (k & half) continue;
            const uint32 above = row[k], below = row[k + half];
            row[k] = (above & low) | (below << half & ~low);
            row[k + half] = (above >> half & low) | (below & ~low);
        }
    }
}

// The words that change places, numbered by a table's cells: rows i and i + 16 of tile (a, b), of 32 x 32 bits, and
// those of tile (b, a), where b lies `ahead` tiles after a, cyclically. So a warp touches whole rows of the square on
// both sides, in neighbouring banks: at 256, 362 and 512 pixels at most two of its threads meet in one.
struct Exchange {
    int words;  // tiles per row

    __device__ __forceinline__ int rows() const { return (words / 2 + 1) * 16; }
    // Return whether the cell has words: `one` and the word 16 rows below it, `other` and the word 16 rows below.
    __device__ __forceinline__ bool places(const Cells& cell, int& one, int& other) const {
        const int i = cell.row & 15, ahead = cell.row >> 4, a = cell.column;
        const int b = a + ahead < words ? a + ahead : a + ahead - words;
        one = (32 * a + i) * words + b, other = (32 * b + i) * words + a;
        return a < ahead || 2 * ahead < words;  // else b < a, and tile b has met tile a
    }
};

// Transpose a square of 32 words rows and `words` words per row. All threads call it.
__device__ void transpose(uint32* square, int words) {
    for (Cells at(words); at.row < 2 * words; at.next()) {
        uint32* own = square + 16 * at.row * words + at.column;
        uint32 row[16];
#pragma unroll
        for (int k = 0; k < 16; ++k) row[k] = own[k * words];
        transpose_halves(row);
#pragma unroll
        for (int k = 0; k < 16; ++k) own[k * words] = row[k];
    }
    __syncthreads();
    const Exchange exchange = {words};
    for (Cells at(words); at.row < exchange.rows(); at.next()) {
        int one, other;
        if (!exchange.places(at, one, other)) continue;
        const int below = 16 * words;
        const uint32 here = square[one], here_below = square[one + below];
        const uint32 there = square[other], there_below = square[other + below];
        square[one] = (there & 0xFFFF) | there_below << 16;
        square[one + below] = there >> 16 | (there_below & 0xFFFF0000);
        square[other] = (here & 0xFFFF) | here_below << 16;
        square[other + below] = here >> 16 | (here_below & 0xFFFF0000);
    }
    __syncthreads();
}
