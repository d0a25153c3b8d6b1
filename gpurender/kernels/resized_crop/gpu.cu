// Crop, resize, flip and look up images of one bit per pixel: one block per image, the canvas never in memory.
//
// The formula is in cpu.py, and all bytes equal those of cpu.py: Pillow's weights of 22 fractional bits, its rounding,
// its order of axes. The *first* axis is the one that is summed first, x in nine of ten random resized crops. A *line*
// lies along it: a row of the window or, if y is first, a column. So one program does both orders.
//
//     bitmap in global memory -> unpack -> `source`: a batch of lines, n_in pixels each, as bytes
//     source -> sum_along -> `between`: the lines of a strip, n_out pixels each
//     between -> sum_across -> a strip of the image: rows or, if y is first, columns
//
// **Four taps per instruction.** dp4a adds the products of four bytes. A weight w is three signed digits of base 256,
// |w| < 1.13 * 2^22 (bicubic at an edge) and the digits reach 1.99 * 2^22, so there are three sums per pixel. Together
// they are the sum that cpu.py has, modulo 2^32: (HALF + low) + 2^8 mid + 2^16 high. The words of a line lie along the
// axis that is summed next. The taps of an output begin with a whole word, with weights of 0 before the first tap and
// after the last. So bytes there are of no meaning and need not be set: bits beyond the window, lines below a strip. A
// flip stores an output's taps at the mirrored place.
//
// **Numbers** of the mean crop of 512 x 512 pixels to 224 x 224, bicubic (343 x 343 pixels; 4.1 strips, which sum 370
// lines, because neighbours share some; an output has 7 taps in 3 words). Counted in machine code for sm_90, not
// measured on a GPU: 141,000 warp instructions for an image of bytes (tables 12, unpack 21, along 63, across 45
// thousand), which take four schedulers 35,000 cycles, and 24,000 more for three copies of two bytes each, looked up.
// 37,000 of them are dp4a (19,000 cycles at 16 lanes per cycle), shared memory moves 19,000 wavefronts. 33 instructions
// multiply four taps of eight pixels: 24 dp4a, three loads of 16 bytes. They need 40 registers, so everything that is
// the same in all threads is in shared memory, and four blocks of 256 threads share a multiprocessor of Hopper: at most
// 64 registers, 57 KB each (tables 14 and 4, source 8, between 30; gpu_bits.py). All of `between` would take 77 KB.
//
// A launch with one thread per block is correct: every loop strides by blockDim.x, all threads reach every barrier.

#include "device/common.cuh"
#include "device/texture.cuh"

constexpr int THREADS = 256;
constexpr int NEAREST = 0, BILINEAR = 1;  // any other code is bicubic
constexpr int BITS = 22;                  // fractional bits of a weight
constexpr int HALF = 1 << (BITS - 1);
constexpr int LINES = 8;                  // lines that a thread sums at once

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
        if (filter == NEAREST) {  // the coordinate is summed step by step as in Pillow: a product rounds differently
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

// Fill the table [words, stride] of the outputs at places begin .. end - 1, for lines whose first byte is pixel origin.
__device__ __forceinline__ void fill(const Axis& axis, int begin, int end, int origin, int stride, Taps* table) {
    for (int place = begin + threadIdx.x; place < end; place += blockDim.x) {
        const int i = axis.output(place);
        const Span span = axis.span(i);
        const int word = (span.first - origin) / 4;
        Taps* own = table + place - begin;
#pragma unroll 1
        for (int w = 0; w < axis.words; ++w) own[w * stride] = {0, 0, 0, word};
        double total = 0.0;
#pragma unroll 1
        for (int pixel = span.first; pixel < span.end; ++pixel) total += axis.weight(i, pixel);
#pragma unroll 1
        for (int pixel = span.first; pixel < span.end; ++pixel) {
            const double fixed = axis.weight(i, pixel) / total * (double)(1 << BITS);
            const int weight = (int)(fixed < 0.0 ? fixed - 0.5 : fixed + 0.5);
            const int low = (signed char)weight, mid = (signed char)((weight - low) >> 8);
            const int at = pixel - origin - 4 * word;
            signed char* digits = (signed char*)(own + at / 4 * stride) + at % 4;
            digits[0] = low, digits[4] = mid, digits[8] = (weight - low - (mid << 8)) >> 16;
        }
    }
}

// Bytes of eight lines, a word per quad.
struct Eight {
    uint32 words[2];
};

// Sum the taps of one output on eight lines. `table` and `lines` are at the output's first taps and at the beginning of
// the first quad of lines; the other quad is `step` further.
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

// Division of numbers by n, where (number + 1) (n + 1) < 2^32: two instructions. With r = floor((2^32 - 1) / n), the
// product (number + 1) r / 2^32 is below (number + 1) / n by less than 1 / n.
struct Divisor {
    uint32 n, reciprocal;

    __device__ __forceinline__ Divisor(uint32 by) : n(by), reciprocal(0xFFFFFFFFu / by) {}
    __device__ __forceinline__ uint32 quotient(uint32 number) const { return __umulhi(number + 1, reciprocal); }
};

// The lines of a window, as they lie in the bitmap [size, words]: line l is row (or column) start + l * step of the
// bitmap. It begins in column (or row) `begin` and goes on from there by `way`. Step and way are 1 or -1.
struct Lines {
    int size, length;  // pixels: side of the bitmap, length of a line
    bool are_rows;
    int start, step, begin, way;

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
};

// Unpack LINES times `groups` lines from `line` on, the last one in place of later ones, as bytes of 0 or GREY.
//
// Eight neighbouring threads read eight lines, and 32 threads four neighbouring words of each. Each stores the bytes of
// its word in an order of its own, so that no two hit one bank (`stride` is 1 more than a multiple of 8).
__device__ __forceinline__ void unpack(const uint32* bitmap, const Lines& lines, int line, int last, int groups,
                                       int stride, Quad* source) {
    const Divisor pieces((lines.length + 31) / 32);
    for (uint32 item = threadIdx.x; item < LINES * groups * pieces.n; item += blockDim.x) {
        const uint32 group = pieces.quotient(item / LINES), piece = item / LINES - group * pieces.n;
        const uint32 l = LINES * group + item % LINES;
        const uint32 bits = lines.bits(bitmap, min(line + (int)l, last), 32 * piece);
        const uint32 turn = 8 * (piece & 3), turned = (uint32)(((uint64)bits << 32 | bits) >> turn);
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

// The image: bytes [1, height, width] or, if there is a table lut, its entries [3, height, width] of so many bytes; with
// any strides, in entries. The tables of the channels are `table_stride` entries apart: 256, or 0 for one table.
struct Result {
    void* image;
    const void* lut;
    int table_stride, entry_bytes, channel_stride, row_stride, column_stride;

    // Put four bytes, of those lines line .. line + 3 that are below `lines`, at a place of each. A line is a column
    // or, if y is first, a row of the image.
    __device__ __forceinline__ void put(int line, int place, int lines, bool y_first, uint32 four) const {
        switch (entry_bytes) {
            case 1: return put_entries<uint8, 1>(line, place, lines, y_first, four);
            case 2: return put_entries<unsigned short, 3>(line, place, lines, y_first, four);
            case 4: return put_entries<uint32, 3>(line, place, lines, y_first, four);
            default: return put_entries<uint64, 3>(line, place, lines, y_first, four);
        }
    }

  private:
    template <class Entry, int COPIES>
    __device__ __forceinline__ void put_entries(int line, int place, int lines, bool y_first, uint32 four) const {
        const int along = y_first ? row_stride : column_stride, other = y_first ? column_stride : row_stride;
        Entry* to = (Entry*)image + line * along + place * other;
        if (along == 1 && lines % 4 == 0) {  // neighbours in memory, and their address is one of a FourEntries
#pragma unroll 1
            for (int c = 0; c < COPIES && line < lines; ++c)
                *(FourEntries<Entry>*)(to + c * channel_stride) = {
                    entry<Entry, COPIES>(c, four & 255), entry<Entry, COPIES>(c, four >> 8 & 255),
                    entry<Entry, COPIES>(c, four >> 16 & 255), entry<Entry, COPIES>(c, four >> 24)};
            return;
        }
#pragma unroll 1
        for (int k = 0; k < 4 && line + k < lines; ++k)
#pragma unroll
            for (int c = 0; c < COPIES; ++c)
                to[k * along + c * channel_stride] = entry<Entry, COPIES>(c, four >> 8 * k & 255);
    }
    template <class Entry, int COPIES>
    __device__ __forceinline__ Entry entry(int c, uint32 byte) const {
        return COPIES == 1 ? (Entry)byte : ((const Entry*)lut)[table_stride * c + byte];
    }
};

// ----------------------------------------------------------------------------------------------------------- the plan

// Shared memory of a block, chosen by gpu_bits.py: tables of `table` taps, and of `words` for each of `strip` outputs;
// `source` and `between` of so many quads, each with `words` more that may be read.
struct Room {
    int table, words, strip, source, between;
};

// What all threads of a block know. In shared memory, set by one thread: a sum needs the registers.
struct Plan {
    bool y_first;
    Axis first, second;
    Lines lines;
    int stride, batch;   // of `source`: quads of a line (odd), lines
    int pairs, column;   // of `between`: pairs of quads of lines, quads of a line (odd)
    int outputs;         // of a strip: so few that their lines fit into `between`
    int end, top, last;  // of the strip at hand: the place after its last, its first line and its last

    // A box (top, left, height, width) is moved into the canvas [size, size]. The canvas shows the bitmap flipped
    // top-bottom (bit 0 of `orientation`), then left-right (bit 1), then transposed (bit 2).
    __device__ void set(int size, int orientation, const int* box, const uint8* flips, int filter, int height,
                        int width, const Room& room) {
        const int h = min(max(box[2], 1), size), w = min(max(box[3], 1), size);
        const int top = min(max(box[0], 0), size - h), left = min(max(box[1], 0), size - w);
        y_first = h > height && h - height > 2 * (w - width);
        Axis &y = y_first ? first : second, &x = y_first ? second : first;
        y.set(h, height, flips[1], filter), x.set(w, width, flips[0], filter);

        const bool transposed = orientation & 4, are_rows = y_first == transposed;
        const bool back = orientation & (are_rows ? 1 : 2), mirrored = orientation & (are_rows ? 2 : 1);
        const int start = y_first ? left : top, begin = y_first ? top : left;
        lines = {size, first.n_in, are_rows, back ? size - 1 - start : start, back ? -1 : 1,
                 mirrored ? size - 1 - begin : begin, mirrored ? -1 : 1};

        stride = (first.n_in + 31) / 32 * 8 + 1, batch = room.source / stride / 2 * LINES;
        pairs = (first.n_out + LINES - 1) / LINES, column = (room.between / (2 * pairs) - 1) | 1;
        // 4 (column - 1) is a multiple of LINES. n outputs need (n - 1) scale + most_taps + 1 lines; one more is safe.
        outputs = min(1 + (int)((4 * (column - 1) - second.most_taps - 2) / second.scale), room.strip);
    }
    __device__ void set_strip(int begin) {
        end = min(begin + outputs, second.n_out);
        top = second.span(second.output(second.flipped ? end - 1 : begin)).first;
        last = second.span(second.output(second.flipped ? begin : end - 1)).end - 1;
    }
};

// ---------------------------------------------------------------------------------------------------------- the sums

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

// Sum across lines: from `between` to the strip of the image at places begin .. plan.end - 1. Neighbouring threads
// write neighbouring columns: of neighbouring lines or, if y is first, of neighbouring places.
__device__ __forceinline__ void sum_across(const Plan& plan, const Taps* table, int stride, const Quad* between,
                                           int begin, const Result& result) {
    const bool y_first = plan.y_first;
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

// Crop, resize, flip and look up canvases of one bit per pixel. blocks = N.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    resized_crop_bits(const uint32* bitmaps,      // [K, size, words]
                      const int64* which,         // [N], bitmap of each image
                      const uint8* orientations,  // [N]
                      const int* boxes,           // [N, 4]: top, left, height, width
                      const uint8* flips,         // [N, 2]: horizontal, vertical
                      const uint8* filters,       // [N]
                      int size, int height, int width,
                      int table, int words, int strip, int source_quads, int between_quads,  // Room
                      const void* lut,  // [1 or 3, 256], or null: the images are bytes
                      int table_stride, int entry_bytes,
                      uint8* images,  // [N, 3 or 1, height, width] entries
                      int64 image_stride, int channel_stride, int row_stride, int column_stride) {
    DYNAMIC_SHARED(Taps, first_table);
    __shared__ Plan plan;
    const int64 n = blockIdx.x;
    const uint32* bitmap = bitmaps + which[n] * size * ((size + 31) / 32);
    const Result result = {images + n * image_stride * entry_bytes, lut, table_stride, entry_bytes,
                           channel_stride, row_stride, column_stride};
    Taps* second_table = first_table + table;
    Quad* source = (Quad*)(second_table + words * strip);
    Quad* between = source + source_quads + words;

    if (threadIdx.x == 0)
        plan.set(size, orientations[n], boxes + 4 * n, flips + 2 * n, filters[n], height, width,
                 {table, words, strip, source_quads, between_quads});
    __syncthreads();
    fill(plan.first, 0, plan.first.n_out, 0, plan.first.n_out, first_table);
    for (int begin = 0, end; begin < plan.second.n_out; begin = end) {
        if (threadIdx.x == 0) plan.set_strip(begin);
        __syncthreads();
        end = plan.end;
        fill(plan.second, begin, end, plan.top, strip, second_table);
        for (int line = plan.top; line <= plan.last; line += plan.batch) {
            const int groups = (min(plan.batch, plan.last + 1 - line) + LINES - 1) / LINES;
            unpack(bitmap, plan.lines, line, plan.last, groups, plan.stride, source);
            __syncthreads();
            sum_along(plan, first_table, source, line, groups, between);
            __syncthreads();
        }
        sum_across(plan, second_table, strip, between, begin, result);
        __syncthreads();
    }
}
