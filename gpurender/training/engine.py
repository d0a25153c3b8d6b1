"""The engine: Accelerate's processes, devices and precision, and what a machine without memory says."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from gpurender.runtime import devices
from gpurender.training.stopping import Interrupted
from gpurender.util import checks

PRECISIONS = ("no", "bf16", "fp16")


def require_accelerate() -> None:
    """See that Accelerate can be imported.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        import accelerate.state  # noqa: F401
    except ImportError as error:
        raise RuntimeError(f"training needs accelerate: pip install 'gpurender[train]' ({error})") from None


def accelerator(device: torch.device, amp: str, accumulate: int) -> Any:
    """Return an ``accelerate.Accelerator`` on a device; with torchrun, one of its processes.

    Args:
        device: of this process; with torchrun on GPUs, Accelerate takes the one of the local rank.
        amp: ``"no"``, ``"bf16"`` or ``"fp16"``.
        accumulate: batches per optimiser step.

    Raises:
        RuntimeError: Accelerate is not installed.
    """
    require_accelerate()
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state()  # an earlier training of this process may have had another precision
    GradientState._reset_state()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=amp, gradient_accumulation_steps=accumulate)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """End the processes of torchrun together: after the block all wait for each other and close their connections.

    A process that exits with open connections aborts now and then (2 of 12 runs of two processes, torch 2.14 with
    Gloo), and torchrun then kills the others and reports a failure. After an error the block is left at once: the
    others may never come.
    """
    stopped: Interrupted | None = None
    try:
        yield
    except Interrupted as error:  # which all processes have agreed upon
        stopped = error
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    if stopped is not None:
        raise stopped


def precision(amp: str | None, device: torch.device) -> str:
    """Return the precision: the given one; else bfloat16 on a GPU that has it, float16 on another, none on a CPU."""
    if amp is not None:
        checks.choice("amp", amp, PRECISIONS)
        if amp == "fp16" and device.type == "cpu":
            raise ValueError("amp must be 'no' or 'bf16' on a CPU, got 'fp16'")
        return amp
    if not devices.on_gpu(device):
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


@contextlib.contextmanager
def explained(images: int, device: torch.device) -> Iterator[None]:
    """Turn an error of missing memory into one line that says what helps."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(images, device) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise _too_large(images, device) from error
        raise


class TooLargeError(RuntimeError):
    """The memory of the device is too small for what is trained."""


def _too_large(images: int, device: torch.device) -> TooLargeError:
    return TooLargeError(
        f"out of memory on {device} with {images} images per step and process: "
        "--accumulate N takes an N-th of them at once, a smaller --batch-size or --image-size takes less"
    )
