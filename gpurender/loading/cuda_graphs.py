"""CUDA graphs: a sequence of launches, captured once and launched as a whole.

A batch takes some twenty launches, with the papers' augmentation a hundred more, half a millisecond of host time; a
graph takes one launch. Captured launches must be the same with the same addresses every time, and must not wait for the
host. So only policies that declare this are captured (:func:`gpurender.augment.policy.capturable`). If a capture fails
nevertheless, this is logged once, torch's state is cleaned up, and batches are rendered without graphs. A captured
sequence is used only after its first result has been compared with that of the plain launches.

**The last launch.** A graph writes into the same memory every time, so a tensor that it makes must be copied into a new
one at once. For images, 0.6 MB each in float32, the copy would cost a tenth to a quarter of rendering them. So a graph
ends before the launch that writes the images, if the policy can leave it to the caller
(:func:`gpurender.augment.policy.begin`): the launch follows the graph on the same stream, reads the bytes and
parameters that the graph has written, and writes into new memory. The next graph runs on that stream after it, so it
cannot overwrite what the launch still reads. Other tensors, such as targets and the images of other policies, are
copied.

**Memory.** The graphs of a cache share one memory pool: the results of one are no longer needed when the next one runs.
The pool is kept as long as the graphs are, with all intermediate tensors of the launches: with 512 x 512 canvases of
bytes and 224 x 224 images 0.26 MB per image under a crop, the canvas, and 0.4 MB under DeiT's policy, with images
between two operations; of canvases of bits at most 33 kB in place of the canvas. As much and the batches are in torch's
cache from the plain launches before. Each further graph adds what its last launch reads, and coloured fractals the
scratch of their blocks, some 0.2 MB per block. (Calculated, not measured.)

**Inputs of a graph** must stay at their addresses: cursor, catalog and kept bitmaps belong to the loader, and tables
that are made once for many loaders are held by the graph itself (:mod:`gpurender.util.device_tables`).
"""

import contextlib
import gc
import logging
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import torch

from gpurender.augment.policy import finished
from gpurender.loading.watch import Watch, stage
from gpurender.runtime import devices
from gpurender.util import device_tables

log = logging.getLogger("gpurender")

Tensors = tuple[torch.Tensor, ...]
Made = tuple[torch.Tensor | Callable[[], torch.Tensor], ...]  # tensors, and last launches, which make tensors

MAX_GRAPHS = 8  # graphs per cache; each keeps the batch that it writes, and a sampler may give batches of any size
WARMUP_RUNS = 2  # plain runs before a capture: the first compiles, and a key that comes once or twice is not worth it

_failed: list[Any] = []  # graphs whose capture failed, see `_abandon`


class Captured(NamedTuple):
    """A graph, the tensors that it writes and the launches that follow it, and the tables that it reads."""

    graph: Any
    made: Made
    tables: list[Any]


class GraphCache:
    """A cache of CUDA graphs, which runs sequences of launches, each by a graph if possible."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._runs: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, Captured] = {}
        self._pool: Any = None
        self._off = not devices.on_gpu(device)
        self._said = False

    def run(
        self, key: Hashable, launches: Callable[[], Made], restart: Callable[[], None], watch: Watch | None = None
    ) -> Tensors:
        """Run ``launches`` or its graph, then the last launches, and return the tensors, new ones every time.

        Args:
            key: the values that the launches depend on, apart from device memory; ``None``: they depend on more, so
                they are not captured.
            launches: called to launch or to capture them; returns tensors, and last launches, which are not captured.
            restart: resets device memory to its state before the launches; called before they are captured.
            watch: measures the stages.
        """
        if self._off or key is None:
            return _measured(launches(), watch)
        if key in self._graphs:
            found = self._graphs[key]
            with stage(watch, "graph"):
                found.graph.replay()
            with stage(watch, "last launches"):
                return tuple(one.clone() if isinstance(one, torch.Tensor) else one() for one in found.made)
        plain = _measured(launches(), watch)
        self._runs[key] = self._runs.get(key, 0) + 1
        if self._runs[key] > WARMUP_RUNS and len(self._graphs) < MAX_GRAPHS:
            try:
                self._capture(key, launches, plain, restart)
            except Exception as error:  # launches that cannot be captured are run without a graph
                self._off = True
                self._graphs.clear()
                self._pool = None
                self.say(" ".join(str(error).split())[:200])
                restart()
                return finished(launches())
        return plain

    def clear(self) -> None:
        """Drop all graphs, because memory that they read has moved."""
        self._graphs.clear()
        self._runs.clear()
        self._pool = None

    def say(self, why: str) -> None:
        """Log once why there is no graph; log nothing on a device that never has graphs."""
        if not self._said and devices.on_gpu(self._device):
            self._said = True
            log.info("batches are launched one kernel at a time: %s", why)

    def _capture(
        self, key: Hashable, launches: Callable[[], Made], plain: Tensors, restart: Callable[[], None]
    ) -> None:
        """Capture the launches, run the graph once and compare its results with ``plain``."""
        with device_tables.in_use() as tables:
            try:
                restart()
                graph, made = capture(launches, self._device, self._shared_pool())
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()  # a pool takes no memory from torch's cache, which may hold all of it
                restart()
                graph, made = capture(launches, self._device, self._shared_pool())
        graph.replay()
        if not all(torch.equal(a, b) for a, b in zip(plain, finished(made), strict=True)):
            raise RuntimeError("the graph rendered something else")
        self._graphs[key] = Captured(graph, made, tables)

    def _shared_pool(self) -> Any:
        """Return the memory pool of all graphs. A pool that no graph uses any more must not be captured into again."""
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool


def _measured(made: Made, watch: Watch | None) -> Tensors:
    """Run the last launches as a stage and return the tensors."""
    with stage(watch, "last launches"):
        return finished(made)


def capture(launches: Callable[[], Made], device: torch.device, pool: Any) -> tuple[Any, Made]:
    """Return a graph of the launches on the current stream, not run yet, and what they return.

    ``with torch.cuda.graph(...)`` would first synchronise the device and return all of torch's cached memory to the
    driver, at the third batch and again at every new size or policy: the training step on the same GPU would stop and
    then pay for cudaMalloc again. A capture needs neither: the stream is the one that the plain launches ran on, not
    the default stream, and no captured launch depends on concurrent work of the device.

    Python collects no garbage meanwhile: among it may be the graphs of another loader, and to destroy a graph makes
    CUDA give up a capture that its thread has begun (seen on an H100 with torch 2.11, where loaders followed each
    other).

    Raises:
        Exception: the error of the launches, or torch's about the capture; torch's state has then been cleaned up.
    """
    graph = torch.cuda.CUDAGraph()
    with _no_garbage_collected(), torch.cuda.stream(torch.cuda.current_stream(device)):
        try:
            # thread_local: other threads, such as one that saves a checkpoint, may go on calling CUDA
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            made = launches()
            graph.capture_end()
        except BaseException:
            _abandon(graph, device, pool)
            raise
    return graph, made


@contextlib.contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """Leave Python's cyclic garbage alone while the block lasts."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _abandon(graph: Any, device: torch.device, pool: Any) -> None:
    """Restore torch's state from before a capture that failed.

    Many releases of torch do not do so themselves: if CUDA refuses to end an invalid capture, ``capture_end`` raises
    before it has notified the allocator. For the allocator a capture is then in progress for the rest of the process,
    and the allocator frees no memory that was used on two streams, as the memory of every batch of a loader is: each
    time, a batch is lost for good. The random number generator is not notified either, and refuses to draw from then
    on. Newer releases clean up in ``capture_end`` and ``reset``; with them, ending the capture again is an error, and
    nothing is left to be done.
    """
    with contextlib.suppress(Exception):
        graph.capture_end()  # the stream must not go on capturing after any error
    with contextlib.suppress(Exception):
        graph.reset()
    _failed.append(graph)  # the allocator of pinned memory may still ask this graph whether it is capturing
    end = getattr(torch._C, "_cuda_endAllocateToPool", None)
    if end is None:
        return
    try:
        end(device.index, pool)
    except RuntimeError:  # torch has already ended the allocation to this pool
        return
    torch._C._cuda_releasePool(device.index, pool)  # `reset` releases only what was captured
    with contextlib.suppress(Exception):
        generator = torch.cuda.default_generators[device.index]
        generator.graphsafe_set_state(generator.clone_state())  # the same state, in a generator that is not capturing
