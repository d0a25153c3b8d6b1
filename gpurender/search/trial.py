"""Trial: one job of a study: train a config up to a rung, and measure it."""

import json
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpurender.search.config import Config
from gpurender.search.ladder import Ladder
from gpurender.search.measures import Judged, measure
from gpurender.training.checkpoint import describe
from gpurender.training.engine import TooLargeError
from gpurender.training.journal import METRICS
from gpurender.training.loop import CHECKPOINT, STATE, DivergedError, StateError
from gpurender.training.pretrain import pretrain
from gpurender.util.atomic_files import check_writable, replacing

log = logging.getLogger("gpurender")

EMA = 0.99  # of the weights that are measured: an average over 100 steps stands for the decay of the rate
AMP = "bf16"  # on every device, so that a worker goes on with what another one began
WARMUP = 10  # part of the first rung
SAVE_EVERY = 100  # steps


class FailedError(Exception):
    """A config cannot be trained or measured, on whatever machine."""


def trained(
    config: Config,
    tasks: Mapping[str, Judged],
    ladder: Ladder,
    rung: int,
    folder: Path,
    work: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Train a config from where its checkpoint ends, measure it, and return its result.

    The rate is constant after the warm-up, because a rung must not depend on whether another one follows; averaged
    weights are measured. A config that fails is a result, too: ``score`` is ``None`` and ``error`` says why. A config
    fails if its loss or a figure is not finite, if the memory is too small for it, or if its recipe, model and settings
    do not fit together. All other errors are the machine's, and are raised.

    Args:
        config: what is trained.
        tasks: what it is measured on, by name.
        ladder, rung: how long, and how it is measured.
        folder: of its trainings, one folder per rung.
        work: an empty folder.
        device: that renders and trains.
    """
    output = folder / str(rung)
    try:
        checkpoint = _pretrained(config, ladder, rung, folder, device)
        copy = work / CHECKPOINT  # a worker that has lost this job may still be writing the other one
        shutil.copyfile(checkpoint, copy)
        found = _measured(copy, tasks, ladder, rung, work, device)
    except FailedError as error:
        return {"rung": rung, "score": None, "error": str(error)}
    score = sum(figures["score"] for figures in found.values()) / len(found)
    below = folder / str(rung - 1) / CHECKPOINT  # it is not there if the lower rung was trained on another file system
    begun = describe(below)["images"] if below.exists() else 0
    return {"rung": rung, "score": score, "tasks": found, "seconds": {"training": _seconds(output, begun)}}


def _pretrained(config: Config, ladder: Ladder, rung: int, folder: Path, device: torch.device) -> Path:
    """Train a config up to a rung, and return its checkpoint; a state that cannot be used is replaced."""
    output = folder / str(rung)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output / CHECKPOINT)
    below = folder / str(rung - 1) / STATE

    def train() -> Path:
        if not (output / STATE).exists() and below.exists():
            with replacing(output / STATE, durable=True) as temporary:
                shutil.copyfile(below, temporary)
        return pretrain(
            config.recipe, config.model, output, preset=config.preset, images=ladder.images[rung],
            schedule="constant", warmup=ladder.images[0] // WARMUP, device=device, seed=config.seed,
            save_every=SAVE_EVERY, **{"ema": EMA, "amp": AMP, **config.training},
        )  # fmt: skip

    try:
        try:
            checkpoint = train()
        except StateError as error:
            log.warning("config %s, rung %d begins again: %s", config.key[:8], rung, error)
            shutil.rmtree(output)
            output.mkdir()
            checkpoint = train()
    except DivergedError as error:
        raise FailedError(error.what) from None
    except (TypeError, ValueError, TooLargeError) as error:
        raise FailedError(" ".join(str(error).split())) from None
    below.unlink(missing_ok=True)  # the state alone: the checkpoint of every rung stays
    return checkpoint


def _measured(
    checkpoint: Path, tasks: Mapping[str, Judged], ladder: Ladder, rung: int, work: Path, device: torch.device
) -> dict[str, dict[str, Any]]:
    try:
        found = measure(checkpoint, tasks, ladder, rung, work, device)
    except DivergedError as error:
        raise FailedError(f"a fine-tuning: {error.what}") from None
    except np.linalg.LinAlgError:
        raise FailedError("its features are not finite") from None
    except TooLargeError as error:
        raise FailedError(f"a fine-tuning: {' '.join(str(error).split())}") from None
    for name, figures in found.items():
        for figure, value in figures.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise FailedError(f"{figure} on task {name!r} is {value}")
    return found


def _seconds(output: Path, begun: int) -> float:
    """Return how long the steps of a rung took, whatever killed it in between: from its journal.

    Args:
        output: the folder of the training.
        begun: the images before the rung.
    """
    total = 0.0
    for line in (output / METRICS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        total += max(0, row["images"] - begun) / row["images_per_second"]
        begun = max(begun, row["images"])
    return round(total, 1)
