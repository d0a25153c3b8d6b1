// From a bitmap of points to an image: 3 x 3 patches, a random mask, an orientation, bytes of 0 or GREY.
// The patches are drawn by patch_word in grey, and by Numbers::newest in colour.
//
// device/cpu_texture.py is the reference and defines the mask.

#include "device/bitmap.cuh"
#include "device/common.cuh"
#include "device/transpose.cuh"
#include "philox/philox.cuh"

constexpr uint8 GREY = 127;

// ----------------------------------------------------------------------------------------------------------- the mask

// The addresses of an image's mask, and the table of its gaps.
struct Mask {
    bool on;
    uint64 number;
    uint32 key0, key1;
    const uint32* survival;  // [size + 1]: 2^32 (510/511)^g
};

// Return the gap that a word draws: the largest g in [0, size] with word < survival[g], or 0.
__device__ __forceinline__ int gap_of(const uint32* survival, int size, uint32 word) {
    int low = 0, high = size;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (word < survival[middle])
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// Set the rare bits of row y of a mask, which are drawn by the gaps between them: one call draws four, and a row of 512
// pixels has one on average.
__device__ void add_rare_bits(const Mask& mask, int y, int size, uint32* row) {
    for (int x = -1, call = 0;; ++call) {
        const Four drawn = philox4x32(y << 16 | call, STREAM_MASK_EXCESS, mask.number, mask.key0, mask.key1);
        const uint32 four[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            x += gap_of(mask.survival, size, four[i]) + 1;
            if (x >= size) return;
            row[x >> 5] |= 1u << (x & 31);
        }
    }
}

// Draw a mask's rows first, first + 1 ...: fair bits, 128 per call, then the rare bits, a thread per row. All threads
// call it. (The thread of a row differs from call to call, so that the warps, which lie on different schedulers, share
// the work.)
__device__ void draw_mask(const Mask& mask, int first, int rows, int size, uint32* bits) {  // bits  # [rows, words]
    const int words = (size + 31) / 32, calls = (words + 3) / 4;
    for (Cells at(calls); at.row < rows; at.next()) {
        const uint32 block = (first + at.row) * calls + at.column;
        const Four fair = philox4x32(block, STREAM_MASK, mask.number, mask.key0, mask.key1);
        const uint32 four[4] = {fair.x, fair.y, fair.z, fair.w};
#pragma unroll
        for (int k = 0; k < 4; ++k)
            if (4 * at.column + k < words) bits[at.row * words + 4 * at.column + k] = four[k];
    }
    __syncthreads();
    for (int row = (threadIdx.x + first) % blockDim.x; row < rows; row += blockDim.x)
        add_rare_bits(mask, first + row, size, bits + row * words);
    __syncthreads();
}

// -------------------------------------------------------------------------------------------------------- the patches

// Return a word of a bitmap with patches: each point lights the 3 x 3 pixels below and to the right of it.
__device__ __forceinline__ uint32 patch_word(const uint32* word, int words, bool leftmost) {
    uint32 own = 0, before = 0;
#pragma unroll
    for (int above = 1; above <= 3; ++above) {
        const uint32* row = word - above * words;
        own |= row[0], before |= leftmost ? 0 : row[-1];
    }
    const uint64 both = (uint64)own << 32 | before;
    return (both << 1 | both << 2 | both << 3) >> 32;
}

// Apply patches and mask, in place. A row depends only on rows above it, so batches of rows are processed bottom up:
// all threads read the patches of a batch into registers; then its rows hold the mask; then all threads write.
__device__ void texture(const Bitmap& bitmap, int size, const Mask& mask) {
    constexpr int OWN = 8;  // words of a batch per thread
    const int words = bitmap.words, place = OWN * blockDim.x, most = max(1, place / words);
    const Cells first(words);
    for (int end = bitmap.first + bitmap.rows; end > bitmap.first; end -= most) {
        const int top = max(end - most, bitmap.first), rows = end - top;
        uint32* batch = bitmap.row(top);
        Cells at = first;
        for (int part = 0; part < rows * words; part += place) {  // one part, unless a row has more words than `place`
            const int own = part + threadIdx.x;
            uint32 lit[OWN];
#pragma unroll
            for (int k = 0; k < OWN; ++k, at.next())
                if (at.row < rows) lit[k] = patch_word(batch + own + k * blockDim.x, words, at.column == 0);
            __syncthreads();
            if (mask.on && part == 0) draw_mask(mask, top, rows, size, batch);
#pragma unroll
            for (int k = 0; k < OWN; ++k)
                if (int i = own + k * blockDim.x; i < rows * words) batch[i] = mask.on ? batch[i] & lit[k] : lit[k];
            __syncthreads();
        }
    }
}

// ---------------------------------------------------------------------------------------------------------- the image

// The orientation of an image: the rows of its canvas are flipped (1), then its columns (2), then it is transposed (4).
struct Orientation {
    int code, size;

    __device__ __forceinline__ bool transposed() const { return code & 4; }
    // Return what is left to do for a canvas that is transposed already: the flips of the other axes.
    __device__ __forceinline__ Orientation of_transposed() const { return {(code & 1) << 1 | (code & 2) >> 1, size}; }

    // Return the offset in the image of the canvas pixel (y, x).
    __device__ __forceinline__ int64 target(int y, int x) const {
        const int row = code & 1 ? size - 1 - y : y, column = code & 2 ? size - 1 - x : x;
        return transposed() ? (int64)column * size + row : (int64)row * size + column;
    }
};

__device__ __forceinline__ uint32 bytes_of(uint32 nibble) {  // four bits to four bytes of 0 or GREY
    return (nibble * 0x00204081u & 0x01010101u) * GREY;
}

// The rows of a whole canvas as an image shows them that is not transposed.
struct Flipped {
    const uint32* top;  // row of the canvas that the image shows first
    int down;           // words from a row to the next
    int size;
    bool mirrored;  // left to right

    __device__ __forceinline__ Flipped(const Bitmap& bitmap, const Orientation& orientation)
        : top(bitmap.row(orientation.code & 1 ? bitmap.rows - 1 : 0)),
          down(orientation.code & 1 ? -bitmap.words : bitmap.words), size(bitmap.rows),
          mirrored(orientation.code & 2) {}

    // Return the column of the canvas where `width` pixels begin.
    __device__ __forceinline__ int left(int column, int width) const {
        return mirrored ? size - width - column : column;
    }
    __device__ __forceinline__ const uint32* word(int row, int x) const { return top + row * down + (x >> 5); }

    // Return `width` pixels as bits, the first one lowest; no word of the canvas holds only some of them.
    __device__ __forceinline__ uint32 pixels(int row, int column, int width) const {
        const int x = left(column, width);
        const uint32 bits = *word(row, x) >> (x & 31) & ((1u << width) - 1);
        return mirrored ? __brev(bits) >> (32 - width) : bits;
    }
};

// Write a canvas whose side is a multiple of 16: sixteen pixels per store.
__device__ void write_sixteens(const Flipped& canvas, uint8* image) {
    int place = threadIdx.x;
    for (Cells at(canvas.size, 16); at.row < canvas.size; at.next(), place += blockDim.x) {
        const uint32 bits = canvas.pixels(at.row, at.column, 16);
        ((Sixteen*)image)[place] = {bytes_of(bits & 15), bytes_of(bits >> 4 & 15),  //
                                    bytes_of(bits >> 8 & 15), bytes_of(bits >> 12)};
    }
}

// Write a canvas of an even side: four pixels per store, read in pairs, because the second pair may lie in another word
// or in the next row.
__device__ void write_fours(const Flipped& canvas, uint8* image) {
    int place = threadIdx.x;
    for (Cells at(canvas.size, 4); at.row < canvas.size; at.next(), place += blockDim.x) {
        const bool ends = at.column + 2 == canvas.size;
        const uint32 next = canvas.pixels(at.row + ends, ends ? 0 : at.column + 2, 2);
        ((uint32*)image)[place] = bytes_of(canvas.pixels(at.row, at.column, 2) | next << 2);
    }
}

// Write any band of any canvas: one pixel per store.
__device__ void write_bytes(const Bitmap& bitmap, const Orientation& orientation, uint8* image) {
    for (Cells at(orientation.size); at.row < bitmap.rows; at.next()) {
        const int y = bitmap.first + at.row, x = at.column;
        image[orientation.target(y, x)] = bitmap.row(y)[x >> 5] >> (x & 31) & 1 ? GREY : 0;
    }
}

// Write the pixels of a bitmap. A whole canvas that its image shows transposed is transposed first, in place.
__device__ void write(const Bitmap& bitmap, Orientation orientation, uint8* image) {
    const bool whole = bitmap.rows == orientation.size;
    if (whole && orientation.transposed()) {
        transpose(bitmap.row(0), bitmap.words);
        orientation = orientation.of_transposed();
    }
    if (whole && orientation.size % 16 == 0)
        write_sixteens(Flipped(bitmap, orientation), image);
    else if (whole && orientation.size % 2 == 0)
        write_fours(Flipped(bitmap, orientation), image);
    else
        write_bytes(bitmap, orientation, image);
}

// The colours of points: the hue advances by one per step of a walk, and the walks are counted one after the other.
struct Palette {
    const uint8* colors;  // [hues, 3]
    int hues, walkers, steps;

    // Return the colour of a point by its number, counted from 1.
    __device__ __forceinline__ const uint8* at(int number) const {
        const int index = number - 1, along = index % walkers * steps + index / walkers;
        return colors + along % hues * 3;
    }
};

// Write rows first, first + 1 ... of a coloured canvas: a pixel has the colour of the newest point or patch on it.
__device__ void write_colors(const Numbers& numbers, bool patch, int first, int rows,
                             const uint32* lit,  // [rows, words], the mask of these rows, or null: all pixels are lit
                             const Palette& palette, const Orientation& orientation,
                             uint8* image) {  // [3, size, size]
    const int size = numbers.size, words = (size + 31) / 32;
    for (Cells at(size); at.row < rows; at.next()) {
        const int y = first + at.row, x = at.column, newest = numbers.newest(y, x, patch);
        const bool shown = newest > 0 && (!lit || lit[at.row * words + (x >> 5)] >> (x & 31) & 1);
        uint8* pixel = image + orientation.target(y, x);
        for (int c = 0; c < 3; ++c, pixel += (int64)size * size) *pixel = shown ? palette.at(newest)[c] : 0;
    }
}
