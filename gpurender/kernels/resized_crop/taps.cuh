// The taps of a resize along one axis: where they lie, their weights, and the sum of an output's taps on eight lines.
//
// **Four taps per instruction.** dp4a adds the products of four bytes. A weight w is three signed digits of base 256,
// |w| < 1.13 * 2^22 (bicubic at an edge) and the digits reach 1.99 * 2^22, so there are three sums per pixel. Together
// they are the sum that cpu.py has, modulo 2^32: (HALF + low) + 2^8 mid + 2^16 high. The words of a line lie along the
// axis that is summed next. The taps of an output begin with a whole word, with weights of 0 before the first tap and
// after the last. So bytes there are of no meaning and need not be set: pixels behind a line, lines below a strip. A
// flip stores an output's taps at the mirrored place.

#include "device/common.cuh"

constexpr int NEAREST = 0, BILINEAR = 1;  // any other code is bicubic
constexpr int BITS = 22;                  // fractional bits of a weight
constexpr int HALF = 1 << (BITS - 1);
constexpr int LINES = 8;                  // lines that a thread sums at once

typedef Sixteen Quad;  // four neighbouring pixels of each of four neighbouring lines: a word per line

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
