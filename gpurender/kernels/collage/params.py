"""Objects: the parameters of both implementations, and their limits."""

from dataclasses import dataclass

import torch

MAX_SIDE = 8192  # of objects and canvases
WEIGHT = 2048  # the weights of a bilinear resize are multiples of 1 / 2048, as in OpenCV
MAX_BLUR = 85  # units of 1/256 of a neighbour's weight; at 85 all three are equal


@dataclass(frozen=True)
class Objects:
    """The objects of N canvases, K of each, on one device; object k of canvas n is number n K + k.

    Attributes:
        densities: float32 ``[N K, H, H]``, 0 to 1; 0 is transparent.
        orientations: uint8 ``[N K]``, 0 to 7: flip top-bottom (1), then left-right (2), then transpose (4).
        colours: float32 ``[N K, 3]``: the hue of density 0, 0 to 255, and whole saturations and values, 0 to 255. (0,
            0, 127) is the grey of a binary image.
        places: int32 ``[N K, 3]``: top, left, and side in pixels; side 0: the object is left out.
    """

    densities: torch.Tensor
    orientations: torch.Tensor
    colours: torch.Tensor
    places: torch.Tensor

    def __post_init__(self) -> None:
        count, device = len(self.densities), self.densities.device
        height = self.densities.shape[1]
        wanted = {
            "densities": (torch.float32, (count, height, height)),
            "orientations": (torch.uint8, (count,)),
            "colours": (torch.float32, (count, 3)),
            "places": (torch.int32, (count, 3)),
        }
        for name, (dtype, shape) in wanted.items():
            given = getattr(self, name)
            if given.dtype != dtype or given.shape != shape or given.device != device:
                got = f"{given.dtype} {tuple(given.shape)} on {given.device}"
                raise ValueError(f"{name} must be {dtype} {shape} on {device}, got {got}")
        if device.type == "cpu" and count:
            self._check_values()

    def _check_values(self) -> None:
        """Refuse values for which a kernel would compute no byte, or too large a product."""
        low, high = torch.aminmax(self.densities)
        if not (low >= 0.0 and high <= 1.0):  # NaN, too
            raise ValueError(f"densities must lie in [0, 1], got {float(low):g} to {float(high):g}")
        if not ((self.colours >= 0.0) & (self.colours <= 255.0)).all():
            raise ValueError("colours must lie in [0, 255]")
        if not ((self.places[:, 2] >= 0) & (self.places[:, 2] <= MAX_SIDE)).all():
            raise ValueError(f"places must have sides in [0, {MAX_SIDE}], got {int(self.places[:, 2].max())}")
        if not (self.places[:, :2].abs() <= MAX_SIDE).all():
            raise ValueError(f"places must have tops and lefts in [-{MAX_SIDE}, {MAX_SIDE}]")

    def __len__(self) -> int:
        return len(self.densities)
