"""Free memory of a device, and the part of it that what repeats may take.

A GPU's free memory is what the driver has left, and what torch's allocator holds without using it. A CPU's is the
kernel's estimate of what a program can take without swapping (``MemAvailable``), or what a control group leaves, if it
leaves less: a container's limit counts, not the machine. Pages of files count as free, because a control group drops
them before it refuses memory.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from gpurender.runtime import devices

# A quarter leaves room for a model that is already on the device to be trained. It reaches the bound with 4 GiB of free
# memory; the bound holds the largest presets that fit a small GPU: 656 MiB (onepfrac-21k), 414 MiB (fractaldb-1k).
SHARE = 4
MOST = 1 << 30  # bytes

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Of the two versions of control groups: limit, usage, and the entry of memory.stat that counts idle pages of files
UNIFIED = ("memory.max", "memory.current", "inactive_file")
LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def share(device: torch.device) -> int:
    """Return a quarter of the device's free memory in bytes, at most 1 GiB; 1 GiB if the free memory is unknown."""
    free = of_gpu(device) if devices.on_gpu(device) else of_host()
    return MOST if free is None else min(free // SHARE, MOST)


def of_gpu(device: torch.device) -> int | None:
    """Return the bytes of a GPU's memory that are free, or ``None`` if the driver does not tell."""
    try:
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    except Exception:  # any error of the driver: an estimate must not end a program
        return None


def of_host() -> int | None:
    """Return the bytes of RAM that this process can take, or ``None`` if the system does not tell."""
    available = _number(PROC / "meminfo", "MemAvailable:")
    known = [] if available is None else [available << 10]
    return min([*known, *_left_by_groups()], default=None)


def _left_by_groups() -> Iterator[int]:
    """Yield the bytes that each control group of this process leaves; a group is also limited by those around it."""
    for line in _text(PROC / "self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, (limit, usage, idle) = CGROUPS, UNIFIED
        elif "memory" in controllers.split(","):
            root, (limit, usage, idle) = CGROUPS / "memory", LEGACY
        else:
            continue
        parts = path.strip("/").split("/")
        for depth in range(len(parts) + 1):  # in a container the path may be the host's: then the root alone is there
            group = root.joinpath(*parts[:depth])
            most, used = _number(group / limit), _number(group / usage)
            if most is not None and used is not None:
                yield max(0, most - used + (_number(group / "memory.stat", idle) or 0))


def _number(path: Path, after: str | None = None) -> int | None:
    """Return the first number of a file, or that after a word; ``None`` if there is none."""
    words = _text(path).split()
    try:
        return int(words[0 if after is None else words.index(after) + 1])
    except (ValueError, IndexError):
        return None


def _text(path: Path) -> str:
    """Return the text of a file of the system; nothing if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
