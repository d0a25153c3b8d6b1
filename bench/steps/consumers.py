"""Batches are right for consumers that keep all, work on streams of their own, compile, or replay graphs."""

from collections.abc import Callable
from typing import Any

import torch

import gpurender as gr
from bench.steps.seen import Seen

Sums = list[torch.Tensor]


def consumers(seen: Seen) -> None:
    """Compare checksums of what reaches each consumer with those of a loader on the CPU."""
    recipe = gr.VisualAtom(classes=50, instances=seen.pick(2, 20, 20), image_size=128, orbits=(1, 20))
    keywords = {"batch_size": 32, "image_size": 64, "shuffle": True, "augment": gr.augment.Crop()}
    wanted = [checksum(images) for images, _ in gr.DataLoader(recipe, device="cpu", **keywords)]
    wrong = []
    for name, consume in CONSUMERS.items():
        sums = consume(gr.DataLoader(recipe, device=seen.device, **keywords))
        bad = [i for i, (a, b) in enumerate(zip(sums, wanted, strict=True)) if not torch.equal(a.cpu(), b)]
        wrong += [name] if bad else []
        seen.row({"consumer": name, "batches": len(sums), "wrong_batches": bad})
    if wrong:
        raise AssertionError(f"other batches than the CPU's reach: {', '.join(wrong)}")


def checksum(images: torch.Tensor) -> torch.Tensor:
    """An integer of each image, the same in whatever order it is added up: int64 [B] of float32 [B, ...]."""
    bits = images.view(torch.int32).flatten(1).long()
    return (bits * (torch.arange(bits.shape[1], device=bits.device) * 2 + 1)).sum(1)


def keeps_all(loader: Any) -> Sums:
    """Everything is looked at when all has been drawn."""
    kept = [images for images, _ in loader]
    return [checksum(images) for images in kept]


def is_late(loader: Any) -> Sums:
    """Another stream reads a batch long after it was dropped here, as ``record_stream`` allows."""
    side, sums = torch.cuda.Stream(), []
    for images, _ in loader:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            torch.cuda._sleep(2_000_000)
            sums.append(checksum(images))
        images.record_stream(side)
    torch.cuda.current_stream().wait_stream(side)
    return sums


def _network(like: torch.Tensor) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 16, 16), torch.nn.Flatten(), torch.nn.Linear(256, 50))
    network.to(like.device)
    return network, torch.optim.SGD(network.parameters(), lr=1e-3)


def compiles(loader: Any) -> Sums:
    """A training step through torch.compile."""
    network, optimizer = _network(next(iter(loader))[0])

    def loss_of(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(images), targets)

    compiled, sums = torch.compile(loss_of), []
    for images, targets in loader:
        compiled(images, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        sums.append(checksum(images))
    return sums


def replays(loader: Any) -> Sums:
    """A training step in a CUDA graph, which reads the batch from a place of its own."""
    first, labels = next(iter(loader))
    network, optimizer = _network(first)
    images, targets = torch.zeros_like(first), torch.zeros_like(labels)

    def step() -> torch.Tensor:
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return checksum(images)

    side, sums = torch.cuda.Stream(), []
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph, result = captured(step)
    for batch, labels in loader:
        images[: len(batch)].copy_(batch)
        targets[: len(labels)].copy_(labels)
        graph.replay()
        sums.append(result[: len(batch)].clone())
    return sums


def captured(step: Callable[[], torch.Tensor]) -> tuple[Any, torch.Tensor]:
    """A graph of a step, and what it will write."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph, result


CONSUMERS: dict[str, Callable[[Any], Sums]] = {
    "keeps all": keeps_all, "is late": is_late, "replays": replays, "compiles": compiles,
}  # fmt: skip
