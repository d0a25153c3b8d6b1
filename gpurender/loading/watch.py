"""Watching a loader: images per second, waiting, and the time of each stage, by the GPU's events on a GPU.

Nothing here runs unless ``loader.measured`` is set; without it every stage is one comparison with ``None``. On a GPU a
stage is timed by two events in the stream that it is launched on, which nobody waits for: they are read when they are
over, or in ``loader.stats()``. A stage is also a range of NVTX (Nsight Systems) there, and of ``torch.profiler``
while one runs.
"""

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import profiler
from torch.autograd.profiler import record_function

from gpurender.runtime import devices

PREFIX = "gpurender: "  # of the ranges
WAIT = "wait"
UNREAD = 64  # batches after which the stages that are over are added up
PROFILER_FLAG = "_is_profiler_enabled"  # of torch: whether a profiler of its Python runs

NOTHING = contextlib.nullcontext()


def stage(watch: "Watch | None", name: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context that measures a stage, or none without a watch; stages may lie in each other."""
    if watch is None:
        return NOTHING
    if watch.on_host and not getattr(profiler, PROFILER_FLAG, True):
        return _HostStage(watch.unread[name])
    return watch.ranged(name)


class _HostStage:
    """The context of a stage that only the host's clock watches.

    After a batch the code of Python is no longer in the processor's caches, so every call counts: six stages of ten
    calls each took 27 us of a batch of 8 images of 32 x 32, six of five calls take 9 us.

    Args:
        seconds: where the stage's seconds are put.
    """

    __slots__ = ("_begin", "_seconds")

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *error: Any) -> None:
        self._seconds.append(time.perf_counter() - self._begin)


class _RangedStage:
    """The context of a stage that is a range of a profiler too, or is timed by events of the GPU.

    A range costs 6 to 11 us, so none is opened while no profiler of torch's Python runs; a torch that does not say so
    gets it. An observer that is started elsewhere (Kineto's daemon, an ``ExecutionTraceObserver`` alone) sees kernels
    without ranges.

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
        self._range = record_function(PREFIX + self._name) if getattr(profiler, PROFILER_FLAG, True) else NOTHING
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

    Attributes:
        on_host: whether the host's clock times the stages.
        unread: seconds of each stage that have not been added up yet.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_host = not devices.on_gpu(device)
        self._device = device
        self._marks: deque[tuple[str, Any, Any]] = deque()  # stage, begin, end: of any thread, not yet read
        self.unread: dict[str, list[float]] = defaultdict(list)  # appended to by any thread
        self._lock = threading.Lock()  # of what is added up: any thread may ask for the report
        self._clear()

    def _clear(self) -> None:
        self._totals: dict[str, float] = {}  # of the stages
        self._batches = self._images = self._ready = 0
        self._begin = time.perf_counter()

    def ranged(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Return a context that measures a stage on the current stream, and is a range of the profilers."""
        if not self.on_host and torch.cuda.is_current_stream_capturing():  # a graph is timed when it runs
            return NOTHING
        return _RangedStage(name, self._mark, self._marks, not self.on_host)

    def handed_out(self, images: int, ready: int) -> None:
        """Note a batch that was handed out, and how many batches were ready when it was requested."""
        self._batches += 1
        self._images += images
        self._ready += ready
        if self._batches % UNREAD == 0:
            with self._lock:
                self._read(wait=False)

    def report(self) -> dict[str, Any]:
        """Return what has been measured since the last report, and begin anew; on a GPU the host waits for it."""
        if not self.on_host:
            torch.cuda.synchronize(self._device)
        with self._lock:
            self._read(wait=True)
            found = self._found()
            self._clear()
        return found

    def _found(self) -> dict[str, Any]:
        """Return the report of what has been added up."""
        seconds, count = max(time.perf_counter() - self._begin, 1e-9), self._batches
        waited = self._totals.pop(WAIT, 0.0)
        return {
            "batches": count,
            "images": self._images,
            "seconds": seconds,
            "images_per_second": self._images / seconds,
            "wait_share": min(1.0, waited / seconds),
            "queue_depth": self._ready / max(1, count),
            "stage_ms": {name: 1e3 * passed / max(1, count) for name, passed in self._totals.items()},
            "clock": "host" if self.on_host else "events of the GPU",
        }

    def _mark(self) -> Any:
        if self.on_host:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read(self, wait: bool) -> None:
        """Add up the stages that are over; without ``wait``, stop at the first pair of events that is not."""
        while self._marks:
            name, begin, end = self._marks[0]
            if not self.on_host and not wait and not end.query():
                break
            self._marks.popleft()
            self.unread[name].append(end - begin if self.on_host else begin.elapsed_time(end) / 1e3)
        for name, seconds in list(self.unread.items()):
            count = len(seconds)  # another thread may append meanwhile: what it appends stays
            if count:
                self._totals[name] = self._totals.get(name, 0.0) + sum(seconds[:count])
                del seconds[:count]
