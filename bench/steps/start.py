"""Whether anything is drawn, and how soon."""

import json
import os
import re
import sys
import time
from pathlib import Path

from bench.steps import goals
from bench.steps.seen import Seen
from bench.steps.tools import run

FIRST_BATCH = """
import sys, time
begin, device, size = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
import torch, gpurender as gr
imported = time.time() - begin
dtype = torch.float32 if device == "cpu" else torch.float16
policy = gr.augment.DeiT()
loader = gr.DataLoader("onepfrac-1k", batch_size=size, augment=policy, shuffle=True, device=device, dtype=dtype)
images, targets = next(iter(loader))
assert bool(torch.isfinite(images).all())  # waits for the device
print("first batch after", time.time() - begin, "imports", imported)
"""


def first_batches(seen: Seen) -> None:
    """Seconds from the start of a process to its first batch with DeiT: as the machine is found, and once more.

    It is the first step: the first of the two is cold where no kernels have been kept, which ``kept_files`` says.
    """
    for name, goal in goals.START.items():
        kept = kept_files()
        command = [sys.executable, "-c", FIRST_BATCH, str(time.time()), seen.device, str(seen.pick(8, 256, 256))]
        status, text = run(command)
        took = re.search(r"^first batch after (\S+) imports (\S+)$", text, re.MULTILINE)
        if status or took is None:
            raise AssertionError(f"exit {status}: {text[-2000:]}")
        row = {"start": name, "kept_files": kept, "imports": round(float(took[2]), 3)}
        seen.row(row | goals.judged_seconds(float(took[1]), goal))


def kept_files() -> dict[str, int]:
    """How many files of compiled kernels there are already."""
    home = os.path.expanduser("~")
    ours = os.environ.get("GPURENDER_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "gpurender"
    )
    triton = os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache")
    places = {"gpurender": ours, "triton": triton}
    return {name: sum(path.is_file() for path in Path(place).rglob("*")) for name, place in places.items()}


def doctor(seen: Seen) -> None:
    """``gpurender doctor``: versions, devices, and every kernel compared with the CPU's."""
    status, text = run([sys.executable, "-m", "gpurender", "doctor", "--json"])
    start = text.find("{")
    if start < 0:
        raise AssertionError(f"exit {status}: {text[-2000:]}")
    report, _ = json.JSONDecoder().raw_decode(text[start:])
    seen.note(report=report)
    here = [kernel for kernel in report["kernels"] if kernel["device"].startswith(seen.device)]
    off = [kernel for kernel in here if not kernel["available"]]
    if off or not here:
        raise AssertionError(f"kernels that are off: {off}")
