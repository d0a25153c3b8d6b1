// From a bitmap of points to an image: 3 x 3 patches, a random mask, an orientation, bytes of 0 or GREY.
// The patches are drawn by patch_words in grey, and by newest_at in colour.
//
// device/cpu_texture.py is the reference and defines the mask.

#include "device/bitmap.cuh"
#include "device/common.cuh"
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

// Draw the mask bits of columns 128 q to 128 q + 127 of row y: fair bits, and rare bits that are drawn by their gaps
// from the beginning of the row (one or two draws: far fewer than the words of a second mask).
__device__ void mask_words(const Mask& mask, int y, int q, int size, uint32* four) {
    int words = (size + 31) / 32;
    Four fair = philox4x32(y * ((words + 3) / 4) + q, STREAM_MASK, mask.number, mask.key0, mask.key1);
    four[0] = fair.x, four[1] = fair.y, four[2] = fair.z, four[3] = fair.w;
    int last = min(size, 128 * q + 128) - 1;
    for (int x = -1, call = 0; x < last; ++call) {
        Four drawn = philox4x32(y << 16 | call, STREAM_MASK_EXCESS, mask.number, mask.key0, mask.key1);
        const uint32 u[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (x >= last) break;
            int low = 0, high = size;  // the gap lies in [low, high]
            while (low < high) {
                int middle = (low + high + 1) / 2;
                if (u[i] < mask.survival[middle])
                    low = middle;
                else
                    high = middle - 1;
            }
            x += low + 1;
            int k = (x >> 5) - 4 * q;
#pragma unroll
            for (int j = 0; j < 4; ++j)  // registers cannot be indexed
                if (j == k && x <= last) four[j] |= 1u << (x & 31);
        }
    }
}

// -------------------------------------------------------------------------------------------------------- the patches

// Compute four words of row y with patches: each point lights the 3 x 3 pixels below and to the right of it.
__device__ void patch_words(const Bitmap& bitmap, int y, int q, uint32* four) {
    for (int k = 0; k < 4; ++k) {
        int j = 4 * q + k;
        uint32 own = 0, before = 0;
        for (int above = 1; above <= 3 && j < bitmap.words; ++above) {
            own |= bitmap.row(y - above)[j];
            before |= j ? bitmap.row(y - above)[j - 1] : 0;
        }
        four[k] = own << 1 | own << 2 | own << 3 | before >> 31 | before >> 30 | before >> 29;
    }
}

// Apply patches and mask, in place. A row depends only on rows above it, so the rows are processed bottom up: all
// threads read the input of as many pieces of 128 pixels as there are threads, then all threads write.
__device__ void texture(const Bitmap& bitmap, int size, const Mask& mask) {
    int quads = (bitmap.words + 3) / 4, pieces = bitmap.rows * quads;
    for (int begin = 0; begin < pieces; begin += blockDim.x) {
        int piece = begin + threadIdx.x;
        int y = bitmap.first + bitmap.rows - 1 - piece / quads, q = piece % quads;
        uint32 lit[4], four[4];
        if (piece < pieces) {
            patch_words(bitmap, y, q, lit);
            if (mask.on) {
                mask_words(mask, y, q, size, four);
                for (int k = 0; k < 4; ++k) lit[k] &= four[k];
            }
        }
        __syncthreads();
        for (int k = 0; k < 4; ++k)
            if (piece < pieces && 4 * q + k < bitmap.words) bitmap.row(y)[4 * q + k] = lit[k];
        __syncthreads();
    }
}

// Return the number of the newest point on a pixel, or of the newest patch over the pixel; 0 if there is none.
__device__ __forceinline__ int newest_at(const int* last, int size, int y, int x, bool patch) {
    const int* own = last + (int64)(y + ROWS_ABOVE) * (size + ROWS_ABOVE) + x + ROWS_ABOVE;
    if (!patch) return *own;
    int newest = 0;
    for (int dy = 1; dy <= 3; ++dy)
        for (int dx = 1; dx <= 3; ++dx) newest = max(newest, own[-dy * (size + ROWS_ABOVE) - dx]);
    return newest;
}

// ---------------------------------------------------------------------------------------------------------- the image

// The orientation of an image, flips first, then the transposition: source finds the canvas pixel at (row, column).
struct Orientation {
    int code, size;

    __device__ __forceinline__ void source(int row, int column, int& y, int& x) const {
        y = code & 4 ? column : row, x = code & 4 ? row : column;
        y = code & 1 ? size - 1 - y : y, x = code & 2 ? size - 1 - x : x;
    }
    // The inverse: return the offset in the image of the canvas pixel (y, x).
    __device__ __forceinline__ int64 target(int y, int x) const {
        int row = code & 1 ? size - 1 - y : y, column = code & 2 ? size - 1 - x : x;
        return code & 4 ? (int64)column * size + row : (int64)row * size + column;
    }
};

__device__ __forceinline__ uint32 bytes_of(uint32 nibble) {  // four bits to four bytes of 0 or GREY
    return (nibble * 0x00204081u & 0x01010101u) * GREY;
}

// Write a whole canvas whose side is a multiple of 16 and which is not transposed: sixteen pixels per store.
__device__ void write_sixteens(const Bitmap& bitmap, const Orientation& orientation, uint8* image) {
    int size = orientation.size;
    for (int p = threadIdx.x; p < size / 16 * size; p += blockDim.x) {
        int row = p / (size / 16), column = p % (size / 16) * 16;
        int y = orientation.code & 1 ? size - 1 - row : row;
        int x = orientation.code & 2 ? size - 16 - column : column;
        uint32 bits = bitmap.row(y)[x >> 5] >> (x & 16) & 0xFFFFu;
        if (orientation.code & 2) bits = __brev(bits) >> 16;
        ((Sixteen*)image)[p] = {bytes_of(bits & 15), bytes_of(bits >> 4 & 15),  //
                                bytes_of(bits >> 8 & 15), bytes_of(bits >> 12)};
    }
}

__device__ __forceinline__ uint32 lit_at(const Bitmap& bitmap, const Orientation& orientation, int row, int column) {
    int y, x;
    orientation.source(row, column, y, x);
    return y >= bitmap.first && y < bitmap.first + bitmap.rows ? bitmap.row(y)[x >> 5] >> (x & 31) & 1 : 0;
}

// The four neighbouring pixels of a work item, and the order in which their bits are read.
//
// A canvas that is not transposed is read along its rows, and 32 threads read neighbouring words. A transposed canvas
// is read down its columns, in steps of 4 rows of the bitmap from thread to thread. If all 32 threads of a warp did so,
// they would all hit one bank of shared memory at 256 and 512 pixels (at 512: 16 words per row, 64 per step), a 32-way
// conflict; at 362 pixels a 16-way conflict. So eight threads go down a column (32 bytes of the image, the minimum that
// is written at once), the next eight go down the column 32 pixels further on, which is another word, and so on; and
// each pair of threads begins with another of its four rows. Then at most 2 threads conflict at 362 pixels, 4 at 512.
struct Fours {
    int size, transposed;

    __device__ __forceinline__ int items() const {
        return transposed ? (size + 127) / 128 * 32 * size : size * size / 4;
    }
    __device__ __forceinline__ int four(int item) const {
        if (!transposed) return item;
        int eights = item >> 5, column = item >> 3 & 3;  // 32 columns are 8 size fours, in size eights
        return ((eights / size * 4 + column) * size + eights % size) * 8 + (item & 7);
    }
    __device__ __forceinline__ int place(int item, int k) const { return transposed ? (k + (item >> 1)) & 3 : k; }
};

// Write any whole canvas of a multiple of four pixels: four pixels per store, across the ends of rows.
__device__ void write_fours(const Bitmap& bitmap, const Orientation& orientation, uint8* image) {
    int size = orientation.size;
    const Fours fours = {size, orientation.code & 4};
    for (int item = threadIdx.x; item < fours.items(); item += blockDim.x) {
        int p = fours.four(item);
        if (p >= size * size / 4) continue;  // beyond the last column
        int row = 4 * p / size, column = 4 * p % size;
        uint32 nibble = 0;
        for (int k = 0; k < 4; ++k) {
            int place = fours.place(item, k), x = column + place;
            nibble |= lit_at(bitmap, orientation, row + (x >= size), x >= size ? x - size : x) << place;
        }
        ((uint32*)image)[p] = bytes_of(nibble);
    }
}

// Write any band of any canvas: one pixel per store.
__device__ void write_bytes(const Bitmap& bitmap, const Orientation& orientation, uint8* image) {
    int size = orientation.size;
    for (int p = threadIdx.x; p < bitmap.rows * size; p += blockDim.x) {
        int y = bitmap.first + p / size, x = p % size;
        image[orientation.target(y, x)] = bitmap.row(y)[x >> 5] >> (x & 31) & 1 ? GREY : 0;
    }
}

__device__ void write(const Bitmap& bitmap, const Orientation& orientation, uint8* image) {
    int size = orientation.size;
    bool whole = bitmap.rows == size;
    if (whole && size % 16 == 0 && !(orientation.code & 4))
        write_sixteens(bitmap, orientation, image);
    else if (whole && size % 2 == 0)
        write_fours(bitmap, orientation, image);
    else
        write_bytes(bitmap, orientation, image);
}
