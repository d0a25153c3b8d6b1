"""The parameters of a texture, and the addresses of its noise, as both implementations have them."""

from typing import NamedTuple

STEP_BITS = 27  # bits of a noise block that count within a step
CORNERS = 31  # the step that the corners are drawn at, after all others: 8192 pixels take 2 x 13 steps


class Texture(NamedTuple):
    """The parameters of one texture, the columns of ``parameters``.

    Attributes:
        decay: factor of the noise's amplitude from level to level, 0 to 1.
        hue_scale, hue_shift, saturation_scale, saturation_shift, value_scale, value_shift: of the bytes as functions of
            the height; at most 255.
    """

    decay: float
    hue_scale: float
    hue_shift: float
    saturation_scale: float
    saturation_shift: float
    value_scale: float
    value_shift: float


PARAMETERS = Texture._fields


def levels(size: int) -> int:
    """Return the number of levels: the grid of ``2**levels + 1`` points holds a canvas of ``size`` pixels."""
    return (size - 1).bit_length()
