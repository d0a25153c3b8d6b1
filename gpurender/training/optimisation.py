"""Optimiser and schedule, both timm's. The rate is a function of the step alone, so no schedule has a state."""

from dataclasses import dataclass
from typing import Any

from torch import nn, optim

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
MOMENTUM = 0.9  # of SGD, in every paper here
WARMUP_LR = 1e-6  # of the first step of a warm-up, as in DeiT


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step.

    Attributes:
        kind: ``"cosine"`` (half a cosine from ``lr`` to ``min_lr``), ``"steps"`` (times 0.1 at each third) or
            ``"constant"``, under which a longer training goes on from a shorter one.
        steps: optimiser steps of the training.
        warmup: steps in which the rate rises linearly from 1e-6 to ``lr``.
        lr, min_lr: the rate after the warm-up, and at the end of the cosine.
    """

    kind: str
    steps: int
    warmup: int
    lr: float
    min_lr: float


def optimizer(model: nn.Module, name: str, lr: float, weight_decay: float) -> optim.Optimizer:
    """Return timm's optimiser of a model: ``"adamw"`` (no decay of biases and norms), or ``"sgd"`` with momentum."""
    from timm.optim import create_optimizer_v2

    if name == "adamw":
        return create_optimizer_v2(model, opt="adamw", lr=lr, weight_decay=weight_decay, filter_bias_and_bn=True)
    options: dict[str, Any] = {"momentum": MOMENTUM, "filter_bias_and_bn": False}  # timm's "sgd" would be Nesterov's
    return create_optimizer_v2(model, opt="momentum", lr=lr, weight_decay=weight_decay, **options)


def scheduler(over: optim.Optimizer, schedule: Schedule) -> Any:
    """Return timm's scheduler; ``step_update(n)`` sets the rate of step n."""
    from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler

    begin = min(WARMUP_LR, schedule.lr)
    common: dict[str, Any] = {"warmup_t": schedule.warmup, "warmup_lr_init": begin, "t_in_epochs": False}
    if schedule.kind == "cosine":
        return CosineLRScheduler(over, t_initial=schedule.steps, lr_min=min(schedule.min_lr, schedule.lr), **common)
    falls = (1, 2) if schedule.kind == "steps" else ()  # of a constant rate none
    thirds = [-(-third * schedule.steps // 3) + 1 for third in falls]  # timm lowers the rate one step before
    return MultiStepLRScheduler(over, decay_t=thirds, decay_rate=0.1, **common)
