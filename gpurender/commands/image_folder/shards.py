"""Shards: parts of an export for several processes, and the part that Slurm or torchrun gives this process."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gpurender.util import checks

MAX_SHARDS = 1_000_000
FORM = f"I/N with 0 <= I < N <= {MAX_SHARDS}, such as 0/8"
NUMBER = re.compile("[0-9]{1,10}")


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, numbered from 0."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def part(self, total: int) -> tuple[int, int]:
        """Return first and end of this part of ``range(total)``; the parts are contiguous and cover all of it."""
        return total * self.index // self.count, total * (self.index + 1) // self.count


ShardLike: TypeAlias = Shard | str | Sequence[int]  # what :func:`shard` takes


def shard(value: ShardLike | None) -> Shard:
    """Return the shard of a text ``"I/N"`` or a pair ``(I, N)``, and a shard unchanged; ``None`` is 0/1.

    Raises:
        TypeError, ValueError: the value is something else.
    """
    if value is None or isinstance(value, Shard):
        return value or Shard()
    if isinstance(value, str):
        numbers = value.split("/")
        if len(numbers) != 2 or not all(map(NUMBER.fullmatch, numbers)):
            raise ValueError(f"shard must be {FORM}, got {checks.shown(value)}")
        pair = int(numbers[0]), int(numbers[1])
    elif checks.is_sequence(value, 2):
        pair = (
            checks.integer("shard[0]", value[0], 0, MAX_SHARDS - 1),
            checks.integer("shard[1]", value[1], 1, MAX_SHARDS),
        )
    else:
        raise TypeError(f"shard must be the text I/N or a pair (I, N), got {checks.shown(value)}")
    if not 0 <= pair[0] < pair[1] <= MAX_SHARDS:
        raise ValueError(f"shard must be {FORM}, got {checks.shown(value)}")
    return Shard(*pair)


def from_environment() -> tuple[Shard, str] | None:
    """Return the shard that Slurm or torchrun gives this process and the variables that say so; ``None`` without any.

    The tasks of a Slurm array are counted by SLURM_ARRAY_TASK_ID. The processes of a job are counted by torchrun's
    RANK, or else by SLURM_PROCID in a step of srun. An array whose tasks have several processes has (tasks x
    processes) shards.

    Raises:
        ValueError: a variable is missing or has no valid number, or the array's task numbers are not evenly spaced.
    """
    array, array_names = _array()
    process, process_names = _process()
    whole = Shard(array.index * process.count + process.index, array.count * process.count)
    names = [*array_names, *process_names]
    return (whole, ", ".join(names)) if whole.count > 1 else None


def _array() -> tuple[Shard, list[str]]:
    """Return the place of this task in a Slurm array."""
    if "SLURM_ARRAY_TASK_ID" not in os.environ:
        return Shard(), []
    count = _number("SLURM_ARRAY_TASK_COUNT", 1, MAX_SHARDS)
    if count == 1:
        return Shard(), []
    first, step = _number("SLURM_ARRAY_TASK_MIN", 0, 2**32), 1
    if "SLURM_ARRAY_TASK_STEP" in os.environ:
        step = _number("SLURM_ARRAY_TASK_STEP", 1, 2**32)
    end = first + step * (count - 1)
    last = _number("SLURM_ARRAY_TASK_MAX", 0, 2**32) if "SLURM_ARRAY_TASK_MAX" in os.environ else end
    index, rest = divmod(_number("SLURM_ARRAY_TASK_ID", first, 2**32) - first, step)
    if rest or index >= count or last != end:  # --array=1,2,7: which numbers there are is told to no task
        raise ValueError(
            f"the {count} task numbers of this Slurm array are not evenly spaced from {first}, so they do not tell the "
            f"shard; give --shard {FORM}"
        )
    return Shard(index, count), ["SLURM_ARRAY_TASK_ID"]


def _process() -> tuple[Shard, list[str]]:
    """Return the place of this process among those that torchrun or srun has started."""
    # Only srun sets SLURM_STEP_NUM_TASKS. The script of sbatch has SLURM_PROCID=0 and SLURM_NTASKS, but runs once;
    # a launcher that sets these two alone is known by a process above 0.
    launchers = [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")]
    if os.environ.get("SLURM_PROCID", "0").strip() != "0":
        launchers.append(("SLURM_PROCID", "SLURM_NTASKS"))
    for rank, size in launchers:
        if size in os.environ:
            count = _number(size, 1, MAX_SHARDS)
            return (Shard(_number(rank, 0, count - 1), count), [rank]) if count > 1 else (Shard(), [])
    return Shard(), []


def _number(name: str, low: int, high: int) -> int:
    text = os.environ.get(name)
    if text is None or not NUMBER.fullmatch(text.strip()) or not low <= int(text) <= high:
        given = "not set" if text is None else checks.shown(text)
        raise ValueError(
            f"the environment variable {name} must be an integer in [{low}, {high}], it is {given}; give --shard I/N"
        )
    return int(text)
