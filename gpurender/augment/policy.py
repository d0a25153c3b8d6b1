"""What an augmentation policy is: a value with two pure functions, draw and apply."""

import abc
from typing import Any

import torch

from gpurender.augment.normalise import HALVES, Triple
from gpurender.augment.parameters import Parameters
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.runtime.image_formats import ImageFormat
from gpurender.runtime.tensors import ordinary
from gpurender.util import checks

LAUNCHING = ("draw", "apply", "_apply", "targets")  # methods whose launches a graph may hold


class Policy(abc.ABC):
    """A policy is data; drawing is separate from applying, so that parameters can be looked at, stored and replayed.

    A policy of your own defines ``draw`` and ``apply``. It may be a subclass or any other object with these two
    methods; of the attributes and methods below it may define those that it wants otherwise.

    Attributes:
        views: how many views of a sample ``apply`` returns, as a list; 0: one image, not in a list.
        num_aug_repeats: how often in a row a sample is shown; 0 or 1: once.
        soft: whether targets are soft, or samples mixed.
        mean, std: of the three channels: what became zero, what became one.
        capturable: True says that on a GPU ``draw``, ``apply`` and ``targets`` launch the same kernels for all batches
            of a size, and neither wait for the GPU nor read from it (``.item()``, ``int(t)``, ``t[mask]``,
            ``if t.any():``) nor copy to it from the host. Then the loader captures them in a CUDA graph, which spares
            the host its time. Without it they are launched one by one. A class that overrides one of the three says it
            again.
    """

    views: int = 0
    num_aug_repeats: int = 0
    soft: bool = False
    mean: Triple = HALVES
    std: Triple = HALVES
    capturable: bool = False

    @property
    def class_name(self) -> str:
        """The name of the policy's class, for messages."""
        return type(self).__name__

    @abc.abstractmethod
    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Draw every parameter of every sample: a pure function of ``(seed, number)``, the same bits on every machine.

        Args:
            numbers: unsigned 64-bit draw ids ``[N]``: an int, a list, a NumPy array or a torch tensor of integers.
            seed: unsigned 64-bit key.
            canvas_size, image_size: sides of the canvases and of the images in pixels.

        Returns:
            Tensors, all with N as their first length: on the device of numbers that are a tensor on a GPU (then nothing
            waits for it, and the bits are the same), else on the CPU.
        """

    @ordinary
    def apply(
        self,
        canvases: torch.Tensor,
        parameters: Parameters,
        *,
        image_size: int = 224,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> Any:
        """Apply drawn parameters. The bytes before normalisation are exact, whatever the device and ``dtype``.

        Args:
            canvases: uint8 ``[N, 1 or 3, S, S]``.
            parameters: what :meth:`draw` returned for N numbers and canvases of this size (and, where anything is mixed
                or erased, for images of this size), on any device.
            image_size: side of the images in pixels.
            dtype: float32, float16, bfloat16 or float64; the arithmetic is float32's.
            memory_format: ``torch.contiguous_format`` or ``torch.channels_last``.

        Returns:
            Normalised images ``[N, 3, image_size, image_size]`` of ``dtype`` on the canvases' device; of several views
            a list of them.
        """
        side = checks.integer("image_size", image_size, 1, MAX_SIDE)
        return self._apply(canvases, parameters, ImageFormat(side, dtype, memory_format))

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> Any:
        """Do what :meth:`apply` says, for a format whose size is checked."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def targets(self, labels: torch.Tensor, parameters: Parameters, classes: int) -> torch.Tensor:
        """Return the targets of a batch, in the place of its labels."""
        return labels

    def at_epoch(self, epoch: int) -> "Policy":
        """Return the policy of an epoch."""
        return self

    def unmixed(self) -> "Policy":
        """Return the policy that mixes nothing, for as long as ``loader.mixup_enabled`` is False."""
        return self

    def check_sizes(self, canvas_size: int, image_size: int) -> None:  # noqa: B027  (a default)
        """Refuse sizes that nothing can be drawn for."""


def capturable(policy: Any) -> bool:
    """Return whether a policy says so (:class:`Policy`), of the methods that it has and not of those it has overridden.

    Args:
        policy: any object with an attribute ``capturable``.
    """
    if not policy.capturable:
        return False
    for kind in type(policy).__mro__:
        if "capturable" in vars(kind):
            return True
        if any(name in vars(kind) for name in LAUNCHING):
            return "capturable" in getattr(policy, "__dict__", {})
    return True  # it is the object's own
