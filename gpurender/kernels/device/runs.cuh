// Runs: a block renders a run of the pixels of one image. The host's side is in runs.py.

#include "device/common.cuh"

// Pixels `first` to `last` - 1 of image `image`. An image has `parts` blocks of `run` pixels; its last one may have fewer.
struct Run {
    int64 image;
    int first, last;

    __device__ __forceinline__ Run(int pixels, int run, int parts)
        : image(blockIdx.x / parts), first((blockIdx.x % parts) * run), last(min(first + run, pixels)) {}
};
