"""The interface of an augmentation policy: a value with two pure functions, draw and apply."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import torch

from gpurender.augment.normalise import HALVES, Triple
from gpurender.augment.parameters import Parameters
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.runtime.image_formats import ImageFormat
from gpurender.runtime.tensors import ordinary
from gpurender.util import checks

ImagesT_co = TypeVar("ImagesT_co", covariant=True)  # the result of apply: a tensor, or a list of one per view
LAUNCHING = ("draw", "apply", "_apply", "targets")  # methods whose launches a CUDA graph may hold


class Policy(abc.ABC, Generic[ImagesT_co]):
    """An augmentation as data: drawing is separate from applying, so parameters can be inspected, stored and replayed.

    A user's policy defines ``draw`` and ``apply``. It may be a subclass or any other object with these two methods, and
    may override any of the attributes and methods below. A type checker takes the type of a loader's images from
    ``apply``: ``class Mine(gr.augment.Policy[torch.Tensor])`` declares that it is one tensor.

    Attributes:
        views: number of views per sample, which ``apply`` returns as a list; 0: one image, not in a list.
        num_aug_repeats: number of times in a row that a sample is shown; 0 or 1: once.
        soft: whether targets are soft, or samples are mixed.
        mean, std: of the three channels: the value that became 0, and the distance from it that became 1.
        capturable: True declares that on a GPU ``draw``, ``apply`` and ``targets`` launch the same kernels for all
            batches of one size, and neither wait for the GPU nor read from it (``.item()``, ``int(t)``, ``t[mask]``,
            ``if t.any():``) nor copy to it from the host. The loader then captures them in a CUDA graph, which saves
            host time; otherwise they are launched one by one. A class that overrides one of the three methods must
            declare it again.
        takes_bits: True declares that ``apply`` begins with ``crop_resize``, which takes canvases of one bit per pixel
            as well (:class:`gpurender.kernels.resized_crop.BitCanvases`). It is taken from the policy's own class
            alone, because a subclass may look at the canvases first; an object that is no ``Policy`` gets bytes.
        takes_windows: True declares that ``apply`` reads of each canvas only the box ``parameters["boxes"]``, int32
            ``[N, 4]``: top, left, height, width, inside the canvas. The other pixels are then undefined, because they
            need not be rendered. Like ``takes_bits``, it is taken from the policy's own class alone.
    """

    views: int = 0
    num_aug_repeats: int = 0
    soft: bool = False
    mean: Triple = HALVES
    std: Triple = HALVES
    capturable: bool = False
    takes_bits: bool = False
    takes_windows: bool = False

    @property
    def class_name(self) -> str:
        """The name of the policy's class, for messages."""
        return type(self).__name__

    @abc.abstractmethod
    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Draw every parameter of every sample: a pure function of ``(seed, draw id)``, the same bits on every machine.

        Args:
            numbers: draw ids, unsigned 64-bit ``[N]``: an int, a list, a NumPy array or a torch tensor of integers.
            seed: unsigned 64-bit key.
            canvas_size, image_size: sides of the canvases and of the images in pixels.

        Returns:
            Tensors, all with N as their first length: on the GPU if ``numbers`` is a tensor there (then nothing waits
            for the GPU, and the bits are the same), else on the CPU.
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
    ) -> ImagesT_co:
        """Apply drawn parameters. The bytes before normalisation are exact for every device and ``dtype``.

        Args:
            canvases: uint8 ``[N, 1 or 3, S, S]``.
            parameters: the return value of :meth:`draw` for N draw ids and canvases of this size (and, if anything is
                mixed or erased, for images of this size), on any device.
            image_size: side of the images in pixels.
            dtype: float32, float16, bfloat16 or float64; the arithmetic is float32's.
            memory_format: ``torch.contiguous_format`` or ``torch.channels_last``.

        Returns:
            Normalised images ``[N, 3, image_size, image_size]`` of ``dtype`` on the canvases' device; with several
            views a list of such tensors.
        """
        side = checks.integer("image_size", image_size, 1, MAX_SIDE)
        return self._apply(canvases, parameters, ImageFormat(side, dtype, memory_format))

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> ImagesT_co:
        """Implement :meth:`apply`, for a format whose size is checked."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def _begin(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> Any:
        """Do what :meth:`apply` does; a subclass may leave last launches to the caller (:func:`begin`)."""
        return self.apply(canvases, parameters, **image.keywords())

    def targets(self, labels: torch.Tensor, parameters: Parameters, classes: int) -> torch.Tensor:
        """Return the targets of a batch, which replace its labels."""
        return labels

    def at_epoch(self, epoch: int) -> "Policy":
        """Return the policy of an epoch."""
        return self

    def unmixed(self) -> "Policy":
        """Return the policy that mixes nothing, which is used while ``loader.mixup_enabled`` is False."""
        return self

    def check_sizes(self, canvas_size: int, image_size: int) -> None:
        """Refuse sizes for which no parameters can be drawn."""


def begin(policy: Policy, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> Any:
    """Do what ``policy.apply`` does, except for the last launch if the policy can leave it to the caller.

    A policy can if its class has a method ``_begin``, which returns the last launch: a function without arguments that
    makes the images. The method is not used if a subclass of that class has overridden ``apply``.

    Returns:
        For one image per sample a tensor or a last launch, for several views a list of them.
    """
    for kind in type(policy).__mro__:
        if "_begin" in vars(kind):
            return policy._begin(canvases, parameters, image)
        if "apply" in vars(kind) or "_apply" in vars(kind):
            break
    return policy.apply(canvases, parameters, **image.keywords())


def finished(made: Iterable[Any]) -> tuple[torch.Tensor, ...]:
    """Return tensors, those of last launches (:func:`begin`) after launching these."""
    return tuple(one if isinstance(one, torch.Tensor) else one() for one in made)


def in_short(policy: Any) -> str:
    """Return a policy with the parameters that differ from their defaults, for texts of one line."""
    if policy.views:
        return f"{policy.class_name} of {policy.views} views"
    kind, values = type(policy), []
    if dataclasses.is_dataclass(kind) and policy.class_name == kind.__name__:  # else it is an adapted object
        for field in dataclasses.fields(kind):
            value = getattr(policy, field.name)
            if repr(value) != repr(field.default):
                values.append(f"{field.name}={checks.shown(value)}")
    return f"{policy.class_name}({', '.join(values)})"


def capturable(policy: Any) -> bool:
    """Return whether a policy is declared capturable (:class:`Policy`) for the methods that it has.

    A declaration does not cover methods that a subclass of the declaring class has overridden.

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
    return True  # declared by the object itself


def declares_bits(policy: Any) -> bool:
    """Return whether a policy's own class, not one that it inherits from, declares ``takes_bits``."""
    return bool(vars(type(policy)).get("takes_bits", False))


def windows(policy: Any, parameters: Parameters) -> torch.Tensor | None:
    """Return the only pixels of each canvas that a policy reads, or ``None`` if its own class declares none.

    Args:
        policy: a policy.
        parameters: its drawn parameters.
    """
    return parameters["boxes"] if vars(type(policy)).get("takes_windows", False) else None
