// One-pixel lines in a band of rows of a canvas, one byte per pixel in shared memory.
//
// device/cpu_lines.py is the reference and has the formula: end points truncated toward zero, then Bresenham.

#include "device/common.cuh"

constexpr int FAR = 1 << 14;  // pixels; shorter segments clip in 32 bits: no product below exceeds 2 FAR^2 + 2 FAR
constexpr float MAX_COORDINATE = 1048576.0f;  // 2^20 pixels

struct __align__(8) Pixel {
    int x, y;
};

// Truncate toward zero, within the range in which lines are computed.
__device__ __forceinline__ int truncate(float coordinate) {
    return (int)fminf(fmaxf(coordinate, -MAX_COORDINATE), MAX_COORDINATE);
}

// The rows of a canvas that a block renders.
struct Band {
    uint8* bytes;  // [rows, size], in shared memory
    int size, first, rows;
    int count;  // rows * size
};

// Return a band of a canvas; every band except the last has `band_rows` rows.
__device__ __forceinline__ Band band_of(uint8* bytes, int size, int band_rows, int band) {
    int first = band * band_rows, rows = min(band_rows, size - first);
    return {bytes, size, first, rows, rows * size};
}

// Return the first i with floor((2 short i + long) / (2 long)) >= m, for 0 <= m <= short; long, short: length, across.
template <class Integer>
__device__ __forceinline__ Integer reach(Integer m, Integer length, Integer across) {
    return m > 0 ? (length * (2 * m - 1) + 2 * across - 1) / (2 * across) : 0;
}

// Render a one-pixel line between two points, their rows counted from the band's first row. A line that leaves the band
// is rendered from its first visible pixel to its last, both computed in closed form. Integer is unsigned: distances
// along the line, from its start.
template <class Integer>
__device__ __forceinline__ void render_line(const Band& band, Pixel from, Pixel to, bool leaves, uint8 grey) {
    int dx = abs(to.x - from.x), dy = abs(to.y - from.y);
    bool flat = dx > dy, forth = to.x >= from.x, down = to.y >= from.y;
    int step_x = forth ? 1 : -1, step_y = down ? band.size : -band.size;
    int along = flat ? step_x : step_y, sideways = flat ? step_y : step_x;
    Integer full = max(dx, dy), length = max(dx, dy) > 0 ? max(dx, dy) : 1, across = min(dx, dy);
    Integer first = 0, last = full, m = 0, rest = length;
    if (leaves) {
        int before_x = forth ? -from.x : from.x - band.size + 1, before_y = down ? -from.y : from.y - band.rows + 1;
        int after_x = forth ? band.size - 1 - from.x : from.x, after_y = down ? band.rows - 1 - from.y : from.y;
        int high = flat ? after_y : after_x;  // not negative, nor is `end`: the line's bounding box meets the band
        Integer low = max(flat ? before_y : before_x, 0), end = flat ? after_x : after_y;
        first = max(max(flat ? before_x : before_y, 0), 0);
        Integer enters = reach(low, length, across);
        first = first > enters ? first : enters;
        last = last < end ? last : end;
        if ((Integer)high < across) {
            Integer leaving = reach((Integer)high + 1, length, across) - 1;
            last = last < leaving ? last : leaving;
        }
        if (first > last) return;
        Integer height = 2 * across * first + length;
        m = height / (2 * length), rest = height - 2 * length * m;
    }
    int x = from.x + (forth ? 1 : -1) * (int)(flat ? first : m), y = from.y + (down ? 1 : -1) * (int)(flat ? m : first);
    uint8* pixel = band.bytes + (y * band.size + x);
    // Bresenham's remainder minus its limit: the sign decides when to step across
    int straight = 2 * (int)across, diagonal = straight - 2 * (int)length, error = (int)rest + diagonal;
    for (int left = (int)(last - first); left >= 0; --left) {
        *pixel = grey;
        pixel += error >= 0 ? along + sideways : along;
        error += error >= 0 ? diagonal : straight;
    }
}

// Render the part in the band of a line between two points of the canvas.
__device__ __forceinline__ void render_segment(const Band& band, Pixel from, Pixel to, uint8 grey) {
    from.y -= band.first, to.y -= band.first;
    if (max(from.y, to.y) < 0 || min(from.y, to.y) >= band.rows) return;
    if (max(from.x, to.x) < 0 || min(from.x, to.x) >= band.size) return;
    int last_x = band.size - 1, last_y = band.rows - 1;
    bool leaves = (from.x | to.x | from.y | to.y | (last_x - from.x) | (last_x - to.x) | (last_y - from.y) |
                   (last_y - to.y)) < 0;
    if (leaves && max(abs(to.x - from.x), abs(to.y - from.y)) >= FAR)
        render_line<uint64>(band, from, to, true, grey);
    else
        render_line<uint32>(band, from, to, leaves, grey);
}

// Copy bytes from shared to global memory, one Word at a time.
template <class Word>
__device__ __forceinline__ void copy(const uint8* from, uint8* to, int bytes) {
    for (int i = threadIdx.x; i < bytes / (int)sizeof(Word); i += blockDim.x) ((Word*)to)[i] = ((const Word*)from)[i];
}

// Copy a band to its rows of an image in global memory, in words as wide as both ends allow.
__device__ __forceinline__ void write(const Band& band, uint8* to) {
    if (band.size % 4 == 0 && band.count % 16 == 0)
        copy<Sixteen>(band.bytes, to, band.count);
    else if (band.size % 2 == 0 && band.count % 4 == 0)
        copy<uint32>(band.bytes, to, band.count);
    else
        copy<uint8>(band.bytes, to, band.count);
}
