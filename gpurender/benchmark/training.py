"""Step time of a training loop: with the loader, and with one batch that never changes.

The difference is the loader's cost to a model. Images/s alone do not show this cost, because the loader renders in
parallel to the step.
"""

import functools
import logging
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import torch

from gpurender.benchmark.timing import LEAST, until, warm_up
from gpurender.runtime import devices
from gpurender.util import checks

log = logging.getLogger("gpurender")

WINDOW = 10  # steps per measurement on a GPU; on a CPU 1
SLOW_STEP = 2.0  # seconds: the steps then take half a minute or more, without a line on standard output

Batch = tuple[torch.Tensor, torch.Tensor]


class Trainer:
    """A timm model with random weights, in bfloat16 by autocast, under AdamW.

    Args:
        model: timm's name of the model.
        classes: number of classes of the targets.
        image_size: side of the images in pixels.
        device: where to train.
        loss: of the targets; ``None``: cross-entropy.

    Raises:
        RuntimeError: timm is not installed.
        ValueError: timm has no such model.
    """

    def __init__(
        self, model: str, *, classes: int, image_size: int, device: torch.device, loss: torch.nn.Module | None = None
    ) -> None:
        require_timm(model)
        import timm

        config = timm.get_pretrained_cfg(model)
        size: dict[str, Any] = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
        torch.manual_seed(0)
        self._network = timm.create_model(model, num_classes=classes, **size).to(device).train()
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=1e-4, fused=devices.on_gpu(device))
        self._device = device
        self._loss = torch.nn.CrossEntropyLoss() if loss is None else loss

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Take one optimiser step; return the loss without reading its value."""
        with torch.autocast(self._device.type, torch.bfloat16):
            loss = self._loss(self._network(images), targets)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss


def require_timm(model: str) -> None:
    """Refuse a model that timm cannot make, before long work begins."""
    if find_spec("timm") is None:
        raise RuntimeError("training needs timm: pip install 'gpurender[train]'")
    import timm

    if not timm.is_model(model):
        hint = checks.did_you_mean(model, timm.list_models())
        raise ValueError(f"model must be one of timm.list_models(), got {model!r}{hint}")


def step_times(
    trainer: Trainer, feeds: Mapping[str, Iterator[Batch]], device: torch.device, seconds: float
) -> dict[str, list[float]]:
    """Return milliseconds per step with each feed, one number per window, measured for ``seconds`` after a warm-up.

    The feeds alternate window by window, so that a clock that drops as the chip warms up drops for all of them, and so
    that numbers at the same index of the lists are neighbours in time.

    Args:
        trainer: takes the steps.
        feeds: endless batches on the device, by name.
        device: the trainer's device.
        seconds: approximate measuring time per feed.
    """
    for number, (name, feed) in enumerate(feeds.items()):
        begin = time.perf_counter()
        count = warm_up(functools.partial(_step, trainer, feed), seconds, device, f"train, {name}")
        took = (time.perf_counter() - begin) / count
        if number == 0 and took > SLOW_STEP:
            more = len(feeds) - 1 + LEAST * len(feeds)
            log.warning("a training step takes %.0f s, and %d more follow; smaller batches take less", took, more)
    times: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in until(seconds * len(feeds), "train"):
        for name, feed in feeds.items():
            times[name].append(_window(trainer, feed, device))
    return times


def _step(trainer: Trainer, feed: Iterator[Batch]) -> torch.Tensor:
    return trainer.step(*next(feed))


def _window(trainer: Trainer, feed: Iterator[Batch], device: torch.device) -> float:
    """Return milliseconds per step. On a GPU, use events after an uncounted step that begins with an empty queue."""
    if not devices.on_gpu(device):
        begin = time.perf_counter()
        _step(trainer, feed)
        return 1e3 * (time.perf_counter() - begin)
    with torch.cuda.device(device):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        _step(trainer, feed)
        first.record()
        for _ in range(WINDOW):
            _step(trainer, feed)
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / WINDOW
