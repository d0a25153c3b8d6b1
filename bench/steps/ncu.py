"""Nsight Compute: issue slots, shared memory, occupancy, what warps wait for, how even the schedulers' loads are."""

import csv
import sys
from typing import Any

from bench.steps.seen import NotInstalledError, Seen
from bench.steps.tools import find, run

SAMPLES = "samples = lambda recipe: range(0, len(recipe), max(1, len(recipe) // count))[:count]"
HEAD = f"""
import sys, torch, gpurender as gr
device, count = sys.argv[1], int(sys.argv[2])
{SAMPLES}
"""
DRAWING = (
    HEAD
    + """
for recipe in (gr.OnePFrac(), gr.VisualAtom(), gr.FractalDB(points=100_000, image_size=512)):
    gr.Renderer(recipe, device, cache_bytes=0)(samples(recipe))
for name in ("onepfrac-1k", "fractaldb-1k"):
    renderer = gr.Renderer(name, device)
    renderer(samples(renderer.recipe))
if device != "cpu":
    torch.cuda.synchronize()
"""
)
AUGMENTING = (
    HEAD
    + """
for name in ("onepfrac-1k", "visualatom-1k"):
    dtype = torch.float32 if device == "cpu" else torch.float16
    loader = gr.DataLoader(
        name, batch_size=count, augment=gr.augment.DeiT(), shuffle=True, device=device, dtype=dtype, prefetch_factor=0
    )
    next(iter(loader))
if device != "cpu":
    torch.cuda.synchronize()
"""
)
PROGRAMS = {
    "drawing": (DRAWING, "regex:^(chaos_game_(grey|paint)|visual_atom_render)", 512),
    "augmenting": (
        AUGMENTING,
        "regex:^(chaos_game_(cover|mask)|resized_crop_(bits|bytes)|tabulate|change|move|mix_erase_pixels)",
        1024,
    ),
}
SECTIONS = (
    "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "SchedulerStats", "WarpStateStats",
    "Occupancy", "LaunchStats",
)  # fmt: skip
STALLS = (
    "barrier", "branch_resolve", "dispatch_stall", "lg_throttle", "long_scoreboard", "math_pipe_throttle",
    "mio_throttle", "no_instruction", "not_selected", "short_scoreboard", "wait",
)  # fmt: skip
METRICS = (
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed",
    "smsp__inst_executed.max", "smsp__inst_executed.min", "smsp__inst_executed.sum",
    *(f"smsp__average_warps_issue_stalled_{why}_per_issue_active.ratio" for why in STALLS),  # warps that wait, of each
)  # fmt: skip


def profile(seen: Seen) -> None:
    """Profile the kernels that draw, then those that augment: a row a launch. Clocks stay as they are."""
    try:
        tool = [find("ncu"), "--clock-control", "none", "--csv", "--metrics", ",".join(METRICS)]
        tool += [word for section in SECTIONS for word in ("--section", section)]
    except NotInstalledError:
        if seen.device != "cpu":
            raise
        tool = []
    for name, (program, kernels, count) in PROGRAMS.items():
        if not seen.enough(15.0, name):
            return
        command = [sys.executable, "-c", program, seen.device, str(seen.pick(3, count, count))]
        status, text = run([*tool, *(["-k", kernels] if tool else []), *command])
        launches = profiled(text)
        for launch in launches:
            seen.row(launch)
        if status or (tool and not launches):
            raise AssertionError(f"{name}: exit {status}: {text[-2000:]}")
    if not tool:
        raise NotInstalledError("ncu is not installed; what it was to profile has run")


def profiled(text: str) -> list[dict[str, Any]]:
    """One dictionary a launch, of ncu's table: a line a metric, below whatever the program has printed."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    launches: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(line for line in lines[start:] if line.startswith('"')):
        seen = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"]})
        if row.get("Metric Name"):
            seen[row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return list(launches.values())
