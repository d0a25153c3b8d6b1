"""A warm-up by a clock that is set: its steps, its rates, and what it leaves as it was."""

import math
from types import SimpleNamespace

import pytest
import torch

import gpurender as gr
from tests.support.bars import Bars
from tests.support.modules import module

warm = module("gpurender.training.warm_up")
RECIPE = gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(2, 4), radius=(4, 8))
CPU = torch.device("cpu")


class Pass(Bars):
    """A bar with a place."""

    n = 0

    def update(self, n=1):
        super().update(n)
        self.n += n


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by so many seconds a step; the loader's keywords and the bar."""
    found = SimpleNamespace(step=1.0, now=100.0, loaders=[], bar=Pass(), images=torch.ones(2, 4))

    def loader(recipe, **options):
        found.loaders.append((recipe, options))
        return [(found.images, torch.tensor([0, 3]))] * 3

    def monotonic():
        found.now += found.step
        return found.now - found.step

    monkeypatch.setattr(warm, "DataLoader", loader)
    monkeypatch.setattr(warm, "progress", found.bar)
    monkeypatch.setattr(warm, "time", SimpleNamespace(monotonic=monotonic))
    return found


@pytest.fixture
def optimiser(monkeypatch):
    """Rates of the steps, and the options of AdamW."""
    found, adamw = SimpleNamespace(rates=[], options=[], groups=[]), torch.optim.AdamW

    class Noted(adamw):
        def __init__(self, parameters, **options):
            parameters = list(parameters)
            found.options.append(options)
            found.groups.append(len(parameters))
            super().__init__(parameters, **options)

        def step(self):
            found.rates.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(torch.optim, "AdamW", Noted)
    return found


class Two(torch.nn.Module):
    """Two layers, of which the first may be frozen; notes how it is asked."""

    def __init__(self, bias=True):
        super().__init__()
        self.body, self.head, self.norm = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3, bias=bias), torch.nn.LayerNorm(4)
        self.seen = []

    def forward(self, x):
        self.seen.append(
            (self.training, self.head.out_features, self.head.bias is None, torch.is_autocast_enabled("cpu"))
        )
        return self.head(self.norm(self.body(x)))


def test_the_rate_rises_for_a_tenth_of_the_time_and_falls_as_half_a_cosine(clock, optimiser):
    """A step a second: a minute is sixty steps, the first at time 0; a pass of the loader is three."""
    model = Two()
    gr.warm_up(model, RECIPE, 1.0, lr=2.0, weight_decay=0.25, batch_size=2)
    wanted = []
    for second in range(60):
        part = second / 60
        rise, fall = (part + 0.001) / 0.1, 0.5 * (1 + math.cos(math.pi * max(0.0, part - 0.1) / 0.9))
        wanted.append(2.0 * min(rise, fall))
    assert optimiser.rates == pytest.approx(wanted)
    assert optimiser.options == [{"lr": 2.0, "weight_decay": 0.25}]
    assert optimiser.groups == [6]
    assert model.seen == [(True, 4, False, False)] * 60
    assert clock.bar.made == [{"total": 60, "desc": "warm-up", "unit": "s"}]
    assert clock.bar.steps == [1] * 60
    assert all(parameter.grad is None for parameter in model.parameters())


def test_time_ends_within_a_pass_and_the_bar_at_its_end(clock, optimiser):
    clock.step = 14.0
    gr.warm_up(Two(), RECIPE, 0.5, batch_size=2)
    assert len(optimiser.rates) == 3  # at 0, 14 and 28 of 30 seconds
    assert optimiser.rates[2] == pytest.approx(5e-4 * 0.5 * (1 + math.cos(math.pi * (28 / 30 - 0.1) / 0.9)))
    assert clock.bar.steps == [14, 14, 2]
    clock.step, clock.bar = 25.0, Pass()
    optimiser.rates.clear()
    gr.warm_up(Two(), RECIPE, 0.0, batch_size=2)
    assert optimiser.rates == pytest.approx([5e-4 * 0.01])  # one step at least


def test_a_step_may_take_longer_than_the_rest(clock, optimiser):
    clock.step = 40.0
    gr.warm_up(Two(), RECIPE, 1.0, batch_size=2)
    assert optimiser.rates[1] == pytest.approx(5e-4 * 0.5 * (1 + math.cos(math.pi * (40 / 60 - 0.1) / 0.9)))
    assert len(optimiser.rates) == 2


def test_the_loader_is_of_whole_shuffled_batches(clock):
    gr.warm_up(Two(), RECIPE, 0.0, augment="crop", image_size=48, batch_size=64, seed=5)
    [(recipe, options)] = clock.loaders
    assert recipe == RECIPE
    assert options == {
        "batch_size": 32, "shuffle": True, "drop_last": True, "image_size": 48, "augment": gr.augment.Crop(),
        "device": CPU, "seed": 5,
    }  # fmt: skip
    gr.warm_up(Two(), RECIPE, 0.0, batch_size=3)
    assert clock.loaders[1][1]["batch_size"] == 3


def test_what_is_frozen_stays_and_modes_come_back(clock, optimiser):
    model = Two(bias=False)
    model.body.weight.requires_grad_(False)
    model.norm.eval()
    before, head = model.body.weight.clone(), model.head
    torch.manual_seed(8)
    state = torch.get_rng_state()
    gr.warm_up(model, RECIPE, 0.0, batch_size=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.head is head
    assert torch.equal(model.body.weight, before)
    assert optimiser.groups == [4]  # the bias of the body, two of the norm, the weight of the new head
    assert model.seen == [(True, 4, True, False)]
    assert (model.training, model.body.training, model.norm.training) == (True, True, False)


@pytest.mark.parametrize("chosen", [torch.contiguous_format, torch.channels_last])
def test_convolutions_train_in_channels_last_and_come_back_as_they_were(monkeypatch, clock, chosen):
    """Whichever format the user has chosen."""
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1).to(memory_format=chosen)
    model = torch.nn.Sequential(convolution, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    stride, before, weight = convolution.weight.stride(), convolution.weight.clone(), convolution.weight
    clock.images = torch.ones(2, 3, 4, 4)
    seen = []
    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(
        torch.nn.Conv2d, "forward", lambda self, x: seen.append(self.weight.stride()) or forward(self, x)
    )
    gr.warm_up(model, RECIPE, 0.0, batch_size=2)
    assert seen == [(27, 1, 9, 3)]
    assert convolution.weight is weight
    assert weight.stride() == stride
    assert not torch.equal(weight, before)
    assert weight.requires_grad


def test_all_comes_back_after_an_error(clock, monkeypatch):
    def fail(*_):
        raise KeyError

    monkeypatch.setattr(warm, "_train", fail)
    model = Two().eval()
    head = model.head
    with pytest.raises(KeyError):
        gr.warm_up(model, RECIPE, 0.0, batch_size=2)
    assert model.head is head
    assert not model.training


def test_the_seed_decides_the_new_head_and_the_model_s_randomness(clock, monkeypatch):
    heads, seeds = [], []

    class Noted(Two):
        def forward(self, x):
            heads.append(self.head.weight.detach().clone())
            seeds.append(torch.rand(3).tolist())
            return super().forward(x)

    for seed in (5, 5, 6):
        torch.manual_seed(len(heads))
        gr.warm_up(Noted(), RECIPE, 0.0, batch_size=2, seed=seed)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert seeds == [torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (5, 5, 6)]


def test_steps_follow_the_gradient_of_their_own_batch_alone(clock, optimiser):
    """AdamW's first steps are of the size of the rate; a sum of gradients would show in the momentum."""
    clock.step = 15.0
    model, other = Two(), Two()
    other.load_state_dict(model.state_dict())
    gr.warm_up(model, RECIPE, 0.5, batch_size=2, lr=0.1, seed=3)
    torch.manual_seed(3)
    own, other.head = other.head, torch.nn.Linear(4, 4)
    by_hand = torch.optim.AdamW(other.parameters(), weight_decay=0.05)
    for rate in optimiser.rates[:2]:
        by_hand.param_groups[0]["lr"] = rate
        loss = torch.nn.functional.cross_entropy(other(clock.images), torch.tensor([0, 3]))
        by_hand.zero_grad()
        loss.backward()
        by_hand.step()
    torch.testing.assert_close(model.body.weight, other.body.weight)
    assert own.out_features == 3


@pytest.mark.parametrize(
    ("name", "low", "high", "beyond"),
    [("minutes", 0.0, None, 1e6 + 1), ("lr", 0.0, 1e6, 1e6 + 1), ("weight_decay", 0.0, 1e6, 1e6 + 1),
     ("seed", 0, 2**64 - 1, 2**64), ("batch_size", 1, 2**31 - 1, 2**31)],
)  # fmt: skip
def test_a_number_has_bounds(clock, monkeypatch, name, low, high, beyond):
    monkeypatch.setattr(warm, "_train", lambda *_: None)
    given = {"minutes": 0.0, "batch_size": 2}
    for right in (low, 1e6 if high is None else high):
        gr.warm_up(Two(), RECIPE, **{**given, name: right})
    for wrong in (low - 1, beyond):
        with pytest.raises(ValueError, match=rf"^{name} must be .*got "):
            gr.warm_up(Two(), RECIPE, **{**given, name: wrong})


def test_a_minute_has_sixty_seconds(clock, monkeypatch):
    taken = []
    monkeypatch.setattr(warm, "_train", lambda *given: taken.append(given[3:]))
    gr.warm_up(Two(), RECIPE, 2.5, lr=0.5, weight_decay=0.25, batch_size=2, seed=4)
    assert taken == [(150.0, 0.5, 0.25, CPU, 4)]


def test_a_model_trains_where_it_is_told_and_comes_back(clock, monkeypatch):
    moved = []

    class Moved(Two):
        def to(self, device):
            moved.append(device)
            return self

    gr.warm_up(Moved(), RECIPE, 0.0, batch_size=2)
    assert moved == [CPU, CPU]
    moved.clear()
    monkeypatch.setattr(warm, "_train", lambda *given: moved.append(given[6]))
    forked = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: forked.append(devices) or Bars())
    gr.warm_up(Moved(), RECIPE, 0.0, batch_size=2, device="cuda:1")
    cuda = torch.device("cuda", 1)
    assert moved == [cuda, cuda, CPU]
    assert forked == [[cuda]]
    assert clock.loaders[1][1]["device"] == cuda
    gr.warm_up(Two(), RECIPE, 0.0, batch_size=2)
    assert forked[1] == []


def test_on_a_gpu_the_model_is_asked_in_bfloat16(clock, monkeypatch):
    asked = []

    class Autocast(Bars):
        def __init__(self, kind, dtype, enabled):
            super().__init__()
            asked.append((kind, dtype, enabled))

    monkeypatch.setattr(torch, "autocast", Autocast)
    for kind in ("cpu", "cuda"):
        batch = (clock.images, torch.tensor([0, 2]))
        warm._train(Two(), [batch], torch.nn.CrossEntropyLoss(), 0.0, 0.1, 0.0, SimpleNamespace(type=kind), 0)
    assert asked == [("cpu", torch.bfloat16, False), ("cuda", torch.bfloat16, True)]


def test_the_head_is_timms_classifier_or_the_last_linear_layer():
    def linear(**more):
        made = Two()
        for name, value in more.items():
            setattr(made, name, value)
        return made

    assert warm._head(linear()) == "head"
    assert warm._head(linear(default_cfg={"classifier": "body"})) == "body"
    for other in ({"classifier": "norm"}, {"classifier": ("body", "head")}, {"classifier": "none"}, {}, None):
        assert warm._head(linear(default_cfg=other)) == "head"
    nested = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 3)), torch.nn.ReLU())
    inner = nested[0][0]
    assert warm._head(nested) == "0.0"
    with warm._replaced(nested, "0.0", 5, 0):
        assert (nested[0][0].in_features, nested[0][0].out_features) == (2, 5)
    assert nested[0][0] is inner


def test_a_head_is_replaced_in_its_precision():
    model = Two().double()
    with warm._replaced(model, "head", 5, 0):
        assert model.head.weight.dtype == torch.float64
    model = Two().to("meta")
    with warm._replaced(model, "head", 5, 0):
        assert model.head.weight.device.type == "meta"
