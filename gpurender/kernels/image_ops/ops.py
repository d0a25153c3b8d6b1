"""The table of image operations: one row per operation, read by both sides and by the policies."""

from enum import IntEnum
from typing import NamedTuple

ANY = (-1e6, 1e6)  # of arguments
FROM_ZERO = (0.0, 1e6)


class Kind(IntEnum):
    """Which bytes decide a byte of the result, and so which kernel does an operation."""

    COPY = 0  # it alone: the result is a copy
    LUT = 1  # it alone, by a table of 256 bytes per band
    PIXEL = 2  # the bands of its pixel; an image of one band stays as it is
    STENCIL = 3  # the 3 x 3 pixels around it
    BLUR = 4  # a stretch of its row, then of its column
    AFFINE = 5  # those from elsewhere, interpolated


class Spec(NamedTuple):
    """A row of the table.

    Attributes:
        kind: which kernel does it.
        limits: the lowest and the highest argument; ``None`` where it takes none.
        names: timm's names for it.
        whole: timm's functions take integers only.
    """

    kind: Kind
    limits: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    whole: bool = False


COPIED = Spec(Kind.COPY)


class Operation(IntEnum):
    """What may be done to an image. The comment names the argument; the formulas are in the ``cpu_*.py`` files.

    Codes are stored with drawn parameters, so none of them changes: a new operation of any kind goes to the end. There
    is room for 31, one per bit of a mask.
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
    # bits that are kept
    POSTERIZE = 4, Spec(Kind.LUT, (0.0, 8.0), ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"), whole=True)
    SOLARIZE = 5, Spec(Kind.LUT, ANY, ("Solarize", "SolarizeIncreasing"))  # threshold: bytes from there on are inverted
    SOLARIZE_ADD = 6, Spec(Kind.LUT, FROM_ZERO, ("SolarizeAdd",), whole=True)  # what is added to bytes below 128
    BRIGHTNESS = 7, Spec(Kind.LUT, FROM_ZERO, ("Brightness", "BrightnessIncreasing"))  # factor: 0 black, 1 the image
    CONTRAST = 8, Spec(Kind.LUT, FROM_ZERO, ("Contrast", "ContrastIncreasing"))  # factor: 0 the mean grey, 1 the image
    # factor: 0 the grey image, 1 the image
    COLOR = 9, Spec(Kind.PIXEL, FROM_ZERO, ("Color", "ColorIncreasing", "Desaturate"))
    HUE = 10, Spec(Kind.PIXEL, (-0.5, 0.5))  # by how many turns
    # factor: 0 smoothed, 1 the image
    SHARPNESS = 11, Spec(Kind.STENCIL, FROM_ZERO, ("Sharpness", "SharpnessIncreasing"))
    # radius (standard deviation) in pixels: Pillow's, three box blurs per axis
    GAUSSIAN_BLUR = 12, Spec(Kind.BLUR, (0.0, 64.0), ("GaussianBlur", "GaussianBlurRand"))
    GAUSSIAN_KERNEL = 13, Spec(Kind.BLUR, (0.1, 2.0))  # standard deviation in pixels: torchvision's, 23 x 23 pixels
    ROTATE = 14, Spec(Kind.AFFINE, ANY, ("Rotate",))  # degrees, counter-clockwise
    SHEAR_X = 15, Spec(Kind.AFFINE, ANY, ("ShearX",))  # pixels to the left for each pixel down
    SHEAR_Y = 16, Spec(Kind.AFFINE, ANY, ("ShearY",))  # pixels up for each pixel to the right
    TRANSLATE_X = 17, Spec(Kind.AFFINE, ANY, ("TranslateX",))  # pixels to the left
    TRANSLATE_Y = 18, Spec(Kind.AFFINE, ANY, ("TranslateY",))  # pixels up
    TRANSLATE_X_REL = 19, Spec(Kind.AFFINE, ANY, ("TranslateXRel",))  # widths to the left
    TRANSLATE_Y_REL = 20, Spec(Kind.AFFINE, ANY, ("TranslateYRel",))  # heights up


BY_NAME = {name: operation for operation in Operation for name in operation.spec.names}
