"""Watching a loader: images per second, waiting, and the time of each stage, by the GPU's events on a GPU.

Nothing here runs unless ``loader.measured`` is set; without it every stage is one comparison with ``None``. On a GPU a
stage is timed by two events in the stream that it is launched on, which nobody waits for: they are read when they are
over, or in ``loader.stats()``. A stage is also a range of NVTX (Nsight Systems) and of ``torch.profiler``.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import profiler
from torch.autograd.profiler import record_function

from gpurender.runtime import devices

PREFIX = "gpurender: "  # of the ranges
WAIT = "wait"
UNREAD = 512  # pairs of events after which those that are over are read

NOTHING = contextlib.nullcontext()


def stage(watch: "Watch | None", name: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context that measures a stage, or none without a watch."""
    return NOTHING if watch is None else watch.stage(name)


def _profiled(name: str) -> contextlib.AbstractContextManager[Any]:
    """Return a range of ``torch.profiler``, or none while no profiler of torch's Python runs: a range costs 6 to 11 us.

    A torch that does not say whether one runs gets the range. An observer that is started elsewhere (Kineto's daemon,
    an ``ExecutionTraceObserver`` alone) sees kernels without ranges.
    """
    return record_function(name) if getattr(profiler, "_is_profiler_enabled", True) else NOTHING


class _Stage:
    """The context of a stage. (A generator as a context takes twice as long on a CPU: 2.3 us, not 1.1.)

    Args:
        name: of the stage.
        mark: returns what tells the time.
        marks: where name, begin and end are put.
        gpu: whether NVTX is told, too.
    """

    __slots__ = ("_begin", "_gpu", "_mark", "_marks", "_name", "_range")

    def __init__(self, name: str, mark: Callable[[], Any], marks: deque[tuple[str, Any, Any]], gpu: bool) -> None:
        self._name, self._mark, self._marks, self._gpu = name, mark, marks, gpu

    def __enter__(self) -> None:
        self._range = _profiled(PREFIX + self._name)
        self._range.__enter__()
        if self._gpu:
            torch.cuda.nvtx.range_push(PREFIX + self._name)
        self._begin = self._mark()

    def __exit__(self, *error: Any) -> None:
        self._marks.append((self._name, self._begin, self._mark()))
        if self._gpu:
            torch.cuda.nvtx.range_pop()
        self._range.__exit__(*error)


class Watch:
    """What has been measured of one loader since the last report.

    Args:
        device: of the loader.
    """

    def __init__(self, device: torch.device) -> None:
        self._gpu = devices.on_gpu(device)
        self._device = device
        self._marks: deque[tuple[str, Any, Any]] = deque()  # stage, begin, end: of any thread
        self._clear()

    def _clear(self) -> None:
        self._seconds: dict[str, float] = {}
        self._batches = self._images = self._ready = 0
        self._begin = time.perf_counter()

    def stage(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Return a context that measures a stage on the current stream; stages may lie in each other."""
        if self._gpu and torch.cuda.is_current_stream_capturing():  # a graph is timed when it runs
            return NOTHING
        return _Stage(name, self._mark, self._marks, self._gpu)

    def handed_out(self, images: int, ready: int) -> None:
        """Note a batch that was handed out, and how many batches were ready when it was requested."""
        self._batches += 1
        self._images += images
        self._ready += ready
        if len(self._marks) > UNREAD:
            self._read(wait=False)

    def report(self) -> dict[str, Any]:
        """Return what has been measured since the last report, and begin anew; on a GPU the host waits for it."""
        if self._gpu:
            torch.cuda.synchronize(self._device)
        self._read(wait=True)
        seconds, count = max(time.perf_counter() - self._begin, 1e-9), self._batches
        waited = self._seconds.pop(WAIT, 0.0)
        found = {
            "batches": count,
            "images": self._images,
            "seconds": seconds,
            "images_per_second": self._images / seconds,
            "wait_share": min(1.0, waited / seconds),
            "queue_depth": self._ready / max(1, count),
            "stage_ms": {name: 1e3 * passed / max(1, count) for name, passed in self._seconds.items()},
            "clock": "events of the GPU" if self._gpu else "host",
        }
        self._clear()
        return found

    def _mark(self) -> Any:
        if not self._gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read(self, wait: bool) -> None:
        """Add up the stages that are over; without ``wait``, stop at the first that is not."""
        while self._marks:
            name, begin, end = self._marks[0]
            if self._gpu and not wait and not end.query():
                return
            self._marks.popleft()
            passed = begin.elapsed_time(end) / 1e3 if self._gpu else end - begin
            self._seconds[name] = self._seconds.get(name, 0.0) + passed
