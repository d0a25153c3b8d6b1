"""The category search of FractalDB."""

import json
import sys

from bench.steps import goals
from bench.steps.seen import Seen
from bench.steps.tools import run

PROGRAM = """
import json, sys, time
import torch, gpurender as gr
from gpurender.util import disk_cache
disk_cache.load = lambda kind, key: None  # nothing is known
disk_cache.save = lambda kind, key, values: None  # and nothing is left
where, classes, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def maps(classes, seed):
    return gr.Renderer(gr.FractalDB(classes=classes, seed=seed), where).catalog.maps.cpu().double().flatten().tolist()

maps(2, seed + 1)  # compiles
start = time.perf_counter()
found = maps(classes, seed)
print("SEARCHED", json.dumps([time.perf_counter() - start, found]))
"""
SEED = 2  # its result is not shipped


def search(seen: Seen) -> None:
    """The search for a seed that nobody has searched, and that the CPU finds the same categories."""
    for classes in seen.pick((3,), (1000,), (1000, 21_000)):
        took, found = timed(seen.device, classes)
        row = {"classes": classes} | goals.judged_seconds(took, goals.SEARCH.get(classes))
        if classes > 1000:  # too long for a CPU
            seen.row(row)
            continue
        seen.row(row | {"compared": False})
        cpu_seconds, wanted = timed("cpu", classes)
        if found != wanted:
            raise AssertionError("the GPU finds other categories than the CPU")
        seen.note(rows=[*seen.rows[:-1], row | {"compared": True, "cpu_seconds": round(cpu_seconds, 3)}])


def timed(where: str, classes: int) -> tuple[float, list[float]]:
    """Seconds of a search, and the maps it found."""
    heard: list[str] = []

    def listen(line: str) -> None:
        if line.startswith("SEARCHED"):
            heard.append(line.removeprefix("SEARCHED"))

    status, text = run([sys.executable, "-c", PROGRAM, where, str(classes), str(SEED)], on_line=listen, shown=80)
    if status or not heard:
        raise AssertionError(f"exit {status}: {text[-2000:]}")
    took, found = json.loads(heard[0])
    return took, found
