"""Trial: one job of a study: train a config up to a rung, and measure it."""

import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
from gpurender.training.loop import CHECKPOINT, STATE, DivergedError, StateError, Training
from gpurender.training.pretrain import prepared, pretrain
from gpurender.training.together import together
from gpurender.util.atomic_files import check_writable, replacing

log = logging.getLogger("gpurender")

EMA = 0.99  # of the weights that are measured: an average over 100 steps stands for the decay of the rate
AMP = "bf16"  # on every device, so that a worker goes on with what another one began
WARMUP = 10  # part of the first rung
SAVE_EVERY, LOG_EVERY = 100, 10  # steps


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
    begun = _images(folder / str(rung - 1) / CHECKPOINT)
    return {"rung": rung, "score": score, "tasks": found, "seconds": {"training": _seconds(output, begun)}}


def trained_together(
    configs: Sequence[tuple[Config, Path]], ladder: Ladder, rung: int, device: torch.device
) -> None:  # fmt: skip
    """Train configs that see the same batches up to a rung, in step; each ends as :func:`trained` would train it alone.

    What goes wrong with one of them is left to :func:`trained`, which goes on with what is there, and judges it.

    Args:
        configs: with equal ``batches``, and the folder of the trainings of each.
        ladder, rung, device: of :func:`trained`.
    """
    together(_resumed(configs, ladder, rung, device), LOG_EVERY, SAVE_EVERY)


def _resumed(
    configs: Sequence[tuple[Config, Path]], ladder: Ladder, rung: int, device: torch.device
) -> Iterator[Training]:  # fmt: skip
    """Yield the trainings that can begin or go on; nobody else holds them, so that one that ends frees its memory."""
    for config, folder in configs:
        try:
            training = prepared(**_arguments(config, ladder, rung, _begun(folder, rung), device))
            training.resume()
        except Exception as error:  # whatever it is, it comes again where the config is trained alone
            log.warning("config %s, rung %d is trained alone: %s", config.key[:8], rung, " ".join(str(error).split()))
        else:
            yield training
            del training


def _arguments(config: Config, ladder: Ladder, rung: int, output: Path, device: torch.device) -> dict[str, Any]:
    """Return the arguments of a pre-training up to a rung."""
    return {
        "recipe": config.recipe, "model": config.model, "output": output, "preset": config.preset,
        "images": ladder.images[rung], "schedule": "constant", "warmup": ladder.images[0] // WARMUP, "device": device,
        "seed": config.seed, "ema": EMA, "amp": AMP, **config.training,
    }  # fmt: skip


def _begun(folder: Path, rung: int) -> Path:
    """Return the folder of a training up to a rung, with the state of the rung below if it has none of its own."""
    output, below = folder / str(rung), _below(folder, rung)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output / CHECKPOINT)
    if not (output / STATE).exists() and below.exists():
        with replacing(output / STATE, durable=True) as temporary:
            shutil.copyfile(below, temporary)
    return output


def _below(folder: Path, rung: int) -> Path:
    """Return the path of the state of the rung below."""
    return folder / str(rung - 1) / STATE


def _pretrained(config: Config, ladder: Ladder, rung: int, folder: Path, device: torch.device) -> Path:
    """Train a config up to a rung, and return its checkpoint.

    A state that cannot be used is removed: first its own, then that of the rung below; then it begins anew.
    """
    own = (folder / str(rung) / STATE).exists()
    output = _begun(folder, rung)
    arguments = _arguments(config, ladder, rung, output, device)
    try:
        while True:
            try:
                checkpoint = pretrain(**arguments, log_every=LOG_EVERY, save_every=SAVE_EVERY)
                break
            except StateError as error:
                log.warning("config %s, rung %d begins again: %s", config.key[:8], rung, error)
                if not own:  # it was that of the rung below
                    _below(folder, rung).unlink(missing_ok=True)
                shutil.rmtree(output)
                own = False
                _begun(folder, rung)
    except DivergedError as error:
        raise FailedError(error.what) from None
    except (TypeError, ValueError, TooLargeError) as error:
        raise FailedError(" ".join(str(error).split())) from None
    _below(folder, rung).unlink(missing_ok=True)  # the state alone: the checkpoint of every rung stays
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


def _images(checkpoint: Path) -> int:
    """Return how many images a checkpoint has seen; 0 if it is not whole, or on another file system."""
    try:
        return describe(checkpoint)["images"]
    except ValueError:
        return 0


def _seconds(output: Path, begun: int) -> float:
    """Return how long the steps of a rung took, whatever killed it in between: from its journal, 0 without one.

    Args:
        output: the folder of the training.
        begun: the images before the rung.
    """
    total = 0.0
    if not (output / METRICS).exists():
        return total
    for line in (output / METRICS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        total += max(0, row["images"] - begun) / row["images_per_second"]
        begun = max(begun, row["images"])
    return round(total, 1)
