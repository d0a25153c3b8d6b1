"""A rehearsal on a CPU: stand-ins for what the steps ask of ``torch.cuda``, so that all of their code runs.

What they measure then is nothing; that they run, compare, write and end in time is what a rehearsal shows.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch


class Event:
    """A moment of the host's clock."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        """Now."""
        self.at = time.perf_counter()

    def elapsed_time(self, later: "Event") -> float:
        """Milliseconds between two."""
        return 1e3 * (later.at - self.at)


class Stream:
    """Everything is in order already."""

    def wait_stream(self, other: "Stream") -> None:
        """It has happened."""


class Graph:
    """Runs a step again and writes into the tensor of the capture."""

    def __init__(self, step: Callable[[], torch.Tensor]) -> None:
        self.step, self.result = step, step()

    def replay(self) -> None:
        """As a CUDA graph does."""
        self.result.copy_(self.step())


def _captured(step: Callable[[], torch.Tensor]) -> tuple[Graph, torch.Tensor]:
    graph = Graph(step)
    return graph, graph.result


def _nothing(*arguments: Any) -> None:
    """What a machine without streams has to do for them."""


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """``torch.cuda`` as far as steps use it themselves; the library sees a machine without a GPU."""
    from bench.steps import consumers

    cuda = {
        "Event": Event, "Stream": Stream, "current_stream": Stream, "stream": contextlib.nullcontext,
        "_sleep": _nothing, "synchronize": _nothing, "get_device_name": lambda: "no GPU: a rehearsal",
        "memory_allocated": lambda: 0, "memory_reserved": lambda: 0, "current_device": lambda: 0,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, stand_in in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(mock.patch.object(torch.Tensor, "record_stream", _nothing))
        stack.enter_context(mock.patch.object(consumers, "captured", _captured))
        compiled = torch.compile  # traces, and leaves the machine code, which takes a minute, away
        stack.enter_context(mock.patch.object(torch, "compile", lambda step: compiled(step, backend="eager")))
        yield
