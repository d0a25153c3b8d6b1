"""Trial: one job of a study: train a config up to a rung, and measure it."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gpurender.search.config import Config
from gpurender.search.ladder import Ladder
from gpurender.search.measures import measure
from gpurender.tasks import Task
from gpurender.training.loop import STATE, StateError
from gpurender.training.pretrain import pretrain
from gpurender.util.atomic_files import replacing

EMA = 0.99  # of the weights that are measured: an average over 100 steps stands for the decay of the rate
WARMUP = 10  # part of the first rung
SAVE_EVERY = 100  # steps


def trained(
    config: Config, tasks: Mapping[str, Task], ladder: Ladder, rung: int, folder: Path, work: Path, device: torch.device
) -> dict[str, Any]:
    """Train a config from where its checkpoint ends, measure it, and return its result.

    The rate is constant after the warm-up, because a rung must not depend on whether another one follows; averaged
    weights are measured. A training that fails (a loss that is not finite, too little memory, a batch that does not fit
    the recipe) is a result, too: ``score`` is ``None`` and ``error`` says why.

    Args:
        config: what is trained.
        tasks: what it is measured on, by name.
        ladder, rung: how long, and how it is measured.
        folder: of its trainings, one folder per rung.
        work: of its fine-tunings.
        device: that renders and trains.
    """
    began = time.monotonic()
    try:
        checkpoint = _pretrained(config, ladder, rung, folder, device)
    except (TypeError, ValueError, RuntimeError) as error:
        return {"rung": rung, "score": None, "error": " ".join(str(error).split())}
    middle = time.monotonic()
    found = measure(checkpoint, tasks, ladder, rung, work, device)
    seconds = {"training": round(middle - began, 1), "measuring": round(time.monotonic() - middle, 1)}
    score = sum(figures["score"] for figures in found.values()) / len(found)
    return {"rung": rung, "score": score, "tasks": found, "seconds": seconds}


def _pretrained(config: Config, ladder: Ladder, rung: int, folder: Path, device: torch.device) -> Path:
    """Train a config up to a rung, and return its checkpoint; a damaged state is replaced by a new training."""
    output = folder / str(rung)
    output.mkdir(parents=True, exist_ok=True)
    below = folder / str(rung - 1) / STATE
    if not (output / STATE).exists() and below.exists():
        with replacing(output / STATE, durable=True) as temporary:
            shutil.copyfile(below, temporary)
    settings = {"ema": EMA, **config.training}

    def train() -> Path:
        return pretrain(
            config.recipe, config.model, output, preset=config.preset, images=ladder.images[rung],
            schedule="constant", warmup=ladder.images[0] // WARMUP, device=device, seed=config.seed,
            save_every=SAVE_EVERY, **settings,
        )  # fmt: skip

    try:
        checkpoint = train()
    except StateError:
        shutil.rmtree(output)
        checkpoint = train()
    below.unlink(missing_ok=True)  # the state alone: the checkpoint of every rung stays
    return checkpoint
