"""The table of image operations: one row per operation, read by both implementations and by the policies."""

from enum import IntEnum
from typing import NamedTuple

ANY = (-1e6, 1e6)  # limits of arguments
FROM_ZERO = (0.0, 1e6)


class Kind(IntEnum):
    """The bytes that decide a byte of the result, and so the kernel that performs the operation."""

    COPY = 0  # the same byte: the result is a copy
    LUT = 1  # the same byte, by a table of 256 bytes per channel
    PIXEL = 2  # the channels of its pixel; an image with one channel stays unchanged
    STENCIL = 3  # the 3 x 3 pixels around it
    BLUR = 4  # a stretch of its row, then of its column
    AFFINE = 5  # pixels from elsewhere, interpolated


class Spec(NamedTuple):
    """A row of the table.

    Attributes:
        kind: the kind, which says which kernel performs the operation.
        limits: the lowest and the highest argument; ``None`` if the operation takes none.
        names: timm's names for the operation.
        whole: whether timm's functions take only integers.
    """

    kind: Kind
    limits: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    whole: bool = False


COPIED = Spec(Kind.COPY)


class Operation(IntEnum):
    """The image operations. The comments name the arguments; the formulas are in the ``cpu_*.py`` files.

    Codes are stored with drawn parameters, so they never change: a new operation of any kind goes to the end. There is
    room for 31 codes, one per bit of a mask.
    """

    spec: Spec

    def __new__(cls, code: int, spec: Spec = COPIED) -> "Operation":
        operation = int.__new__(cls, code)
        operation._value_, operation.spec = code, spec
        return operation

    IDENTITY = 0, COPIED
    AUTO_CONTRAST = 1, Spec(Kind.LUT, None, ("AutoContrast",))
    EQUALIZE = 2, Spec(Kind.LUT, None, ("Equalize",))
    INVERT = 3, Spec(Kind.LUT, None, ("Invert",))
    # number of bits that are kept
    POSTERIZE = 4, Spec(Kind.LUT, (0.0, 8.0), ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"), whole=True)
    SOLARIZE = 5, Spec(Kind.LUT, ANY, ("Solarize", "SolarizeIncreasing"))  # threshold: this byte and above are inverted
    SOLARIZE_ADD = 6, Spec(Kind.LUT, FROM_ZERO, ("SolarizeAdd",), whole=True)  # value added to bytes below 128
    BRIGHTNESS = 7, Spec(Kind.LUT, FROM_ZERO, ("Brightness", "BrightnessIncreasing"))  # factor: 0 black, 1 the image
    CONTRAST = 8, Spec(Kind.LUT, FROM_ZERO, ("Contrast", "ContrastIncreasing"))  # factor: 0 the mean grey, 1 the image
    # factor: 0 the grey image, 1 the image
    COLOR = 9, Spec(Kind.PIXEL, FROM_ZERO, ("Color", "ColorIncreasing", "Desaturate"))
    HUE = 10, Spec(Kind.PIXEL, (-0.5, 0.5))  # shift in turns
    # factor: 0 smoothed, 1 the image
    SHARPNESS = 11, Spec(Kind.STENCIL, FROM_ZERO, ("Sharpness", "SharpnessIncreasing"))
    # radius (standard deviation) in pixels: Pillow's, three box blurs per axis
    GAUSSIAN_BLUR = 12, Spec(Kind.BLUR, (0.0, 64.0), ("GaussianBlur", "GaussianBlurRand"))
    GAUSSIAN_KERNEL = 13, Spec(Kind.BLUR, (0.1, 2.0))  # standard deviation in pixels: torchvision's, 23 x 23 pixels
    ROTATE = 14, Spec(Kind.AFFINE, ANY, ("Rotate",))  # degrees, counter-clockwise
    SHEAR_X = 15, Spec(Kind.AFFINE, ANY, ("ShearX",))  # pixels to the left per pixel down
    SHEAR_Y = 16, Spec(Kind.AFFINE, ANY, ("ShearY",))  # pixels up per pixel to the right
    TRANSLATE_X = 17, Spec(Kind.AFFINE, ANY, ("TranslateX",))  # pixels to the left
    TRANSLATE_Y = 18, Spec(Kind.AFFINE, ANY, ("TranslateY",))  # pixels up
    TRANSLATE_X_REL = 19, Spec(Kind.AFFINE, ANY, ("TranslateXRel",))  # widths to the left
    TRANSLATE_Y_REL = 20, Spec(Kind.AFFINE, ANY, ("TranslateYRel",))  # heights up


BY_NAME = {name: operation for operation in Operation for name in operation.spec.names}
