"""Who else is training: this process' rank and the number of ranks."""

import os
from typing import NamedTuple

from gpurender.util import checks

MAX_RANKS = 2**31 - 1


class World(NamedTuple):
    """One of ``world_size`` processes that share an epoch; ``0 <= rank < world_size``."""

    rank: int
    world_size: int


def checked(rank: int | None, world_size: int | None) -> World | None:
    """The world that a caller names, or ``None`` if it names none.

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
    return World(checks.integer("rank", rank, 0, size - 1), size)


def current() -> World:
    """The world of this moment: torch.distributed's once it is initialised, else the launcher's, else (0, 1).

    torchrun sets RANK and WORLD_SIZE in the environment before any process group exists. Passing over them would
    give every rank the same samples, with no error anywhere.

    Raises:
        ValueError: the environment speaks of several ranks but does not say which one this is.
    """
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return World(torch.distributed.get_rank(), torch.distributed.get_world_size())
    size = _from_environment("WORLD_SIZE", 1, MAX_RANKS) if "WORLD_SIZE" in os.environ else 1
    if size == 1:
        return World(0, 1)
    return World(_from_environment("RANK", 0, size - 1), size)


def _from_environment(name: str, low: int, high: int) -> int:
    text = os.environ.get(name)
    if text is None or not text.strip().isdecimal() or not low <= int(text) <= high:
        given = "not set" if text is None else repr(text)
        raise ValueError(
            f"the environment variable {name} must be an integer in [{low}, {high}], it is {given}; "
            "initialise torch.distributed, or pass rank= and world_size= to the loader"
        )
    return int(text)
