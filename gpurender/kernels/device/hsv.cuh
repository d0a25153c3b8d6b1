// HSV to RGB of bytes, by OpenCV's rule for rows of uint8 pixels; device/cpu_hsv.py is the reference.

#include "device/common.cuh"

struct Rgb {
    uint8 red, green, blue;

    __device__ __forceinline__ bool any() const { return (red | green | blue) != 0; }
};

// Return 255 x truncated to a byte, for x in [0, 1].
__device__ __forceinline__ uint8 byte_of(float x) { return (uint8)(int)(x * 255.0f); }

// Return 1 - s f: the product is exact in double.
__device__ __forceinline__ float rest_of(float s, float f) { return (float)(1.0 - (double)s * (double)f); }

// Return the colour of a hue (0 to 255), a saturation and a value (bytes); `unit`: sixths of a turn per unit of the hue.
__device__ __forceinline__ Rgb rgb_of(int hue, float saturation, float value, float unit) {
    const float per_byte = 1.0f / 255.0f;
    float s = saturation * per_byte, v = value * per_byte;
    float turned = (float)hue * unit;
    int sector = (int)turned;
    float f = turned - (float)sector;
    sector = sector >= 6 ? sector - 6 : sector;
    float p = v * (1.0f - s), q = v * rest_of(s, f), t = v * rest_of(s, 1.0f - f);
    float red = sector == 0 || sector == 5 ? v : sector == 1 ? q : sector == 4 ? t : p;
    float green = sector == 1 || sector == 2 ? v : sector == 0 ? t : sector == 3 ? q : p;
    float blue = sector == 3 || sector == 4 ? v : sector == 2 ? t : sector == 5 ? q : p;
    return {byte_of(red), byte_of(green), byte_of(blue)};
}
