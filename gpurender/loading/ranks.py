"""Ranks: the processes that share an epoch, and the positions of a step that each of them gets."""

import os
from typing import NamedTuple

from gpurender.util import checks

MAX_RANKS = 2**31 - 1


class Ranks(NamedTuple):
    """One of ``world_size`` processes that share an epoch; ``0 <= rank < world_size``."""

    rank: int
    world_size: int


def checked(rank: int | None, world_size: int | None) -> Ranks | None:
    """Return the caller's rank and world size, checked, or ``None`` if neither is given.

    Raises:
        TypeError, ValueError: one of the two is missing, not an integer or out of range.
    """
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise ValueError(
            f"rank and world_size must be given together, got rank={checks.shown(rank)}, "
            f"world_size={checks.shown(world_size)}"
        )
    size = checks.integer("world_size", world_size, 1, MAX_RANKS)
    return Ranks(checks.integer("rank", rank, 0, size - 1), size)


def current() -> Ranks:
    """Return the current ranks: those of torch.distributed once it is initialised, else the launcher's, else (0, 1).

    torchrun sets RANK and WORLD_SIZE in the environment before any process group exists. Ignoring them would give every
    rank the same samples, without any error.

    Raises:
        ValueError: the environment names several ranks, but not which one this process is, or a number is invalid.
    """
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    size = _from_environment("WORLD_SIZE", 1, MAX_RANKS) if "WORLD_SIZE" in os.environ else 1
    if size == 1:
        return Ranks(0, 1)
    return Ranks(_from_environment("RANK", 0, size - 1), size)


def steps(length: int, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Return the number of batches of an epoch, the same on every rank.

    A step takes ``world_size * batch_size`` positions.
    """
    step = world_size * batch_size
    return length // step if drop_last else -(-length // step)


def rank_slice(position: int, length: int, batch_size: int, ranks: Ranks, drop_last: bool) -> tuple[int, int]:
    """Return the first position and the number of positions of one rank in the step that begins at ``position``.

    A full step takes the next ``world_size * batch_size`` positions and gives every rank a contiguous run of
    ``batch_size`` of them, so the ranks' batches, concatenated in rank order, are the batch of a single process
    with that batch size. An incomplete step at the end of an epoch is dropped (``drop_last``) or split into contiguous
    runs whose sizes differ by at most one. When fewer samples are left than there are ranks, the ranks without one
    take the first positions of the same epoch again, one each: every rank has the same number of batches and
    none is empty.

    The number is at most ``batch_size``, and 0 when the epoch has no (further) step.
    """
    rank, size = ranks
    left = length - position
    if left >= size * batch_size:
        return position + rank * batch_size, batch_size
    if drop_last or left <= 0:
        return position, 0
    if left >= size:
        first, end = left * rank // size, left * (rank + 1) // size
        return position + first, end - first
    return (position + rank if rank < left else (rank - left) % length), 1


def _from_environment(name: str, low: int, high: int) -> int:
    text = os.environ.get(name)
    if text is None or not text.strip().isdecimal() or not low <= int(text) <= high:
        given = "not set" if text is None else repr(text)
        raise ValueError(
            f"the environment variable {name} must be an integer in [{low}, {high}], it is {given}; "
            "initialise torch.distributed, or pass rank= and world_size= to the loader"
        )
    return int(text)
