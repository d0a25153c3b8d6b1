"""PixMix: mixes pictures drawn by formulas into a batch of a user's own images."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from gpurender.augment.pixmix_draws import ALL_OPERATIONS, OPERATIONS, Draws, Law, draw
from gpurender.kernels.image_ops import Operation, apply_ops
from gpurender.kernels.resized_crop import BILINEAR, crop_resize
from gpurender.runtime.cuda_streams import pinned
from gpurender.runtime.tensors import ordinary, readable
from gpurender.util import checks, keywords

DTYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.float64)
MAX_ROUNDS = 64
MAX_STEP = 2**32 - 1
MAX_PICTURES = 2**32  # one word chooses the picture
LEAST = 1e-37  # what a factor of a product is at least: the released program's, as 0 has no negative power
HOST_PIXELS, GPU_PIXELS = 1 << 17, 1 << 26  # mixed at once: what a core's cache holds, 800 MB of float32


class Pictures(Protocol):
    """What :class:`PixMix` needs of a :class:`gpurender.Renderer`."""

    @property
    def recipe(self) -> Any: ...
    @property
    def device(self) -> torch.device: ...
    def render(self, indices: torch.Tensor, draw_ids: torch.Tensor, fresh: bool) -> Any: ...


@keywords.checked
@dataclass(frozen=True)
class PixMix:
    """Mix structured pictures and augmented copies into each image of a batch: PixMix, without its set of pictures.

    >>> mix = gr.augment.PixMix(gr.Renderer("colorfractal-1k", device="cuda"))
    >>> for step, (images, labels) in enumerate(loader):  # your own: uint8 or float in [0, 1], [B, 3, H, W], on the GPU
    ...     images = normalise(mix(images, step))

    The released program mixes fractals and feature visualisations from a download of 1.6 GB. Here each image gets a
    picture that is drawn for it on its device, and never again. With Moiré images and their whole canvas this is
    MoireMix: ``PixMix(gr.Renderer(gr.Moire()), crop=1)``.

    The law is that of the released program (:mod:`gpurender.augment.pixmix_draws`). An augmentation is done in bytes,
    the bytes of Pillow's; everything else in float32, x and y from 0 to 1, clipped to that range after every round::

        sum       (a (2 x - 1) + b (2 y - 1) + 1) / 2
        product   (2 x)^a max(2 y, 1e-37)^b / 2

    The result is a pure function of the images, the seed and the numbers, and an image's does not depend on the rest of
    its batch. Results on a CPU and a GPU may differ by the rounding of a power. Labels are left as they are.

    Sources: Hendrycks et al., "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures" (CVPR 2022,
    https://arxiv.org/abs/2112.05135); Matsuo et al., "MoireMix: A Formula-Based Data Augmentation for Improving Image
    Classification Robustness" (2026, https://arxiv.org/abs/2603.25109).

    Args:
        pictures: a :class:`gpurender.Renderer` on the device of the images.
        k: largest number of rounds, 0 to 64.
        beta: of the weights' Beta distributions, 0.1 to 100; larger ones keep more of the image. The defaults of beta
            and severity are those for ImageNet; for CIFAR the authors use 3 and 3.
        severity: upper end of the levels of the augmentations, 0.1 to 10.
        all_ops: draw from colour, contrast, brightness and sharpness as well, which the authors leave out because
            ImageNet-C has them.
        crop: side of the window of a picture that is mixed in, as a fraction of the picture's; above 0, at most 1. The
            authors' is a window of 224 pixels of 256, at a uniform place. It is resized to the images' size.
        seed: unsigned 64-bit key.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    pictures: Pictures
    _: KW_ONLY
    k: int = 4
    beta: float = 4.0
    severity: float = 1.0
    all_ops: bool = False
    crop: float = 0.875
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.pictures, type) or not all(
            hasattr(self.pictures, name) for name in ("recipe", "device", "render")
        ):
            raise TypeError(
                f"pictures must be a renderer such as gr.Renderer('colorfractal-1k'), got {checks.shown(self.pictures)}"
            )
        checked = {
            "k": checks.integer("k", self.k, 0, MAX_ROUNDS),
            "beta": checks.real("beta", self.beta, 0.1, 100.0),
            "severity": checks.real("severity", self.severity, 0.1, 10.0),
            "all_ops": checks.boolean("all_ops", self.all_ops),
            "crop": checks.real("crop", self.crop, 0.0, 1.0),
            "seed": checks.integer("seed", self.seed, 0, checks.UINT64_MAX),
        }
        if checked["crop"] == 0.0:
            raise ValueError(f"crop must be above 0 and at most 1, got {checks.shown(self.crop)}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @ordinary
    @torch.no_grad()
    def __call__(self, images: torch.Tensor, numbers: Any) -> torch.Tensor:
        """Mix a batch.

        Args:
            images: uint8, or floating with values from 0 to 1 (not normalised), ``[B, 3, H, W]``. On a GPU the values
                are clipped instead of checked.
            numbers: the number of the call, 0 to 2^32 - 1: image i then has the number 2^32 x call + i. Several
                processes take ``step * world_size + rank``. Or one number per image, unsigned 64-bit integers ``[B]``
                on the host: its number in the stream of samples, say.

        Returns:
            A new tensor of the images' dtype, shape and device; uint8 is rounded.

        Raises:
            TypeError, ValueError: naming the argument, its value and what is allowed.
        """
        images = self._checked(images)
        ids = _numbers(numbers, len(images))
        if not images.numel():
            return images.clone()
        operations = ALL_OPERATIONS if self.all_ops else OPERATIONS
        height, width = images.shape[2:]
        pictures = min(len(self.pictures.recipe), MAX_PICTURES)
        law = Law(
            self.seed, pictures, self.k, self.beta, self.severity, operations, (height, width)
        )  # fmt: skip
        drawn = draw(ids, law)
        sources, which = self._sources(images, drawn, operations)
        out = torch.empty_like(images)
        most = max(1, (HOST_PIXELS if readable(images) else GPU_PIXELS) // (height * width))
        for begin in range(0, len(images), most):
            rows = slice(begin, begin + most)
            mixed = _mixed(images[rows], sources, which[rows], drawn, rows)
            out[rows] = _bytes(mixed) if out.dtype == torch.uint8 else mixed
        return out

    def _checked(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images, contiguous; refuse what is no batch of images on the pictures' device."""
        allowed = f"uint8 or floating [B, 3, H, W] on {self.pictures.device}, the device of the pictures"
        if not isinstance(images, torch.Tensor):
            raise TypeError(f"images must be {allowed}, got {type(images).__name__}")
        got = f"{images.dtype} {list(images.shape)} on {images.device}"
        if images.dtype not in DTYPES:
            raise TypeError(f"images must be {allowed}, got {got}")
        if images.dim() != 4 or images.shape[1] != 3 or images.device != self.pictures.device:
            raise ValueError(f"images must be {allowed}, got {got}")
        if images.dtype != torch.uint8 and images.numel() and readable(images):
            low, high = float(images.amin()), float(images.amax())
            if not (low >= 0.0 and high <= 1.0):  # NaN, too
                raise ValueError(
                    f"images must lie in [0, 1], before any normalisation, got values from {low:g} to {high:g}"
                )
        return images.contiguous()

    def _sources(
        self, images: torch.Tensor, drawn: Draws, operations: tuple[Operation, ...]
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Return all that is mixed in: augmented copies, then pictures, uint8 ``[M + P, 3, H, W]``; and the number of
        each slot's, int64 ``[N, k + 1]``, -1 for an image that is not augmented and for rounds that do not happen.
        """
        slots = np.arange(self.k + 1)
        happens = slots <= drawn.rounds[:, None]  # [N, k + 1]
        copied = happens & (drawn.operations != 0)
        pictured = happens & (drawn.operations == 0) & (slots > 0)
        which = np.where(copied, np.cumsum(copied).reshape(copied.shape) - 1, -1)
        shown = np.flatnonzero(pictured.any(1))
        number = np.zeros(len(images), np.int64)
        number[shown] = copied.sum() + np.arange(len(shown))
        which = np.where(pictured, number[:, None], which)
        parts = [self._copies(images, drawn, copied, operations), self._pictures(images, drawn, shown)]
        return torch.cat(parts), which

    def _copies(
        self, images: torch.Tensor, drawn: Draws, copied: np.ndarray, operations: tuple[Operation, ...]
    ) -> torch.Tensor:
        """Return the augmented copies, row by row, uint8 ``[M, 3, H, W]``; copied: bool ``[N, k + 1]``."""
        device = images.device
        rows = _sent(np.nonzero(copied)[0], device)
        codes = _sent(drawn.operations[copied][:, None], device)
        arguments = _sent(drawn.arguments[copied][:, None], device)
        filters = torch.full((len(rows), 1), BILINEAR, dtype=torch.uint8, device=device)
        return apply_ops(_bytes(images)[rows], codes, arguments, filters, (0, 0, 0), operations)

    def _pictures(self, images: torch.Tensor, drawn: Draws, shown: np.ndarray) -> torch.Tensor:
        """Return the windows of the pictures of rows ``shown``, int64 ``[P]``: uint8 ``[P, 3, H, W]``."""
        device, (height, width) = images.device, images.shape[2:]
        if not len(shown):
            return torch.empty((0, 3, height, width), dtype=torch.uint8, device=device)
        canvases = self.pictures.render(
            _sent(drawn.pictures[shown], device), _sent(drawn.picture_ids[shown], device), True
        )  # [P, 1 or 3, S, S]
        boxes = windows(drawn.places[shown], canvases.shape[-1], self.crop, (height, width))
        flips = torch.zeros((len(shown), 2), dtype=torch.bool, device=device)
        filters = torch.full((len(shown),), BILINEAR, dtype=torch.uint8, device=device)
        return crop_resize(canvases, _sent(boxes, device), flips, filters, (height, width)).expand(-1, 3, -1, -1)


def windows(places: np.ndarray, side: int, crop: float, size: tuple[int, int]) -> np.ndarray:
    """Return windows of pictures: top, left, height, width, int32 ``[P, 4]``.

    The longer side of a window is the fraction ``crop`` of the picture's; its shape is that of the images.

    Args:
        places: words, int64 ``[P, 2]``.
        side: side of the pictures in pixels.
        crop: that fraction.
        size: height and width of the images.
    """
    scale = side * crop / max(size)
    shape = np.array([min(side, max(1, int(scale * length + 0.5))) for length in size])
    corners = places * (side - shape + 1) >> 32
    return np.concatenate([corners, np.broadcast_to(shape, corners.shape)], 1).astype(np.int32)


def added(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of float32 ``[n, 3, H, W]``, about the middle grey; weights ``[n, 1, 1, 1]``."""
    return (x * 2.0 - 1.0).mul_(a).add_((y * 2.0 - 1.0).mul_(b)).add_(1.0).div_(2.0)


def multiplied(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the weighted geometric product of float32 ``[n, 3, H, W]``; weights ``[n, 1, 1, 1]``."""
    return (x * 2.0).pow_(a).mul_((y * 2.0).clamp_(min=LEAST).pow_(b)).div_(2.0)


def _mixed(images: torch.Tensor, sources: torch.Tensor, which: np.ndarray, drawn: Draws, rows: slice) -> torch.Tensor:
    """Return the images of ``rows``, mixed, float32 ``[n, 3, H, W]``; which: int64 ``[n, k + 1]``."""
    device = images.device
    mixed = _unit(images) if images.dtype == torch.uint8 else images.to(torch.float32, copy=True).clamp_(0.0, 1.0)

    def take(there: np.ndarray, slot: int) -> torch.Tensor:
        return _unit(sources[_sent(which[there, slot], device)])

    if len(there := np.flatnonzero(which[:, 0] >= 0)):
        mixed.index_copy_(0, _sent(there, device), take(there, 0))
    for slot in range(1, which.shape[1]):
        for multiplies, mixer in ((False, added), (True, multiplied)):
            there = np.flatnonzero((which[:, slot] >= 0) & (drawn.multiplies[rows, slot] == multiplies))
            if not len(there):
                continue
            places = _sent(there, device)
            a, b = _sent(drawn.weights[rows][there, slot], device)[:, :, None, None, None].unbind(1)
            mixed.index_copy_(0, places, mixer(mixed[places], take(there, slot), a, b).clamp_(0.0, 1.0))
    return mixed


def _sent(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return values of the host on a device, without waiting for it."""
    return pinned(torch.from_numpy(np.ascontiguousarray(values)), device).to(device, non_blocking=True)


def _unit(images: torch.Tensor) -> torch.Tensor:
    """Return bytes as float32 in [0, 1]."""
    return images.to(torch.float32).div_(255.0)


def _bytes(images: torch.Tensor) -> torch.Tensor:
    """Return images as bytes: unchanged, or rounded from [0, 1]."""
    if images.dtype == torch.uint8:
        return images
    return images.to(torch.float32).clamp(0.0, 1.0).mul_(255.0).add_(0.5).to(torch.uint8)


def _numbers(numbers: Any, count: int) -> np.ndarray:
    """Return the numbers of images, uint64 ``[count]``."""
    if isinstance(numbers, torch.Tensor) and numbers.device.type != "cpu":
        raise ValueError(f"numbers must be on the host, got a tensor on {numbers.device}")
    if np.ndim(numbers) == 0:
        call = checks.integer("numbers", numbers, 0, MAX_STEP)
        return (np.uint64(call) << np.uint64(32)) + np.arange(count, dtype=np.uint64)
    ids = checks.integers("numbers", numbers, checks.UINT64_MAX)
    if len(ids) != count:
        raise ValueError(f"numbers must be one integer, or one for each of the {count} images, got {len(ids)}")
    return ids
