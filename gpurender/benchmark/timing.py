"""Timing of batches: by the wall clock on a CPU, by events in the stream on a GPU.

A GPU runs asynchronously to the host, so the GPU itself takes the times: an event is recorded after every batch, and
nothing waits until a *window* of batches is over. The time of a window runs from the event after its first batch to the
event after its last. The first batch is not counted: its latency from the host to an idle GPU occurs once in a training
run, not once per window.
"""

import contextlib
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from gpurender.runtime import devices
from gpurender.util.progress import progress

LEAST = 5  # minimum number of measurements, however long one takes
CPU_WARM_UP = 1  # minimum number of batches: the first compiles
GPU_WARM_UP = 8  # minimum number of batches: the first compiles, the third captures a graph; all are enqueued at once
MOST_WARM_UP = 1.0  # maximum of seconds once the minimum is done; also no more than half of the measuring time
WINDOW = 32  # batches per measurement on a GPU


class Timing(NamedTuple):
    """Measurements of one stage.

    Attributes:
        rates: images/s of each measurement: of a batch on a CPU, of a window on a GPU.
        host_ms: median host time per batch; on a GPU until everything is enqueued.
        device_ms: median time from the end of a batch to the end of the next in the stream; ``None`` on a CPU.
        batches: number of batches measured.
        peak_mib: peak memory in MiB, of the process on a CPU, of torch's tensors on a GPU.
    """

    rates: list[float]
    host_ms: float
    device_ms: float | None
    batches: int
    peak_mib: int


def time_batches(step: Callable[[], torch.Tensor], seconds: float, device: torch.device, label: str) -> Timing:
    """Measure ``step``, which returns a batch, for ``seconds`` after a warm-up; ``label`` names the progress bar."""
    with torch.cuda.device(device) if devices.on_gpu(device) else contextlib.nullcontext():
        warm_up(step, seconds, device, label)
        return (_time_on_gpu if devices.on_gpu(device) else _time_on_cpu)(step, seconds, device, label)


def warm_up(step: Callable[[], Any], seconds: float, device: torch.device, label: str) -> int:
    """Run a step until it is compiled and the clocks have risen; return how often it ran.

    The step runs ``CPU_WARM_UP`` or ``GPU_WARM_UP`` times, because the first batches compile and capture. This is
    repeated until half of ``seconds``, at most ``MOST_WARM_UP``, is over. The time counts from the beginning, so on a
    CPU a step of several seconds runs once. On a GPU the queue is empty when this function returns.
    """
    gpu = devices.on_gpu(device)
    least, limit = GPU_WARM_UP if gpu else CPU_WARM_UP, min(MOST_WARM_UP, seconds / 2)
    start, count = time.perf_counter(), 0
    with progress(desc=f"{label}: warm-up", unit="batch", delay=0, leave=False) as bar:
        while count == 0 or time.perf_counter() - start < limit:
            for _ in range(least):
                step()
                count += 1
                bar.update()
            if gpu:  # else the host would enqueue thousands of batches
                torch.cuda.synchronize()
    return count


def _time_on_cpu(step: Callable[[], torch.Tensor], seconds: float, device: torch.device, label: str) -> Timing:
    times: list[float] = []
    rates: list[float] = []
    for _ in until(seconds, label):
        begin = time.perf_counter()
        images = step()
        times.append(time.perf_counter() - begin)
        rates.append(len(images) / times[-1])
    return Timing(rates, 1e3 * float(np.median(times)), None, len(times), peak_mib(device))


def _time_on_gpu(step: Callable[[], torch.Tensor], seconds: float, device: torch.device, label: str) -> Timing:
    torch.cuda.reset_peak_memory_stats()
    rates: list[float] = []
    host: list[float] = []
    gaps: list[float] = []
    for _ in until(seconds, label):
        events, count = [_event()], 0
        images = step()  # kept while the next batch is rendered, so buffers alternate
        events[0].record()
        for _ in range(WINDOW - 1):
            begin = time.perf_counter()
            images = step()
            host.append(1e3 * (time.perf_counter() - begin))
            events.append(_event())
            events[-1].record()
            count += len(images)
        torch.cuda.synchronize()
        rates.append(1e3 * count / events[0].elapsed_time(events[-1]))
        gaps += [a.elapsed_time(b) for a, b in pairwise(events)]
    return Timing(rates, float(np.median(host)), float(np.median(gaps)), len(gaps), peak_mib(device))


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)


def until(seconds: float, label: str) -> Iterator[None]:
    """Yield until ``seconds`` are over, at least ``LEAST`` times, and show a progress bar."""
    start, done = time.perf_counter(), 0
    with progress(
        total=round(seconds, 1), desc=label, unit="s", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
    ) as bar:
        while done < LEAST or time.perf_counter() - start < seconds:
            yield
            done += 1
            bar.n = min(bar.total, time.perf_counter() - start)
            bar.refresh()


def peak_mib(device: torch.device) -> int:
    """Return the peak memory in MiB: resident on a CPU, allocated since the last reset on a GPU."""
    if devices.on_gpu(device):
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Return the median and the 5th and 95th percentile, rounded to ``digits`` decimals."""
    median, p5, p95 = np.percentile(values, [50, 5, 95]).round(digits).tolist()
    return {"median": median, "p5": p5, "p95": p95}


def paired_percent(values: Sequence[float], references: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % confidence interval, in percent, of how much larger values are than the references beside them.

    The interval is the sign test's for the median of ``values[i] / references[i]``: two of the sorted ratios, so that
    the median lies outside with a probability of at most 5 % for any distribution (6.25 % with five pairs, the minimum
    that is measured, where the interval is the whole range). Neighbours in time are paired, so a falling clock or
    another process that starts changes both.
    """
    ratios = sorted(value / reference for value, reference in zip(values, references, strict=True))
    outside = _outside(len(ratios))
    return 100.0 * (ratios[outside] - 1.0), 100.0 * (ratios[-1 - outside] - 1.0)


def _outside(count: int) -> int:
    """Return how many of ``count`` sorted values lie below the interval of their median; as many lie above."""
    if count > 1000:  # the normal distribution is then as good
        return int(count / 2 - 1 - 0.98 * math.sqrt(count))
    outside, below = 0, 1  # of 2 ** count equally likely ways, those with at most `outside` values below the median
    while 40 * below <= 2**count:
        outside += 1
        below += math.comb(count, outside)
    return max(0, outside - 1)
