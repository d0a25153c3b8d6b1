"""CUDA graphs: a sequence of launches, captured once and started as a whole.

A batch is some twenty launches, with the papers' augmentation a hundred more, half a millisecond of the host's time; as
a graph it is one. What is captured must be the same launches with the same addresses every time, and must not wait for
the host. So only policies that say this of themselves are captured (:func:`gpurender.augment.policy.capturable`). If a
capture fails all the same, this is said once, torch is cleaned up, and everything goes on without. Nor is a captured
sequence trusted before its first result has been compared with that of the plain launches.

**Memory.** A graph writes into the same memory every time; what it made is copied into new tensors at once, which costs
less than a tenth of drawing it, but about a quarter where bitmaps are kept and the policy is a crop. So the graphs of a
cache share one pool of memory: none is needed by the time the next runs. The pool is kept as long as they are, and
so is all that the launches made on the way: with 512 x 512 canvases and 224 x 224 float32 images 1.0 MB an image under
a crop and 1.1 MB under DeiT's policy (canvas 0.26, batch 0.60, the rest tap tables, rows half resized, images between
two operations), so 1.1 GB at a batch of 1,024, beside as much in torch's cache from the plain launches before. Each
further graph adds the batch that it writes.

**What a graph reads** must stay where it is: cursor, catalog and kept bitmaps belong to the loader, and tables that are
made once for many loaders are held by the graph itself (:mod:`gpurender.util.device_tables`).
"""

import contextlib
import logging
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch

from gpurender.runtime import devices
from gpurender.util import device_tables

log = logging.getLogger("gpurender")

Tensors = tuple[torch.Tensor, ...]

MAX_GRAPHS = 8  # each keeps the batch that it writes; a sampler may ask for batches of any size
WARMUP_RUNS = 2  # before a capture: the first compiles, a batch that comes once or twice is not worth one

_failed: list[Any] = []  # see `_abandon`


class Captured(NamedTuple):
    """A graph, the tensors that it writes, and the tables that it reads."""

    graph: Any
    tensors: Tensors
    tables: list[Any]


class GraphCache:
    """Runs sequences of launches, by a graph each where it can."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._runs: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, Captured] = {}
        self._pool: Any = None
        self._off = not devices.on_gpu(device)
        self._said = False

    def run(self, key: Hashable, launches: Callable[[], Tensors], restart: Callable[[], None]) -> Tensors:
        """Return the tensors that ``launches()`` makes, new ones every time.

        Args:
            key: what the launches depend on, apart from device memory; ``None``: on more, so they are not captured.
            launches: called to launch or to capture them.
            restart: sets device memory to what it was before, called before they are captured.
        """
        if self._off or key is None:
            return launches()
        if key in self._graphs:
            found = self._graphs[key]
            found.graph.replay()
            return tuple(tensor.clone() for tensor in found.tensors)
        plain = launches()
        self._runs[key] = self._runs.get(key, 0) + 1
        if self._runs[key] > WARMUP_RUNS and len(self._graphs) < MAX_GRAPHS:
            try:
                self._capture(key, launches, plain, restart)
            except Exception as error:  # whatever cannot be captured is launched
                self._off = True
                self._graphs.clear()
                self._pool = None
                self.say(" ".join(str(error).split())[:200])
                restart()
                return launches()
        return plain

    def clear(self) -> None:
        """Drop all graphs: memory that they read has moved."""
        self._graphs.clear()
        self._runs.clear()
        self._pool = None

    def say(self, why: str) -> None:
        """Log why there is no graph, once; nothing where there never is one."""
        if not self._said and devices.on_gpu(self._device):
            self._said = True
            log.info("batches are launched one kernel at a time: %s", why)

    def _capture(
        self, key: Hashable, launches: Callable[[], Tensors], plain: Tensors, restart: Callable[[], None]
    ) -> None:
        """Capture the launches, run them once more and compare."""
        with device_tables.in_use() as tables:
            try:
                restart()
                graph, tensors = capture(launches, self._device, self._shared_pool())
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()  # a pool takes nothing from torch's cache, which may hold all there is
                restart()
                graph, tensors = capture(launches, self._device, self._shared_pool())
        graph.replay()
        if not all(torch.equal(a, b) for a, b in zip(plain, tensors, strict=True)):
            raise RuntimeError("the graph drew something else")
        self._graphs[key] = Captured(graph, tensors, tables)

    def _shared_pool(self) -> Any:
        """Return the memory pool of all graphs; a pool that no graph uses any more may not be captured into again."""
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool


def capture(launches: Callable[[], Tensors], device: torch.device, pool: Any) -> tuple[Any, Tensors]:
    """Return a graph of the launches on the current stream, not run yet, and the tensors that it will write.

    ``with torch.cuda.graph(...)`` would first synchronise the device and give all of torch's cached memory back to the
    driver, at the third batch and again at every new size or policy: the training step that runs beside it would stand
    still and then pay cudaMalloc for everything once more. Neither is needed for a capture: the stream is the one that
    the plain launches ran on, not the default one, and nothing in it depends on what the device does meanwhile.

    Raises:
        Exception: what the launches raise, or what torch says of the capture; torch is cleaned up then.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(torch.cuda.current_stream(device)):
        try:
            # thread_local: other threads, such as one that saves a checkpoint, may go on calling CUDA
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            tensors = launches()
            graph.capture_end()
        except BaseException:
            _abandon(graph, device, pool)
            raise
    return graph, tensors


def _abandon(graph: Any, device: torch.device, pool: Any) -> None:
    """Leave torch as it was before a capture that failed.

    Many releases of torch do not do so themselves: where CUDA refuses to end an invalid capture, ``capture_end`` raises
    before it has told the allocator. To the allocator a capture is then under way for the rest of the process, and it
    gives back no memory that was used on two streams, which every batch of a loader is: a batch is lost for good each
    time. Nor is the random number generator told, which from then on refuses to draw. Newer releases clean up in
    ``capture_end`` and ``reset``; there, ending once more is an error, and nothing is left to be done.
    """
    with contextlib.suppress(Exception):
        graph.capture_end()  # the stream must not go on capturing, whatever went wrong
    with contextlib.suppress(Exception):
        graph.reset()
    _failed.append(graph)  # the allocator of pinned memory may go on asking it whether it is capturing
    end = getattr(torch._C, "_cuda_endAllocateToPool", None)
    if end is None:
        return
    try:
        end(device.index, pool)
    except RuntimeError:  # not allocating to this pool: torch has ended it
        return
    torch._C._cuda_releasePool(device.index, pool)  # `reset` releases only what was captured
    with contextlib.suppress(Exception):
        generator = torch.cuda.default_generators[device.index]
        generator.graphsafe_set_state(generator.clone_state())  # the same state, of a generator that is not capturing
