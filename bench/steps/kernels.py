"""Where a batch's time goes: microseconds of every kernel, beside the time of the whole batch from a graph."""

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

import gpurender as gr
from bench.steps.seen import Seen
from gpurender.benchmark import measure

QUERY = "name,clocks.sm,clocks.max.sm,clocks.mem,power.draw,temperature.gpu"
# what the profiler lists on the device beside kernels: its own work, and no part of a batch
OVERHEAD = (
    "Activity Buffer Request",
    "Buffer Flush",
    "Command Buffer Full",
    "Instrumentation",
    "Lazy Function Loading",
)
CASES = (("crop", False), ("deit", False), ("crop", True))  # policy; fresh: everything is drawn, nothing kept


def recipes() -> dict[str, gr.Recipe]:
    """The presets, and FractalDB as the goal names it."""
    presets = {name: gr.recipe(name) for name in ("onepfrac-1k", "visualatom-1k", "fractaldb-1k")}
    return presets | {"fractaldb-100k-512": gr.FractalDB(points=100_000, image_size=512)}


def kernels(seen: Seen) -> None:
    """A table of kernels for one plain batch of each preset with each policy, most telling first; and what the chip
    copies a second, with its clocks meanwhile.
    """
    seen.note(copies=copies(seen.pick(1 << 20, 1 << 30, 1 << 30)))
    profiled(lambda: torch.zeros(1, device=seen.device), seen.device)  # the first profile of a process starts CUPTI
    for augment, fresh in CASES:
        for name, recipe in recipes().items():
            if name == "fractaldb-100k-512" and not fresh:
                continue
            what = f"{name} {augment}{' fresh' if fresh else ''}"
            if seen.enough(4.0, what):
                seen.row(batch_of(name, recipe, augment, fresh, seen.pick(4, 1024, 1024), seen.device))


def batch_of(name: str, recipe: gr.Recipe, augment: str, fresh: bool, batch_size: int, device: str) -> dict[str, Any]:
    """The row of one kind of batch.

    ``plain_us``: kernel name to microseconds and launches, of a batch launched kernel by kernel. ``plain_sum_us``: all
    of them. ``batch_us``: from batch to batch where they come from the graph, back to back, with the copy of what it
    made.
    """
    loader = gr.DataLoader(
        recipe, batch_size=batch_size, augment=measure.named(augment), shuffle=True, device=device, fresh=fresh,
        dtype=torch.float32 if device == "cpu" else torch.float16, prefetch_factor=0,
    )  # fmt: skip
    batches = measure.endless(loader)
    images = len(next(batches)[0])  # compiles; a preset may have fewer images than are asked for
    plain = profiled(lambda: next(batches), device)  # the second is launched plainly as well, the third is captured
    count = 2 if device == "cpu" else 20
    for _ in range(1 if device == "cpu" else 6):
        next(batches)
    whole = microseconds(lambda: next(batches), count)
    return {
        "recipe": name, "augment": augment, "fresh": fresh, "batch_size": images,
        "plain_sum_us": round(sum(us for us, _ in plain.values()), 1), "batch_us": round(whole, 1),
        "images_per_second": {"mean": round(1e6 * images / whole, 1)}, "plain_us": plain,
    }  # fmt: skip


def profiled(step: Callable[[], Any], device: str) -> dict[str, tuple[float, int]]:
    """Kernel name to microseconds and launches of one step, the longest first.

    CUPTI sees the launches of CuPy and Triton as it does torch's. On a CPU torch's operators stand in for kernels.
    """
    activity, kind = torch.profiler.ProfilerActivity.CUDA, torch.autograd.DeviceType.CUDA
    if device == "cpu":
        activity, kind = torch.profiler.ProfilerActivity.CPU, torch.autograd.DeviceType.CPU
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[activity]) as profile:
        step()
        torch.cuda.synchronize()
    times: dict[str, tuple[float, int]] = {}
    for event in profile.events():
        if event.device_type == kind and not event.name.startswith(OVERHEAD):
            spent, launches = times.get(event.name, (0.0, 0))
            times[event.name] = (spent + event.time_range.elapsed_us(), launches + 1)
    longest = sorted(times.items(), key=lambda item: -item[1][0])
    return {name[:100]: (round(spent, 1), launches) for name, (spent, launches) in longest[:40]}


def microseconds(step: Callable[[], Any], count: int) -> float:
    """Mean time of a step, enqueued back to back, by events in the stream."""
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    step()
    first.record()
    for _ in range(count):
        step()
    last.record()
    torch.cuda.synchronize()
    return 1e3 * first.elapsed_time(last) / count


def copies(size: int) -> dict[str, Any]:
    """Bytes that the chip copies from memory to memory a second (read and written), and what nvidia-smi says while it
    does.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    for _ in range(3):
        target.copy_(source)
    took = microseconds(lambda: target.copy_(source), 20)
    with ThreadPoolExecutor(1) as beside:
        for _ in range(500 if device == "cuda" else 1):  # a quarter of a second of load, enqueued at once
            target.copy_(source)
        asked = beside.submit(clocks)
        while not asked.done():  # a full queue (about 1,000 launches) makes this wait, so no number copied suffices
            target.copy_(source)
    torch.cuda.synchronize()
    return {"bytes": size, "tb_per_second": round(2 * size / took / 1e6, 3), "nvidia_smi": asked.result()}


def clocks() -> dict[str, str] | None:
    """What nvidia-smi says of the first GPU; ``None`` without it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except subprocess.TimeoutExpired:
        return None
    return dict(zip(QUERY.split(","), (word.strip() for word in said.strip().split(",")), strict=False))
