"""Optimisers and rates, against their formulas."""

import dataclasses
import math

import pytest
import torch

from gpurender.training import optimisation
from gpurender.training.optimisation import Schedule

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")


def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))


def test_adamw_decays_weights_alone():
    found = optimisation.optimizer(model(), "adamw", 0.25, 0.5)
    assert isinstance(found, torch.optim.AdamW)
    groups = {group["weight_decay"]: [tuple(p.shape) for p in group["params"]] for group in found.param_groups}
    assert groups == {0.0: [(4,)] * 3, 0.5: [(4, 3)]}
    assert {group["lr"] for group in found.param_groups} == {0.25}


def test_sgd_has_plain_momentum_and_decays_everything():
    found = optimisation.optimizer(model(), "sgd", 0.25, 0.5)
    assert isinstance(found, torch.optim.SGD)
    [group] = found.param_groups
    assert len(group["params"]) == 4
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.25, 0.5, 0.9)
    assert not group["nesterov"]


def rates(kind, steps, warmup=0, lr=1.0, min_lr=0.0):
    over = torch.optim.SGD(model().parameters(), lr=lr)
    schedule = optimisation.scheduler(over, Schedule(kind, steps, warmup, lr, min_lr))
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append(over.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(("lr", "begin"), [(1.0, 1e-6), (1e-7, 1e-7)])
def test_a_cosine_rises_in_its_warm_up_and_falls_to_the_least(lr, begin):
    rise = [begin + (lr - begin) * n / 4 for n in range(4)]
    low = min(lr, 0.125)
    fall = [low + (lr - low) * 0.5 * (1 + math.cos(math.pi * n / 10)) for n in range(4, 10)]
    assert rates("cosine", 10, 4, lr, 0.125) == pytest.approx(rise + fall)
    assert rates("cosine", 1, lr=lr) == [lr]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 10, 11])
def test_steps_are_times_a_tenth_at_each_third(steps):
    assert rates("steps", steps, lr=2.0) == pytest.approx([2.0 * 0.1 ** (3 * n // steps) for n in range(steps)])


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_constant_rate_does_not_depend_on_the_number_of_steps(steps):
    assert rates("constant", steps, lr=2.0) == [2.0] * steps
    assert rates("constant", steps, 2, lr=1.0, min_lr=0.5) == pytest.approx([1e-6, (1 + 1e-6) / 2, *[1.0] * 8][:steps])


def test_a_schedule_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Schedule("cosine", 1, 0, 1.0, 0.0).steps = 2
