// Crop, resize, flip and look up images of one bit per pixel: one block per image, the canvas never in memory.
//
// The formula is in cpu.py, and all bytes equal those of cpu.py: Pillow's weights of 22 fractional bits, its rounding,
// its order of axes. The *first* axis is the one that is summed first, x for nine of ten random resized crops; a *line*
// is what lies along it, a row of the window or, if y is first, a column. So both orders are one program.
//
//     bits in global memory --unpack--> `source`, bytes of a batch of lines       (first axis: n_in pixels a line)
//     source --sum along lines--> `between`, bytes of the lines of a strip        (first axis: n_out pixels)
//     between --sum across lines--> a strip of the image: rows or, if y is first, columns
//
// **Four taps per instruction.** `source` and `between` hold four pixels per word along the axis that is summed next,
// and dp4a adds the products of four bytes. A weight has 24 bits, so it is three signed digits of base 256 and three
// sums, put together at the end: (HALF + low) + 2^8 mid + 2^16 high, modulo 2^32 the sum that int32 gives. (|weight| is
// below 1.2 * 2^22, and the digits reach 1.99 * 2^22.) Taps begin at a whole word, with weights of 0 before the first
// tap and after the last, so what lies there is of no meaning and need not be initialised: bits beyond the window, lines
// below the strip. A flip moves an output's taps to the mirrored place.
//
// **Numbers**, for a window of 343 x 343 pixels, the mean of crops of 512 x 512, and 224 x 224 outputs, bicubic: 6 to 7
// taps in 3 words. A word of a table (16 bytes) serves eight lines in the first sum and four in the second; a thread's
// step is 8 loads and 24 dp4a, of which shared memory and the multipliers need 12 cycles each: the load of distinct
// table entries is four wavefronts. All of `between` would take 77 KB (115 KB at 512 lines), so it holds a strip of the
// output, and the six or so lines that two strips share are summed twice. gpu_bits.py chooses the strip's memory so that
// four blocks share a multiprocessor of Hopper (57 KB each, 64 registers, 32 warps).
//
// A launch with one thread per block is correct: every loop strides by blockDim.x, all threads reach every barrier.

#include "device/common.cuh"
#include "device/texture.cuh"

constexpr int THREADS = 256;
constexpr int NEAREST = 0, BILINEAR = 1;  // any other code is bicubic
constexpr int BITS = 22;                  // fractional bits of a weight
constexpr int HALF = 1 << (BITS - 1);
constexpr int LINES = 8;                  // lines per thread in the first sum

typedef Sixteen Quad;  // four neighbouring pixels of each of four neighbouring lines: a word per line

// ----------------------------------------------------------------------------------------------------------- the taps

// Four neighbouring taps of one output: digits of their weights, four to a word, and the word of a line they begin at.
struct __align__(16) Taps {
    uint32 low, mid, high;
    int word;
};

// Pixels first .. end - 1.
struct Span {
    int first, end;
};

// One axis of a resize: n_in pixels become n_out. Formulas and order of operations are those of cpu.py.
struct Axis {
    int n_in, n_out, filter;
    bool flipped;
    int most_taps, words;  // maximum number of taps of an output, and of words that these lie in
    double scale, shrink, radius;

    __device__ void set(int in, int out, bool flip, int code) {
        n_in = in, n_out = out, flipped = flip, filter = code;
        scale = (double)in / (double)out;
        const double stretch = scale < 1.0 ? 1.0 : scale;
        shrink = 1.0 / stretch, radius = filter == BILINEAR ? stretch : 2.0 * stretch;
        most_taps = filter == NEAREST ? 1 : (int)(2.0 * radius) + 1, words = (most_taps + 6) / 4;
    }

    // The output that is stored at a place.
    __device__ __forceinline__ int output(int place) const { return flipped ? n_out - 1 - place : place; }

    // The pixels that count for output i.
    __device__ __forceinline__ Span span(int i) const {
        if (filter == NEAREST) {  // the coordinate is summed step by step as in Pillow: a product would round differently
            double position = 0.5 * scale;
#pragma unroll 1
            for (int k = 0; k < i; ++k) position += scale;
            int pixel = min((int)position, n_in - 1);
            return {pixel, pixel + 1};
        }
        double centre = (i + 0.5) * scale;
        return {max((int)(centre - radius + 0.5), 0), min((int)(centre + radius + 0.5), n_in)};
    }
    // The filter of output i at a pixel.
    __device__ __forceinline__ double weight(int i, int pixel) const {
        double x = fabs((pixel - (i + 0.5) * scale + 0.5) * shrink);
        if (filter == NEAREST) return 1.0;
        if (filter == BILINEAR) return x < 1.0 ? 1.0 - x : 0.0;
        return x < 1.0 ? (1.5 * x - 2.5) * x * x + 1.0 : x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 : 0.0;
    }
};

// Split a weight into three digits of base 256 from -128 to 127, each at byte `byte` of its word.
__device__ __forceinline__ void add_digits(int weight, int byte, Taps& taps) {
    int low = (signed char)weight, mid = (signed char)((weight - low) >> 8), high = (weight - low - (mid << 8)) >> 16;
    taps.low |= (uint32)(low & 255) << 8 * byte;
    taps.mid |= (uint32)(mid & 255) << 8 * byte;
    taps.high |= (uint32)(high & 255) << 8 * byte;
}

// Fill the table [words, stride] of the outputs at places begin .. end - 1, for lines whose first byte is pixel origin.
__device__ __forceinline__ void fill(const Axis& axis, int begin, int end, int origin, int stride, Taps* table) {
    for (int place = begin + threadIdx.x; place < end; place += blockDim.x) {
        const int i = axis.output(place);
        const Span span = axis.span(i);
        double total = 0.0;
#pragma unroll 1
        for (int pixel = span.first; pixel < span.end; ++pixel) total += axis.weight(i, pixel);
        const int word = (span.first - origin) / 4;
#pragma unroll 1
        for (int w = 0; w < axis.words; ++w) {
            Taps taps = {0, 0, 0, word};
#pragma unroll 1
            for (int byte = 0; byte < 4; ++byte) {
                int pixel = origin + 4 * (word + w) + byte;
                if (pixel < span.first || pixel >= span.end) continue;
                double fixed = axis.weight(i, pixel) / total * (double)(1 << BITS);
                add_digits((int)(fixed < 0.0 ? fixed - 0.5 : fixed + 0.5), byte, taps);
            }
            table[w * stride + place - begin] = taps;
        }
    }
}

// Sum the taps of one output on eight lines, in grey levels, and return them as bytes, a word per quad of lines. `table`
// and `lines` are at the output's first taps and at the beginning of the first quad; the other quad is `step` further.
struct Eight {
    uint32 words[2];
};

__device__ __forceinline__ Eight sum(const Taps* table, int stride, int words, const Quad* lines, int step) {
    int low[LINES], mid[LINES], high[LINES];
#pragma unroll
    for (int l = 0; l < LINES; ++l) low[l] = HALF, mid[l] = 0, high[l] = 0;
    lines += table->word;
#pragma unroll 1
    for (int w = 0; w < words; ++w, table += stride, ++lines) {
        const Taps taps = *table;
        const Quad one = lines[0], two = lines[step];
        const uint32 fours[LINES] = {one.x, one.y, one.z, one.w, two.x, two.y, two.z, two.w};
#pragma unroll
        for (int l = 0; l < LINES; ++l) {
            low[l] = dot(fours[l], taps.low, low[l]);
            mid[l] = dot(fours[l], taps.mid, mid[l]);
            high[l] = dot(fours[l], taps.high, high[l]);
        }
    }
    int sums[LINES];
#pragma unroll
    for (int l = 0; l < LINES; ++l)
        sums[l] = (int)((uint32)low[l] + ((uint32)mid[l] << 8) + ((uint32)high[l] << 16)) >> BITS;
    return {saturated(sums[0], sums[1], sums[2], sums[3]), saturated(sums[4], sums[5], sums[6], sums[7])};
}

// ---------------------------------------------------------------------------------------------------------- the lines

// The window of an image: its lines, read from the bitmap of a canvas. The canvas shows the bitmap flipped top-bottom
// (bit 0 of `orientation`), then left-right (bit 1), then transposed (bit 2).
struct Window {
    const uint32* rows;  // [size, words]
    int size, orientation, top, left, h, w;
    bool y_first;

    // Return 32 pixels of a line from pixel j on; bits beyond the window are of no meaning.
    __device__ uint32 bits(int line, int j) const {
        const int row = y_first ? top + j : top + line, column = y_first ? left + line : left + j;
        const bool transposed = orientation & 4, upwards = orientation & 1, leftwards = orientation & 2;
        int y = transposed ? column : row, x = transposed ? row : column, words = (size + 31) / 32;
        y = upwards ? size - 1 - y : y, x = leftwards ? size - 1 - x : x;
        if (y_first == transposed) {  // the line is a row of the bitmap
            if (leftwards) x -= 31;
            const uint32* own = rows + y * words;
            uint64 two = (uint64)own[min((x >> 5) + 1, words - 1)] << 32 | own[max(x >> 5, 0)];
            uint32 found = (uint32)(two >> (x & 31));
            return leftwards ? __brev(found) : found;
        }
        const uint32* own = rows + y * words + (x >> 5);
        const int step = upwards ? -words : words, count = min(32, (y_first ? h : w) - j);
        uint32 found = 0;
#pragma unroll 8
        for (int k = 0; k < count; ++k) found |= (own[k * step] >> (x & 31) & 1) << k;
        return found;
    }
};

// Unpack LINES times `groups` lines from `line` on, the last one in place of later ones, as bytes of 0 or GREY.
//
// Eight neighbouring threads read eight lines, and 32 threads four neighbouring words of each. Each stores the bytes of
// its word in an order of its own, so that no two hit one bank (`stride` is 1 more than a multiple of 8).
__device__ __forceinline__ void unpack(const Window& window, int line, int last, int groups, int pieces, int stride,
                                       Quad* source) {
    for (int item = threadIdx.x; item < LINES * groups * pieces; item += blockDim.x) {
        const int piece = item / LINES % pieces, l = item / LINES / pieces * LINES + item % LINES;
        const uint32 bits = window.bits(min(line + l, last), 32 * piece);
        const int turn = 8 * (piece & 3);
        const uint32 turned = (uint32)(((uint64)bits << 32 | bits) >> turn);
        uint32* words = (uint32*)(source + l / 4 * stride + 8 * piece) + l % 4;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            uint32* two = words + (8 * k + turn & 24);
            two[0] = bytes_of(turned >> 8 * k & 15), two[4] = bytes_of(turned >> 8 * k + 4 & 15);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------- the image

// Four neighbouring entries.
template <class Entry>
struct __align__(4 * sizeof(Entry)) FourEntries {
    Entry entries[4];
};

// The result: [N, COPIES, height, width] with any strides; bytes, or their entries in the tables lut [3, 256].
template <class Entry, int COPIES>
struct Result {
    Entry* first;  // of the image
    const Entry* lut;
    int64 channel_stride, row_stride, column_stride;

    __device__ __forceinline__ Entry entry(int c, uint32 byte) const { return lut ? lut[256 * c + byte] : (Entry)byte; }

    // Put four bytes, of lines line .. line + 3 below `lines`, at a place of each. A line is a column or, if y is first,
    // a row of the result.
    __device__ __forceinline__ void put(int line, int place, int lines, bool y_first, uint32 four) const {
        const int64 along = y_first ? row_stride : column_stride, other = y_first ? column_stride : row_stride;
        Entry* to = first + line * along + place * other;
        if (along == 1 && lines % 4 == 0) {  // neighbours in memory, at an address of their size
            if (line >= lines) return;
#pragma unroll
            for (int c = 0; c < COPIES; ++c)
                *(FourEntries<Entry>*)(to + c * channel_stride) = {entry(c, four & 255), entry(c, four >> 8 & 255),
                                                                    entry(c, four >> 16 & 255), entry(c, four >> 24)};
            return;
        }
#pragma unroll
        for (int k = 0; k < 4; ++k)
            for (int c = 0; c < COPIES && line + k < lines; ++c)
                to[k * along + c * channel_stride] = entry(c, four >> 8 * k & 255);
    }
};

// ----------------------------------------------------------------------------------------------------------- the plan

// Shared memory of a block, chosen by gpu_bits.py: tables of `table` taps and, of the outputs of a strip, [words, strip];
// `source` and `between` of so many quads, each with `words` more that may be read.
struct Room {
    int table, words, strip, source, between;
};

// What all threads of a block know. In shared memory, set by one thread: a sum needs 40 of 64 registers.
struct Plan {
    Window window;
    Axis first, second;
    int pieces, stride;  // of a line of `source`: its words of bits, its quads (odd)
    int batch;           // lines of `source`
    int pairs, column;   // of `between`: pairs of quads of lines, quads of a line (odd)
    int outputs;         // of a strip: so few that their lines fit into `between`
    int end, top, last;  // of the strip at hand: the place after its last, its first line and its last

    __device__ void set(const Window& from, const uint8* flips, int filter, int height, int width, const Room& room) {
        window = from;
        Axis &y = window.y_first ? first : second, &x = window.y_first ? second : first;
        y.set(window.h, height, flips[1], filter), x.set(window.w, width, flips[0], filter);
        pieces = (first.n_in + 31) / 32, stride = 8 * pieces + 1, batch = room.source / stride / 2 * LINES;
        pairs = (first.n_out + LINES - 1) / LINES, column = (room.between / (2 * pairs) - 1) | 1;
        // 4 (column - 1) is a multiple of LINES; n outputs need (n - 1) scale + most_taps + 1 lines, one more to be safe
        outputs = min(1 + (int)((4 * (column - 1) - second.most_taps - 2) / second.scale), room.strip);
    }
    __device__ void set_strip(int begin) {
        end = min(begin + outputs, second.n_out);
        top = second.span(second.output(second.flipped ? end - 1 : begin)).first;
        last = second.span(second.output(second.flipped ? begin : end - 1)).end - 1;
    }
};

// Return the window of an image: its box, moved into the canvas.
__device__ Window window_of(const uint32* bitmap, int size, int orientation, const int* box, int height, int width) {
    const int h = min(max(box[2], 1), size), w = min(max(box[3], 1), size);
    const int top = min(max(box[0], 0), size - h), left = min(max(box[1], 0), size - w);
    const bool y_first = h > height && h - height > 2 * (w - width);
    return {bitmap, size, orientation, top, left, h, w, y_first};
}

// ---------------------------------------------------------------------------------------------------------- the sums

// Division of numbers by n, where (number + 1) (n + 1) < 2^32: two instructions. With r = floor((2^32 - 1) / n), the
// product (number + 1) r / 2^32 is below (number + 1) / n by less than 1 / n.
struct Divisor {
    uint32 n, reciprocal;

    __device__ __forceinline__ Divisor(uint32 by) : n(by), reciprocal(0xFFFFFFFFu / by) {}
    __device__ __forceinline__ uint32 quotient(uint32 number) const { return __umulhi(number + 1, reciprocal); }
};

// Sum along lines: from a batch of lines of `source`, the first of which is `line`, to `between`.
__device__ __forceinline__ void sum_along(const Plan& plan, const Taps* table, const Quad* source, int line, int groups,
                                          Quad* between) {
    const Divisor outputs(plan.first.n_out);
    for (uint32 item = threadIdx.x; item < groups * outputs.n; item += blockDim.x) {
        const uint32 group = outputs.quotient(item), i = item - group * outputs.n;
        const Quad* lines = source + 2 * group * plan.stride;
        const Eight eight = sum(table + i, outputs.n, plan.first.words, lines, plan.stride);
        uint32* to = (uint32*)(between + i / 4 * plan.column + (line - plan.top) / 4 + 2 * group) + i % 4;
        to[0] = eight.words[0], to[4] = eight.words[1];
    }
}

// Sum across lines: from `between` to the strip of the image at places begin .. plan.end - 1. Neighbouring threads write
// neighbouring columns: of neighbouring lines or, if y is first, of neighbouring places.
template <class Entry, int COPIES>
__device__ __forceinline__ void sum_across(const Plan& plan, const Taps* table, int stride, const Quad* between,
                                           int begin, const Result<Entry, COPIES>& result) {
    const bool y_first = plan.window.y_first;
    const uint32 places = plan.end - begin, pairs = plan.pairs;
    const Divisor across(y_first ? places : pairs);
    for (uint32 item = threadIdx.x; item < pairs * places; item += blockDim.x) {
        const uint32 outer = across.quotient(item), inner = item - outer * across.n;
        const uint32 quad = y_first ? outer : inner, place = y_first ? inner : outer;
        const Quad* lines = between + quad * plan.column;
        const Eight eight = sum(table + place, stride, plan.second.words, lines, pairs * plan.column);
#pragma unroll
        for (int k = 0; k < 2; ++k)
            result.put(4 * (quad + k * pairs), begin + place, plan.first.n_out, y_first, eight.words[k]);
    }
}

template <class Entry, int COPIES>
__device__ __forceinline__ void resize(Plan& plan, const Room& room, const Result<Entry, COPIES>& result, Taps* memory) {
    Taps* first_table = memory;
    Taps* second_table = first_table + room.table;
    Quad* source = (Quad*)(second_table + room.words * room.strip);
    Quad* between = source + room.source + room.words;

    fill(plan.first, 0, plan.first.n_out, 0, plan.first.n_out, first_table);
    for (int begin = 0, end; begin < plan.second.n_out; begin = end) {
        if (threadIdx.x == 0) plan.set_strip(begin);
        __syncthreads();
        end = plan.end;
        fill(plan.second, begin, end, plan.top, room.strip, second_table);
        for (int line = plan.top; line <= plan.last; line += plan.batch) {
            const int groups = (min(plan.batch, plan.last + 1 - line) + LINES - 1) / LINES;
            unpack(plan.window, line, plan.last, groups, plan.pieces, plan.stride, source);
            __syncthreads();
            sum_along(plan, first_table, source, line, groups, between);
            __syncthreads();
        }
        sum_across(plan, second_table, room.strip, between, begin, result);
        __syncthreads();
    }
}

// Kernels for results of bytes, and of entries of 2, 4 and 8 bytes. blocks = N.
#define CROP_BITS(name, Entry, COPIES)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                         \
        name(const uint32* bitmaps,      /* [K, size, words] */                                                      \
             const int64* which,         /* [N], bitmap of each image */                                             \
             const uint8* orientations,  /* [N] */                                                                   \
             const int* boxes,           /* [N, 4]: top, left, height, width */                                      \
             const uint8* flips,         /* [N, 2]: horizontal, vertical */                                          \
             const uint8* filters,       /* [N] */                                                                   \
             int size, int height, int width, int table, int words, int strip, int source, int between,              \
             const Entry* lut,           /* [3, 256], or null: bytes */                                              \
             Entry* images,              /* [N, COPIES, height, width] */                                            \
             int64 image_stride, int64 channel_stride, int64 row_stride, int64 column_stride) {                      \
        DYNAMIC_SHARED(Taps, memory);                                                                                \
        __shared__ Plan plan;                                                                                        \
        const int64 n = blockIdx.x;                                                                                  \
        const Room room = {table, words, strip, source, between};                                                    \
        if (threadIdx.x == 0) {                                                                                      \
            const uint32* bitmap = bitmaps + which[n] * size * ((size + 31) / 32);                                   \
            const Window window = window_of(bitmap, size, orientations[n], boxes + 4 * n, height, width);            \
            plan.set(window, flips + 2 * n, filters[n], height, width, room);                                        \
        }                                                                                                            \
        __syncthreads();                                                                                             \
        const Result<Entry, COPIES> result = {images + n * image_stride, lut, channel_stride, row_stride,            \
                                              column_stride};                                                        \
        resize(plan, room, result, memory);                                                                          \
    }

CROP_BITS(resized_crop_bits_8, uint8, 1)
CROP_BITS(resized_crop_bits_16, unsigned short, 3)
CROP_BITS(resized_crop_bits_32, uint32, 3)
CROP_BITS(resized_crop_bits_64, uint64, 3)
