"""CUDA graphs: a sequence of launches, captured once and started as a whole.

A batch is some twenty launches, with the papers' augmentation a hundred more, half a millisecond of the host's time; as
a graph it is one. What is captured must be the same launches with the same addresses every time, and must not wait for
the host. A policy of the user's own may do otherwise; then the capture fails, which is said once, and everything goes
on without. Nor is a captured sequence trusted before its first result has been compared with that of the plain
launches.

A graph writes into the same memory every time; what it made is copied into new tensors at once, which costs less than
a tenth of making it. So the graphs of a recorder share one pool of memory: none is needed by the time the next runs.
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch

from gpurender import devices

log = logging.getLogger("gpurender")

Tensors = tuple[torch.Tensor, ...]

MAX_GRAPHS = 8  # each keeps the batch that it writes; a sampler may ask for batches of any size
PLAIN_RUNS = 2  # before a capture: the first compiles, a batch that comes once or twice is not worth one


class Recorder:
    """Runs a sequence of launches, by a graph where it can."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._runs: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, tuple[Any, Tensors]] = {}
        self._pool: Any = None
        self._off = not devices.on_gpu(device)

    def run(self, key: Hashable, launches: Callable[[], Tensors], restart: Callable[[], None]) -> Tensors:
        """The tensors that ``launches()`` makes, new ones every time.

        Args:
            key: what the launches depend on, apart from device memory; ``None``: on more, so they are not captured.
            launches: called to launch or to capture them.
            restart: sets device memory to what it was before, called before they are captured.
        """
        if self._off or key is None:
            return launches()
        if key in self._graphs:
            graph, tensors = self._graphs[key]
            graph.replay()
            return tuple(tensor.clone() for tensor in tensors)
        plain = launches()
        self._runs[key] = self._runs.get(key, 0) + 1
        if self._runs[key] > PLAIN_RUNS and len(self._graphs) < MAX_GRAPHS:
            try:
                self._capture(key, launches, plain, restart)
            except Exception as error:  # whatever cannot be captured is launched
                self._off = True
                self._graphs.clear()
                self._pool = None
                log.info("batches are launched one kernel at a time: %s", " ".join(str(error).split())[:200])
                restart()
                return launches()
        return plain

    def forget(self) -> None:
        """Throw away what was captured: memory that it reads has moved."""
        self._graphs.clear()
        self._runs.clear()
        self._pool = None  # a pool that no graph uses any more may not be captured into again

    def _capture(
        self, key: Hashable, launches: Callable[[], Tensors], plain: Tensors, restart: Callable[[], None]
    ) -> None:
        """Capture the launches, run them once more and compare."""
        restart()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph, tensors = capture(launches, self._device, self._pool)
        graph.replay()
        if not all(torch.equal(a, b) for a, b in zip(plain, tensors, strict=True)):
            raise RuntimeError("the graph drew something else")
        self._graphs[key] = graph, tensors


def capture(launches: Callable[[], Tensors], device: torch.device, pool: Any) -> tuple[Any, Tensors]:
    """A graph of the launches on the current stream, not run yet, and the tensors it will write."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream(device)
    # thread_local: other threads, such as one that saves a checkpoint, may go on calling CUDA
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        tensors = launches()
    return graph, tensors
