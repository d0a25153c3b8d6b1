// One-pixel lines in a window of a canvas, or in a band of its rows, one byte per pixel in shared memory.
//
// device/cpu_lines.py is the reference and has the formula: end points truncated toward zero, then Bresenham. Top to
// bottom: the pixels that a block renders; a line in the axes along and across it; its visible part; its pixels.

#include "device/common.cuh"

constexpr int FAR = 1 << 14;  // pixels; shorter lines clip in 32 bits: no product below exceeds 2 FAR^2 + 2 FAR
constexpr int MAX_COORDINATE = 1 << 20;  // pixels

struct __align__(8) Pixel {
    int x, y;
};

// Truncate toward zero, within +-LIMIT pixels.
template <int LIMIT = MAX_COORDINATE>
__device__ __forceinline__ int truncate(float coordinate) {
    return (int)fminf(fmaxf(coordinate, -(float)LIMIT), (float)LIMIT);
}

// ------------------------------------------------------------------------------------------- what a block renders

// A part of a canvas.
struct Window {
    int top, left, height, width;
};

// Return window n of `windows`, [N, 4], moved into a canvas of size x size pixels; the canvas if `windows` is null.
__device__ __forceinline__ Window window_of(const int* windows, int64 n, int size) {
    if (!windows) return {0, 0, size, size};
    int height = min(max(windows[4 * n + 2], 1), size), width = min(max(windows[4 * n + 3], 1), size);
    return {min(max(windows[4 * n], 0), size - height), min(max(windows[4 * n + 1], 0), size - width), height, width};
}

// The pixels of a canvas that a block renders.
struct Band {
    uint8* bytes;  // [rows, columns], in shared memory
    int size;      // of the canvas
    int top, left, rows, columns;
};

// Return a band of a window. The bands are as few as `room` bytes allow and about equally high; numbers beyond them have
// no rows. A window of any size has at most as many bands as the canvas. The columns begin and end at multiples of four,
// where four bytes can be stored at once, or at the edge.
__device__ __forceinline__ Band band_of(uint8* bytes, int room, int size, const Window& window, int number) {
    int left = window.left / 4 * 4, columns = min((window.left + window.width + 3) / 4 * 4, size) - left;
    int fit = room / columns, bands = (window.height + fit - 1) / fit, rows = (window.height + bands - 1) / bands;
    return {bytes, size, window.top + number * rows, left, min(rows, window.height - number * rows), columns};
}

// Set a band to a grey; `room` allows rounding up to sixteen bytes.
__device__ __forceinline__ void fill(const Band& band, int grey) {
    const uint32 four = (uint32)grey * 0x01010101u;
    int sixteens = (band.rows * band.columns + 15) / 16;
    for (int i = threadIdx.x; i < sixteens; i += blockDim.x) ((Sixteen*)band.bytes)[i] = {four, four, four, four};
}

// ------------------------------------------------------------------------------------------------------------ a line

// A line in the axis u along it (x or y, along which it is longer) and the axis v across it, both turned to where the
// line goes. Pixel i = 0 .. length of the line lies at
//
//     u + i,  v + m(i)   with   m(i) = floor((2 across i + length) / (2 length))
//
// and the band at 0 <= u < width, 0 <= v < height.
struct Line {
    int u, v, length, across, width, height;
    int origin, along, sideways;  // bytes: offset of u = v = 0, and steps along u and v
};

// Return the line from a pixel to another, counted from the band's corner.
__device__ __forceinline__ Line line_between(const Band& band, Pixel from, Pixel to) {
    const int last_x = band.columns - 1, last_y = band.rows - 1;
    int dx = to.x - from.x, dy = to.y - from.y;
    int x = dx < 0 ? last_x - from.x : from.x, step_x = dx < 0 ? -1 : 1;
    int y = dy < 0 ? last_y - from.y : from.y, step_y = dy < 0 ? -band.columns : band.columns;
    int origin = (dx < 0 ? last_x : 0) + (dy < 0 ? last_y * band.columns : 0);
    dx = abs(dx), dy = abs(dy);
    if (dx > dy) return {x, y, dx, dy, band.columns, band.rows, origin, step_x, step_y};
    return {y, x, dy, dx, band.rows, band.columns, origin, step_y, step_x};
}

// Pixels first to last of a line (none if first > last), and m and Bresenham's remainder at the first.
struct Part {
    int first, last, m, rest;
};

// Return the part of a line that lies within the band, without its last pixel, which is the first of the next line.
__device__ __forceinline__ Part all_but_the_last(const Line& line) { return {0, max(line.length, 1) - 1, 0, line.length}; }

// Return the first i with m(i) >= k, for 0 <= k <= across: 2 across i + length >= 2 length k.
template <class Unsigned>
__device__ __forceinline__ Unsigned reach(Unsigned k, Unsigned length, Unsigned across) {
    return k > 0 ? (length * (2 * k - 1) + 2 * across - 1) / (2 * across) : 0;
}

// Return the part of a line inside the band, of a line whose bounding box meets the band:
//
//     0 <= u + i < width     first >= -u,         last <= width - 1 - u
//     0 <= v + m(i) < height  first >= reach(-v),  last <  reach(height - v)
//
// The second line holds because m never falls. If it ends below height - v, it never reaches that.
template <class Unsigned>
__device__ __forceinline__ Part clip(const Line& line) {
    const Unsigned length = line.length, across = line.across;
    Unsigned before = max(-line.u, 0), low = max(-line.v, 0), after = line.width - 1 - line.u, high = line.height - line.v;
    Unsigned first = max(before, reach(low, length, across)), last = min(length, after);
    if (high <= across) last = min(last, reach(high, length, across) - 1);
    Unsigned risen = 2 * across * first + length, m = risen / (2 * length);
    return {(int)first, (int)last, (int)m, (int)(risen - 2 * length * m)};
}

// Draw a part of a line. The sign of the error, Bresenham's remainder minus its limit, decides when to step sideways.
__device__ __forceinline__ void draw(const Band& band, const Line& line, const Part& part, uint8 grey) {
    uint8* pixel = band.bytes + line.origin + (line.u + part.first) * line.along + (line.v + part.m) * line.sideways;
    int straight = 2 * line.across, diagonal = straight - 2 * line.length, error = part.rest + diagonal;
    for (int left = part.last - part.first; left >= 0; --left) {
        *pixel = grey;
        pixel += error >= 0 ? line.along + line.sideways : line.along;
        error += error >= 0 ? diagonal : straight;
    }
}

// Return where a pixel of the canvas lies, counted from the band's corner.
__device__ __forceinline__ Pixel in_band(const Band& band, Pixel at) { return {at.x - band.left, at.y - band.top}; }

// Render the part in the band of a line between two pixels, counted from the band's corner. LIMIT: bound of their
// coordinates in the canvas. The last pixel of a line that ends in the band is left to the line that begins there.
template <int LIMIT = MAX_COORDINATE>
__device__ __forceinline__ void render_line(const Band& band, Pixel from, Pixel to, uint8 grey) {
    // The signs: whether both ends, and whether an end, lie beyond an edge
    int x0 = band.columns - 1 - from.x, y0 = band.rows - 1 - from.y, x1 = band.columns - 1 - to.x, y1 = band.rows - 1 - to.y;
    if (((from.x & to.x) | (from.y & to.y) | (x0 & x1) | (y0 & y1)) < 0) return;
    bool leaves = (from.x | to.x | from.y | to.y | x0 | x1 | y0 | y1) < 0;
    const Line line = line_between(band, from, to);
    Part part = all_but_the_last(line);
    if (leaves) part = 2 * LIMIT < FAR || line.length < FAR ? clip<uint32>(line) : clip<uint64>(line);
    draw(band, line, part, grey);
}

// ----------------------------------------------------------------------------------------------------- the way out

// Copy bytes, one Word at a time.
template <class Word>
__device__ __forceinline__ void copy(const uint8* from, uint8* to, int bytes, int first, int threads) {
    for (int i = first; i < bytes / (int)sizeof(Word); i += threads) ((Word*)to)[i] = ((const Word*)from)[i];
}

// Copy a band to its place in a canvas in global memory, in words as wide as both ends allow: as a whole if it is as
// wide as the canvas, else a row per warp; with the first `threads` threads of the block, whole warps.
__device__ __forceinline__ void write(const Band& band, uint8* canvas, int threads = blockDim.x) {
    uint8* to = canvas + (int64)band.top * band.size + band.left;
    const int count = band.rows * band.columns;
    if (band.columns == band.size) {
        if (band.size % 4 == 0 && count % 16 == 0 && band.top * band.size % 16 == 0)
            copy<Sixteen>(band.bytes, to, count, threadIdx.x, threads);
        else if (band.size % 2 == 0 && count % 4 == 0 && band.top * band.size % 4 == 0)
            copy<uint32>(band.bytes, to, count, threadIdx.x, threads);
        else
            copy<uint8>(band.bytes, to, count, threadIdx.x, threads);
        return;
    }
    const int warps = (threads + 31) / 32, lanes = min(threads, 32), lane = threadIdx.x % 32;
    for (int y = threadIdx.x / 32; y < band.rows; y += warps) {
        const uint8* row = band.bytes + y * band.columns;
        if (band.size % 4 == 0)
            copy<uint32>(row, to + (int64)y * band.size, band.columns, lane, lanes);
        else
            copy<uint8>(row, to + (int64)y * band.size, band.columns, lane, lanes);
    }
}
