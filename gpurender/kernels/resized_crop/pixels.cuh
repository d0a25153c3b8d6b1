// Where the pixels of a crop come from: the lines of a window, of bits or of bytes, as quads in shared memory.
//
// A *line* lies along the axis that is summed first: a row of the window or, if y is first, a column.

#include "device/common.cuh"
#include "device/texture.cuh"
#include "resized_crop/taps.cuh"

// Division by n. With r = floor((2^32 - 1) / n), the product (number + 1) r / 2^32 is less than (number + 1) / n, but
// by less than (number + 1) (n + 1) / (2^32 n). If that is below 1 / n, its floor is the quotient; else the quotient
// may be one more.
struct Divisor {
    uint32 n, reciprocal;

    __device__ __forceinline__ Divisor(uint32 by) : n(by), reciprocal(0xFFFFFFFFu / by) {}
    // Return the quotient, in two instructions, for (number + 1) (n + 1) < 2^32: gpu_room.py sees to that in the sums.
    __device__ __forceinline__ uint32 quotient(uint32 number) const { return __umulhi(number + 1, reciprocal); }
    // Return the quotient for numbers below 2^32 - 1.
    __device__ __forceinline__ uint32 any_quotient(uint32 number) const {
        const uint32 found = quotient(number);
        return number - found * n < n ? found : found + 1;
    }
};

// The window that a box means in a canvas [rows, columns], into which a box outside is moved, and which axis is resized
// first.
struct Crop {
    int top, left, height, width;
    bool y_first;

    __device__ Crop(const int* box, int rows, int columns, int out_height, int out_width) {
        height = min(max(box[2], 1), rows), width = min(max(box[3], 1), columns);
        top = min(max(box[0], 0), rows - height), left = min(max(box[1], 0), columns - width);
        y_first = height > out_height && height - out_height > 2 * (width - out_width);
    }
};

// ----------------------------------------------------------------------------------------------------------- the bits

// The lines of a window, as they lie in the bitmap [size, words]: line l is row (or column) start + l * step of the
// bitmap. It begins in column (or row) `begin` and goes on from there by `way`. Step and way are 1 or -1.
struct BitLines {
    typedef uint32 Element;
    static constexpr int shift = 0;  // a line has no pixels before its first
    int size, length;                // pixels: side of the bitmap, length of a line
    bool are_rows;
    int start, step, begin, way;

    // The canvas shows the bitmap flipped top-bottom (bit 0 of `orientation`), then left-right (bit 1), then transposed
    // (bit 2).
    __device__ void set(int side, int orientation, const Crop& crop) {
        const bool transposed = orientation & 4;
        size = side, are_rows = crop.y_first == transposed;
        const bool back = orientation & (are_rows ? 1 : 2), mirrored = orientation & (are_rows ? 2 : 1);
        const int first = crop.y_first ? crop.left : crop.top, along = crop.y_first ? crop.top : crop.left;
        length = crop.y_first ? crop.height : crop.width;
        start = back ? size - 1 - first : first, step = back ? -1 : 1;
        begin = mirrored ? size - 1 - along : along, way = mirrored ? -1 : 1;
    }

    // Return 32 pixels of a line from pixel j on; bits behind its end are of no meaning.
    __device__ __forceinline__ uint32 bits(const uint32* bitmap, int line, int j) const {
        const int words = (size + 31) / 32, across = start + line * step, along = begin + j * way;
        if (are_rows) {
            const uint32* row = bitmap + across * words;
            const int x = way < 0 ? along - 31 : along;
            const uint64 two = (uint64)row[min((x >> 5) + 1, words - 1)] << 32 | row[max(x >> 5, 0)];
            const uint32 found = (uint32)(two >> (x & 31));
            return way < 0 ? __brev(found) : found;
        }
        const uint32* column = bitmap + along * words + (across >> 5);
        uint32 found = 0;
#pragma unroll 4
        for (int k = 0; k < min(32, length - j); ++k, column += way * words)
            found |= (*column >> (across & 31) & 1) << k;
        return found;
    }

    // Unpack LINES times `groups` lines from `line` on, the last one in place of later ones, as bytes of 0 or GREY.
    //
    // Eight neighbouring threads read eight lines, and 32 threads four neighbouring words of each. Each stores the
    // bytes of its word in an order of its own, so that no two hit one bank (`stride` is 1 more than a multiple of 8).
    __device__ __forceinline__ void load(const uint32* bitmap, int, int line, int last, int groups, int stride,
                                         Quad* source) const {
        const Divisor pieces((length + 31) / 32);
        for (uint32 item = threadIdx.x; item < LINES * groups * pieces.n; item += blockDim.x) {
            const uint32 group = pieces.quotient(item / LINES), piece = item / LINES - group * pieces.n;
            const uint32 l = LINES * group + item % LINES;
            const uint32 found = bits(bitmap, min(line + (int)l, last), 32 * piece);
            const uint32 turn = 8 * (piece & 3), turned = (uint32)(((uint64)found << 32 | found) >> turn);
            uint32* words = (uint32*)(source + l / 4 * stride + 8 * piece) + l % 4;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                uint32* two = words + (8 * k + turn & 24);
                two[0] = bytes_of(turned >> 8 * k & 15), two[4] = bytes_of(turned >> 8 * k + 4 & 15);
            }
        }
    }
};

// ---------------------------------------------------------------------------------------------------------- the bytes

// The lines of a window of a canvas of bytes: line l begins at byte begin + l * step of a channel, and its pixels are
// `way` apart. Where all rows of the canvas begin with a whole word of memory, so do the lines that are rows: their
// first `shift` pixels are those before the crop.
struct ByteLines {
    typedef uint8 Element;
    int64 plane, begin;  // bytes from a channel to the next, and to the window
    int step, way;       // one is 1 and the other the number of columns of the canvas
    int shift, length;   // pixels before a line's first, and of a line with these
    bool in_words;

    __device__ void set(const uint8* canvas, int rows, int columns, const Crop& crop) {
        const bool y_first = crop.y_first;
        in_words = !y_first && (columns | (uint64)canvas) % 4 == 0 && (int64)rows * columns % 4 == 0;
        shift = in_words ? crop.left % 4 : 0, length = (y_first ? crop.height : crop.width) + shift;
        plane = (int64)rows * columns, begin = (int64)crop.top * columns + crop.left - shift;
        step = y_first ? 1 : columns, way = y_first ? columns : 1;
    }

    // Copy LINES times `groups` lines from `line` on; the last line and the last pixel stand for later ones.
    //
    // A thread copies a quad: its loads wait together. Neighbouring threads read neighbouring words of a row: along a
    // line or, if y is first, across lines.
    __device__ __forceinline__ void load(const uint8* canvas, int channel, int line, int last, int groups, int stride,
                                         Quad* source) const {
        const uint32 quads = LINES / 4 * groups, words = (length + 3) / 4;
        const bool are_rows = way == 1;
        const uint8* first = canvas + channel * plane + begin;
        const Divisor inner(are_rows ? words : quads);
        for (uint32 item = threadIdx.x; item < quads * words; item += blockDim.x) {
            const uint32 outer = inner.any_quotient(item), rest = item - outer * inner.n;
            const uint32 quad = are_rows ? outer : rest, word = are_rows ? rest : outer;
            uint32 four[4];
#pragma unroll
            for (int l = 0; l < 4; ++l) {
                const uint8* from = first + (int64)min(line + 4 * (int)quad + l, last) * step;
                four[l] = in_words ? ((const uint32*)from)[word] : bytes(from, 4 * word);
            }
            source[quad * stride + word] = {four[0], four[1], four[2], four[3]};
        }
    }

  private:
    // Return four pixels of a line from pixel j on.
    __device__ __forceinline__ uint32 bytes(const uint8* from, int j) const {
        uint32 four = 0;
#pragma unroll
        for (int k = 0; k < 4; ++k) four |= (uint32)from[(int64)min(j + k, length - 1) * way] << 8 * k;
        return four;
    }
};
