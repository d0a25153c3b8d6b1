"""One batch by its number: found from the place and the ranks alone, without iterating."""

from typing import Any, NamedTuple

import numpy as np
import torch

from gpurender.augment.parameters import Parameters
from gpurender.augment.policy import Policy
from gpurender.loading.cursor import Place
from gpurender.loading.plan import IndexBatch, OrderedPlan
from gpurender.loading.ranks import Ranks
from gpurender.loading.steps_plan import StepsPlan
from gpurender.util import checks


class StepParameters(NamedTuple):
    """Everything that decides the images of one batch of this rank.

    Attributes:
        epoch: number of its epoch.
        first: position of its first sample in the epoch.
        indices, draw_ids, augment_ids: its samples, and the addresses of the randomness of canvases and augmentation;
            int64 ``[B]`` each.
        labels: of the samples, before the policy mixes or smooths them; on the loader's device.
        policy: the policy in force.
        parameters: what the policy has drawn, on the CPU; first length B each.
    """

    epoch: int
    first: int
    indices: np.ndarray
    draw_ids: np.ndarray
    augment_ids: np.ndarray
    labels: torch.Tensor
    policy: Policy
    parameters: Parameters


def batch_of(plan: OrderedPlan | StepsPlan, place: Place, step: Any, ranks: Ranks) -> IndexBatch:
    """Return the batch of a step of the pass that a place is in.

    The batches from the place on are those that come next, also where a state was loaded that lies between two steps of
    the present size. The batches before it are known only if they had the present size.

    Args:
        plan: the order of the samples.
        place: a place in the pass.
        step: number of the batch in its pass, from 0.
        ranks: the ranks that share a step.

    Raises:
        TypeError, ValueError: ``step`` is no integer, or the pass has no such step, or its batch is not known.
    """
    done = plan.steps_before(place, ranks)
    total = done + plan.steps_left(place, ranks)
    if not total:
        raise ValueError("step must be that of a batch, and drop_last leaves no batch in this epoch")
    step = checks.integer("step", step, 0, total - 1)
    if step >= done:
        start = plan.after(place, step - done, ranks)
    else:
        begin = plan.restart(place)
        if _next(plan, plan.after(begin, done, ranks), ranks) != _next(plan, place, ranks):
            raise ValueError(
                f"step must be at least {done}: the batches before the place that was loaded had another size, "
                f"got {step}"
            )
        start = plan.after(begin, step, ranks)
    return next(iter(plan.batches(start, ranks)))


def _next(plan: OrderedPlan | StepsPlan, place: Place, ranks: Ranks) -> tuple[int, int] | None:
    """Return epoch and first position of the batch that comes after a place; ``None``: the pass has no more."""
    for batch in plan.batches(place, ranks):
        return batch.epoch, batch.first
    return None
