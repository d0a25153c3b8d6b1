"""Validation and migration of a loader's ``state_dict``."""

from collections.abc import Mapping
from typing import Any

from gpurender.loading.cursor import Segment
from gpurender.util import checks

VERSION = 2
SAMPLED = {"rank", "world_size", "mark"}  # keys of the state of a loader that follows a user's sampler
SEGMENT = ("pass", "pass_step", "pass_epoch", "pass_position")  # keys of the state of a loader with steps_per_epoch


def checked_state(
    state: Any, ours: Mapping[str, Any], identity: tuple[str, ...]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return a state to load, migrated to this version, and the loader's own state.

    Args:
        state: the state to load.
        ours: the loader's own state.
        identity: keys that must be equal in both.

    Raises:
        TypeError, ValueError: ``state`` is no state, or is of a loader with another order of samples; the message names
            both values.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict() returned, got {type(state).__name__}")
    state = _migrated(state)
    if SAMPLED & set(map(str, state)) and not SAMPLED & set(ours):
        raise ValueError("state is of a loader that follows a sampler or batch_sampler, this loader has none")
    if SAMPLED & set(ours) and not SAMPLED & set(map(str, state)) and "position" in state:
        raise ValueError("state is of a loader without sampler or batch_sampler, this loader follows one")
    if ("steps_per_epoch" in state) != ("steps_per_epoch" in ours):
        theirs, mine = ("with", "without") if "steps_per_epoch" in state else ("without", "with")
        raise ValueError(f"state is of a loader {theirs} steps_per_epoch, this loader is {mine} it")
    for name in ours:
        if name not in state:
            raise ValueError(f"state must have the keys {sorted(ours)}, {checks.shown(name)} is missing")
    if unknown := [name for name in state if name not in ours]:
        raise ValueError(f"state must have the keys {sorted(ours)}, got also {checks.shown(unknown[0])}")
    for name in identity:
        _same(name, state[name], ours[name])
    return state, ours


def checked_digest(state: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """Return the digest of the indices that a user's sampler gave; ``None`` for another rank's state.

    Another rank's digest says nothing about this rank's indices.

    Raises:
        ValueError: the state is of another number of ranks, among which the sampler, not the loader, divides the
            samples; or its mark or rank is invalid.
    """
    _same("world_size", state["world_size"], ours["world_size"])
    mark, rank = state["mark"], state["rank"]
    if not isinstance(mark, str) or len(mark) not in (0, 16):
        raise ValueError(f"state['mark'] must be 16 hex digits or empty, got {checks.shown(mark)}")
    if type(rank) is not int or not 0 <= rank < ours["world_size"]:
        raise ValueError(f"state['rank'] must be an integer in [0, {ours['world_size'] - 1}], got {checks.shown(rank)}")
    return mark if rank == ours["rank"] else None


def checked_segment(state: Mapping[str, Any], steps_per_epoch: int, last_epoch: int, length: int) -> Segment:
    """Return the pass of a state with ``steps_per_epoch``; its place is checked already.

    Raises:
        TypeError, ValueError: a number is not an integer or out of range, or the numbers contradict each other.
    """
    highest = (last_epoch * length, steps_per_epoch - 1, last_epoch, length - 1)
    segment = Segment(
        *(checks.integer(f"state[{key!r}]", state[key], 0, high) for key, high in zip(SEGMENT, highest, strict=True))
    )
    begin, place = segment[2:], (state["epoch"], state["position"])
    if (place > begin) != (segment.step > 0) or place < begin:
        raise ValueError(
            f"state['pass_step'] must be 0 where a pass begins and above 0 behind it, got {segment.step} for a pass "
            f"that begins at (epoch, position) = {begin} and has come to {place}"
        )
    return segment


def _same(name: str, theirs: Any, ours: Any) -> None:
    if type(theirs) is not type(ours) or theirs != ours:
        raise ValueError(
            f"state is of another stream: its {name} is {checks.shown(theirs)}, this loader's is {checks.shown(ours)}"
        )


def _migrated(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state of version 1, from before samples could be repeated, as one of version 2."""
    if type(state.get("version")) is int and state["version"] == 1 and "repeats" not in state:
        return {**state, "version": VERSION, "repeats": 1}
    return state
