"""Checks of torch's keywords; those without effect in this loader are accepted and named in one line of the log."""

import logging
import multiprocessing
from multiprocessing.context import BaseContext
from typing import Any

import torch

from gpurender.util import checks

log = logging.getLogger("gpurender")

MAX_AHEAD = 64  # batches
MAX_TIMEOUT = 86_400.0  # seconds


def note_neutral(
    num_workers: Any,
    pin_memory: Any,
    worker_init_fn: Any,
    multiprocessing_context: Any,
    persistent_workers: Any,
    pin_memory_device: Any,
    in_order: Any,
) -> None:
    """Check keywords about worker processes and host memory, and log those that were set.

    This process renders the images on the device that uses them: there are no workers to start and no memory to pin,
    and batches always come in order.
    """
    checks.integer("num_workers", num_workers, 0, 2**31 - 1)
    for name, value in (
        ("pin_memory", pin_memory),
        ("persistent_workers", persistent_workers),
        ("in_order", in_order),
    ):
        checks.boolean(name, value)
    if worker_init_fn is not None and not callable(worker_init_fn):
        raise TypeError(f"worker_init_fn must be None or a callable, got {checks.shown(worker_init_fn)}")
    methods = multiprocessing.get_all_start_methods()
    if isinstance(multiprocessing_context, str):
        checks.choice("multiprocessing_context", multiprocessing_context, methods)
    elif not (multiprocessing_context is None or isinstance(multiprocessing_context, BaseContext)):
        raise TypeError(
            f"multiprocessing_context must be None, one of {methods} or a context, "
            f"got {checks.shown(multiprocessing_context)}"
        )
    if not isinstance(pin_memory_device, str):
        raise TypeError(f"pin_memory_device must be a string, got {checks.shown(pin_memory_device)}")
    given = {
        "num_workers": num_workers or None,
        "pin_memory": pin_memory or None,
        "worker_init_fn": worker_init_fn,
        "multiprocessing_context": multiprocessing_context,
        "persistent_workers": persistent_workers or None,
        "pin_memory_device": pin_memory_device or None,
        "in_order": None if in_order else False,
    }
    named = [f"{name}={checks.shown(value)}" for name, value in given.items() if value is not None]
    if named:
        log.warning(
            "%s: without effect in gpurender.DataLoader, which renders on the device, in order, without workers",
            ", ".join(named),
        )


def seed_of(seed: Any, generator: Any) -> int:
    """Return the key of order and augmentation: ``seed``, else the initial seed of ``generator``, else 0."""
    if generator is None:
        return checks.integer("seed", 0 if seed is None else seed, 0, checks.UINT64_MAX)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be None or a torch.Generator, got {checks.shown(generator)}")
    if seed is not None:
        raise ValueError(f"generator must be left out when a seed is given, got seed={checks.shown(seed)}")
    return generator.initial_seed() & checks.UINT64_MAX


def check_sampling(batch_size: int, shuffle: bool, sampler: Any, batch_sampler: Any, drop_last: bool) -> None:
    """Refuse arguments that exclude each other, as torch does; their values have been checked before."""
    if sampler is not None and shuffle:
        raise ValueError("shuffle must be left out when a sampler is given: the sampler decides the order")
    if batch_sampler is None:
        return
    given = {"batch_size": batch_size != 1, "shuffle": shuffle, "sampler": sampler is not None}
    for name, there in {**given, "drop_last": drop_last}.items():
        if there:
            raise ValueError(f"{name} must be left out when a batch_sampler is given: it decides the batches")


def checked_collate(collate_fn: Any) -> Any:
    """Return a callable that takes a list of samples: the given one, or :func:`default_collate`."""
    if collate_fn is None:
        return default_collate
    if not callable(collate_fn):
        raise TypeError(
            f"collate_fn must be None or a callable that takes a list of samples, got {checks.shown(collate_fn)}"
        )
    return collate_fn


def default_collate(samples: list[Any]) -> Any:
    """Collate samples as torch does.

    This is the ``collate_fn`` of a loader that was given none. It is called only if other code puts a torch loader over
    ``.dataset``, as Accelerate's ``skip_first_batches`` does.

    Raises:
        TypeError: torch cannot collate the samples; torch's own message would mention only Pillow's images.
    """
    try:
        return torch.utils.data.default_collate(samples)
    except TypeError as error:
        raise TypeError(
            "samples of gr.DataLoader.dataset are images without augmentation, not the loader's batches. To skip "
            "batches (accelerator.skip_first_batches), give the loader a place: loader.load_state_dict(state), or "
            f"gpurender.interop.accelerate.DataLoader and accelerator.load_state ({error})"
        ) from error


def checked_ahead(prefetch_factor: Any, timeout: Any) -> tuple[int | None, float]:
    """Return the number of batches to prefetch (``None``: the device's default) and the timeout in seconds, checked."""
    if prefetch_factor is not None:
        prefetch_factor = checks.integer("prefetch_factor", prefetch_factor, 0, MAX_AHEAD)
    return prefetch_factor, checks.real("timeout", timeout, 0.0, MAX_TIMEOUT)
