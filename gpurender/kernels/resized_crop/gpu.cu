// Crop, resize, flip and look up canvases of bits or of bytes: one block per canvas, one launch, no image in between.
//
// The formula is in cpu.py, and all bytes equal those of cpu.py: Pillow's weights of 22 fractional bits, its rounding,
// its order of axes. The *first* axis is the one that is summed first, x in nine of ten random resized crops. A *line*
// lies along it: a row of the window or, if y is first, a column. So one program does both orders.
//
//     window in global memory -> Lines::load (pixels.cuh) -> `source`: a batch of lines, n_in pixels each, as bytes
//     source -> sum_along (taps.cuh) -> `between`: the lines of a strip, n_out pixels each
//     between -> sum_across -> a strip of the image (result.cuh): rows or, if y is first, columns
//
// Bits and bytes differ in `load` alone. The channels of a canvas share the taps: a strip does one after the other.
// Every sum is of integers and is made by one thread, so nothing depends on the order of threads.
//
// **Numbers** of the mean random crop, bicubic, in thousand warp instructions per image: static counts in machine code
// for sm_90 times trip counts, a model, not measured on a GPU. The bytes were resized by two Triton passes before.
//
//     canvas -> image of 224 x 224        before                          tables  load  along  across     all
//     512 x 512 bits -> bytes                                                 13    25     66      40     144
//     512 x 512 bytes -> bytes            22 + 240 + 103 = 364                13    28     66      40     146
//        -> three copies of 16 bits       22 + 240 + 111 = 372                13    28     66      72     179
//     3 x 256 x 256 bytes -> bytes        17 + 370 + 300 = 687                 9    34     90     105     239
//        -> 16 bits                       17 + 370 + 300 = 687                 9    34     90     151     285
//
// 144 thousand take four schedulers 36,000 cycles. The mean crop of 512 x 512 pixels has 343 x 343 of them, in 4.1
// strips, which sum 370 lines, because neighbours share some; an output has 7 taps in 3 words. 35,000 instructions are
// dp4a (17,000 cycles at 16 lanes per cycle), shared memory moves 19,000 wavefronts. 33 instructions multiply four taps
// of eight pixels: 24 dp4a, three loads of 16 bytes. They need 40 registers, so everything that is the same in all
// threads is in shared memory.
//
// **Blocks** of 256 threads, so that four of them, each in another phase, share a multiprocessor of an A100 or Hopper:
// at most 64 registers, nothing spilled, 40 KB of shared memory on an A100 (source 4, between 18) and 56 KB on Hopper
// (tables 14 and 4, source 8, between 30); 49 KB and two blocks on Ada. All of `between` would take 77 KB. gpu_room.py
// divides the memory: where it is short, fewer blocks share a multiprocessor and strips are smaller. Shared memory is
// enough for images of up to 1,761 x 1,761 pixels on Ada and 4,104 on Hopper from canvases as large, for canvases of
// 2,720 and 6,720 pixels shrunk to 224, and of 968 and 2,230 shrunk to one. For others the same program works in device
// memory (resized_crop_large), slowly.
//
// A launch with one thread per block is correct: every loop strides by blockDim.x, all threads reach every barrier.

#include "device/common.cuh"
#include "resized_crop/pixels.cuh"
#include "resized_crop/result.cuh"
#include "resized_crop/taps.cuh"

constexpr int THREADS = 256;

// ----------------------------------------------------------------------------------------------------------- the plan

// Memory of a block, chosen by gpu_room.py: tables of `table` taps, and of `words` for each of `strip` outputs;
// `source` and `between` of so many quads, each with `words` more that may be read.
struct Room {
    int table, words, strip, source, between;

    __device__ int64 units() const { return table + (int64)words * strip + source + between + 2 * words; }
};

// What all threads of a block know. In shared memory, set by one thread: a sum needs the registers.
template <class Lines>
struct Plan {
    bool y_first;
    Axis first, second;
    Lines lines;
    int stride, batch;   // of `source`: quads of a line (odd), lines
    int pairs, column;   // of `between`: pairs of quads of lines, quads of a line (odd)
    int outputs;         // of a strip: so few that their lines fit into `between`
    int begin, end;      // of the strip at hand: its places along the second axis,
    int top, last;       // and its lines

    __device__ void set(const Crop& crop, const uint8* flips, int filter, int height, int width, const Room& room) {
        y_first = crop.y_first;
        Axis &y = y_first ? first : second, &x = y_first ? second : first;
        y.set(crop.height, height, flips[1], filter), x.set(crop.width, width, flips[0], filter);

        stride = (lines.length + 31) / 32 * 8 + 1, batch = room.source / stride / 2 * LINES;
        pairs = (first.n_out + LINES - 1) / LINES, column = (room.between / (2 * pairs) - 1) | 1;
        // 4 (column - 1) is a multiple of LINES. n outputs need (n - 1) scale + most_taps + 1 lines; one more is safe.
        const double more = (4 * (column - 1) - second.most_taps - 2) / second.scale;
        outputs = more < room.strip - 1 ? 1 + (int)more : room.strip;
        end = 0;
    }
    __device__ void set_next_strip() {
        begin = end, end = min(begin + outputs, second.n_out);
        top = second.span(second.output(second.flipped ? end - 1 : begin)).first;
        last = second.span(second.output(second.flipped ? begin : end - 1)).end - 1;
    }
};

// ---------------------------------------------------------------------------------------------------------- the sums

// Sum along lines: from a batch of lines of `source`, the first of which is `line`, to `between`.
template <class Lines>
__device__ __forceinline__ void sum_along(const Plan<Lines>& plan, const Taps* table, const Quad* source, int line,
                                          int groups, Quad* between) {
    const Divisor outputs(plan.first.n_out);
    for (uint32 item = threadIdx.x; item < groups * outputs.n; item += blockDim.x) {
        const uint32 group = outputs.quotient(item), i = item - group * outputs.n;
        const Quad* lines = source + 2 * group * plan.stride;
        const Eight eight = sum(table + i, outputs.n, plan.first.words, lines, plan.stride);
        uint32* to = (uint32*)(between + i / 4 * plan.column + (line - plan.top) / 4 + 2 * group) + i % 4;
        to[0] = eight.words[0], to[4] = eight.words[1];
    }
}

// Sum across lines: from `between` to the strip at hand of the image. Neighbouring threads write neighbouring columns:
// of neighbouring lines or, if y is first, of neighbouring places.
template <class Lines>
__device__ __forceinline__ void sum_across(const Plan<Lines>& plan, const Taps* table, int stride, const Quad* between,
                                           const Result& result) {
    const bool y_first = plan.y_first;
    const uint32 places = plan.end - plan.begin, pairs = plan.pairs;
    const Divisor across(y_first ? places : pairs);
    for (uint32 item = threadIdx.x; item < pairs * places; item += blockDim.x) {
        const uint32 outer = across.quotient(item), inner = item - outer * across.n;
        const uint32 quad = y_first ? outer : inner, place = y_first ? inner : outer;
        const Quad* lines = between + quad * plan.column;
        const Eight eight = sum(table + place, stride, plan.second.words, lines, pairs * plan.column);
        result.put(4 * quad, 4 * pairs, plan.begin + place, plan.first.n_out, y_first, eight);
    }
}

// Resize the channels of a crop, as its plan says: strips of outputs along the second axis, batches of lines.
template <class Lines>
__device__ __forceinline__ void resize(Taps* memory, Plan<Lines>& plan, const Room& room,
                                       const typename Lines::Element* pixels, int channels, const Result& result) {
    Taps *first_table = memory, *second_table = first_table + room.table;
    Quad* source = (Quad*)(second_table + room.words * room.strip);
    Quad* between = source + room.source + room.words;

    __syncthreads();  // the plan is there
    fill(plan.first, 0, plan.first.n_out, -plan.lines.shift, plan.first.n_out, first_table);
    for (bool more = true; more;) {
        if (threadIdx.x == 0) plan.set_next_strip();
        __syncthreads();
        fill(plan.second, plan.begin, plan.end, plan.top, room.strip, second_table);
        for (int channel = 0; channel < channels; ++channel) {
            for (int line = plan.top; line <= plan.last; line += plan.batch) {
                const int groups = (min(plan.batch, plan.last + 1 - line) + LINES - 1) / LINES;
                plan.lines.load(pixels, channel, line, plan.last, groups, plan.stride, source);
                __syncthreads();
                sum_along(plan, first_table, source, line, groups, between);
                __syncthreads();
            }
            sum_across(plan, second_table, room.strip, between, result.from(channel));
            more = plan.end < plan.second.n_out;  // read before the next strip is set
            __syncthreads();
        }
    }
}

// -------------------------------------------------------------------------------------------------------- the kernels

// Crop, resize, flip and look up canvases of one bit per pixel. blocks = N.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    resized_crop_bits(const uint32* bitmaps,      // [K, size, words]
                      const int64* which,         // [N], bitmap of each image
                      const uint8* orientations,  // [N]
                      int size,
                      const int* boxes,           // [N, 4]: top, left, height, width
                      const uint8* flips,         // [N, 2]: horizontal, vertical
                      const uint8* filters,       // [N]
                      int height, int width,
                      int table, int words, int strip, int source_quads, int between_quads,  // Room
                      const void* lut,  // [1 or 3, 256], or null: the images are bytes
                      int table_stride, int entry_bytes, int copies,
                      uint8* images,  // [N, copies, height, width] entries
                      int64 image_stride, int64 channel_stride, int row_stride, int column_stride) {
    DYNAMIC_SHARED(Taps, shared);
    __shared__ Plan<BitLines> plan;
    const int64 n = blockIdx.x;
    const Room room = {table, words, strip, source_quads, between_quads};
    if (threadIdx.x == 0) {
        const Crop crop(boxes + 4 * n, size, size, height, width);
        plan.lines.set(size, orientations[n], crop);
        plan.set(crop, flips + 2 * n, filters[n], height, width, room);
    }
    const uint32* bitmap = bitmaps + which[n] * size * ((size + 31) / 32);
    resize(shared, plan, room, bitmap, 1,
           {images + n * image_stride * entry_bytes, lut, table_stride, entry_bytes, copies, channel_stride, row_stride,
            column_stride});
}

// Crop, resize, flip and look up canvases of bytes. blocks = N.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    resized_crop_bytes(const uint8* canvases,  // [N, channels, rows, columns]
                       int channels, int rows, int columns,
                       const int* boxes,       // [N, 4]: top, left, height, width
                       const uint8* flips,     // [N, 2]: horizontal, vertical
                       const uint8* filters,   // [N]
                       int height, int width,
                       int table, int words, int strip, int source_quads, int between_quads,  // Room
                       const void* lut,  // [1 or 3, 256], or null: the images are bytes
                       int table_stride, int entry_bytes, int copies,
                       uint8* images,  // [N, channels or copies, height, width] entries
                       int64 image_stride, int64 channel_stride, int row_stride, int column_stride) {
    DYNAMIC_SHARED(Taps, shared);
    __shared__ Plan<ByteLines> plan;
    const int64 n = blockIdx.x;
    const uint8* canvas = canvases + n * channels * rows * columns;
    const Room room = {table, words, strip, source_quads, between_quads};
    if (threadIdx.x == 0) {
        const Crop crop(boxes + 4 * n, rows, columns, height, width);
        plan.lines.set(canvas, rows, columns, crop);
        plan.set(crop, flips + 2 * n, filters[n], height, width, room);
    }
    resize(shared, plan, room, canvas, channels,
           {images + n * image_stride * entry_bytes, lut, table_stride, entry_bytes, copies, channel_stride, row_stride,
            column_stride});
}

// The same in device memory, for sizes that need more shared memory than a block can have. blocks = N.
extern "C" __global__ void __launch_bounds__(THREADS)
    resized_crop_large(Taps* memory,           // [N, units]
                       const uint8* canvases,  // [N, channels, rows, columns]
                       int channels, int rows, int columns,
                       const int* boxes,       // [N, 4]: top, left, height, width
                       const uint8* flips,     // [N, 2]: horizontal, vertical
                       const uint8* filters,   // [N]
                       int height, int width,
                       int table, int words, int strip, int source_quads, int between_quads,  // Room
                       const void* lut,  // [1 or 3, 256], or null: the images are bytes
                       int table_stride, int entry_bytes, int copies,
                       uint8* images,  // [N, channels or copies, height, width] entries
                       int64 image_stride, int64 channel_stride, int row_stride, int column_stride) {
    __shared__ Plan<ByteLines> plan;
    const int64 n = blockIdx.x;
    const uint8* canvas = canvases + n * channels * rows * columns;
    const Room room = {table, words, strip, source_quads, between_quads};
    if (threadIdx.x == 0) {
        const Crop crop(boxes + 4 * n, rows, columns, height, width);
        plan.lines.set(canvas, rows, columns, crop);
        plan.set(crop, flips + 2 * n, filters[n], height, width, room);
    }
    resize(memory + n * room.units(), plan, room, canvas, channels,
           {images + n * image_stride * entry_bytes, lut, table_stride, entry_bytes, copies, channel_stride, row_stride,
            column_stride});
}
