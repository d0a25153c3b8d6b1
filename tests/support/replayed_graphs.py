"""CUDA graphs that are none: they run their launches again."""

import functools

import torch

from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.loading import cuda_graphs
from gpurender.runtime import devices


def memory_of(made):
    """The tensors among what launches return, and those that last launches read, in order."""
    if isinstance(made, torch.Tensor):
        yield made
    elif isinstance(made, (tuple, list)):
        for part in made:
            yield from memory_of(part)
    elif isinstance(made, functools.partial):
        yield from memory_of(made.args)
    elif isinstance(made, BitCanvases):
        yield from memory_of((made.rows, made.which, made.orientations))
    elif callable(made):
        for cell in getattr(made, "__closure__", None) or ():
            yield from memory_of(cell.cell_contents)


class Replayed:
    """A graph that is none: replaying runs the launches again and writes into the memory of the capture."""

    def __init__(self, launches, made, spoil=False):
        self.launches, self.made, self.spoil, self.replays = launches, made, spoil, 0

    def replay(self):
        self.replays += 1
        for old, new in zip(memory_of(self.made), memory_of(self.launches()), strict=True):
            if old is not new:  # a table is not written
                old.copy_(new + 1 if self.spoil else new)


def counting(monkeypatch):
    """Return a cell and launches that count on in it, as a batch's cursor does; captures are emulated from then on."""
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    cell = torch.zeros(1, dtype=torch.int64)

    def launches():
        made = cell.clone(), cell * 2, cell * 3
        cell.add_(1)
        return made

    def captured(calls, device, pool):
        before = cell.clone()
        tensors = calls()
        cell.copy_(before)  # a capture runs nothing
        return Replayed(calls, tensors), tensors

    monkeypatch.setattr(cuda_graphs, "capture", captured)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    return cell, launches


def run(cache, cell, launches, times, key="key"):
    """The counts of successive runs, each of which begins where the one before ended."""
    found = []
    for _ in range(times):
        start = cell.item()
        made = cache.run(key, launches, lambda start=start: cell.fill_(start))
        found.append(tuple(tensor.item() for tensor in made))
    return found
