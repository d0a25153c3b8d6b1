// Where the pixels of a crop go: bytes, or entries of look-up tables, of images that are contiguous or channels last.

#include "device/common.cuh"
#include "resized_crop/taps.cuh"

// Four neighbouring entries.
template <class Entry>
struct __align__(4 * sizeof(Entry)) FourEntries {
    Entry entries[4];
};

// The image: bytes [channels, height, width] or, if there is a table lut, its entries of so many bytes; contiguous or
// channels last, strides in entries. Three `copies` of a grey image are looked up in three tables. The tables of the channels are
// `table_stride` entries apart: 256, or 0 for one table.
struct Result {
    void* image;
    const void* lut;
    int table_stride, entry_bytes, copies;
    int64 channel_stride;
    uint32 row_stride, column_stride;

    // Return what begins with another channel.
    __device__ __forceinline__ Result from(int channel) const {
        Result own = *this;
        own.image = (uint8*)image + channel * channel_stride * entry_bytes;
        own.lut = (const uint8*)lut + channel * table_stride * entry_bytes;
        return own;
    }

    // Put the bytes of two quads of lines, those below `lines`, at a place of each. The quads begin with lines line and
    // line + step. A line is a column or, if y is first, a row of the image.
    __device__ __forceinline__ void put(uint32 line, uint32 step, uint32 place, uint32 lines, bool y_first,
                                        const Eight& eight) const {
        switch (entry_bytes) {
            case 1: return put_entries<uint8>(line, step, place, lines, y_first, eight);
            case 2: return put_entries<unsigned short>(line, step, place, lines, y_first, eight);
            case 4: return put_entries<uint32>(line, step, place, lines, y_first, eight);
            default: return put_entries<uint64>(line, step, place, lines, y_first, eight);
        }
    }

  private:
    template <class Entry>
    __device__ __forceinline__ void put_entries(uint32 line, uint32 step, uint32 place, uint32 lines, bool y_first,
                                                const Eight& eight) const {
        const uint32 along = y_first ? row_stride : column_stride, other = y_first ? column_stride : row_stride;
        Entry* to = (Entry*)image + (uint64)line * along + (uint64)place * other;
        const bool fours = along == 1 && lines % 4 == 0;  // neighbours in memory, at an address of FourEntries
#pragma unroll
        for (int k = 0; k < 2; ++k, line += step, to += (uint64)step * along)
            if (fours)
                put_four(to, line < lines ? copies : 0, eight.words[k]);
            else
                put_each(to, line < lines ? min(4u, lines - line) : 0, along, eight.words[k]);
    }
    template <class Entry>
    __device__ __forceinline__ void put_four(Entry* to, int count, uint32 four) const {
        if constexpr (sizeof(Entry) == 1) {  // bytes are neither looked up nor copied
            if (count) *(uint32*)to = four;
            return;
        }
#pragma unroll 1
        for (int c = 0; c < count; ++c, to += channel_stride)
            *(FourEntries<Entry>*)to = {entry<Entry>(c, four & 255), entry<Entry>(c, four >> 8 & 255),
                                        entry<Entry>(c, four >> 16 & 255), entry<Entry>(c, four >> 24)};
    }
    template <class Entry>
    __device__ __forceinline__ void put_each(Entry* to, int count, uint32 along, uint32 four) const {
#pragma unroll 1
        for (int k = 0; k < count; ++k, to += along, four >>= 8)
#pragma unroll
            for (int c = 0; c < 3; ++c)
                if (c < copies) to[c * channel_stride] = entry<Entry>(c, four & 255);
    }
    template <class Entry>
    __device__ __forceinline__ Entry entry(int c, uint32 byte) const {
        return sizeof(Entry) == 1 ? (Entry)byte : ((const Entry*)lut)[c * table_stride + byte];
    }
};
