"""The loop, with a model of one weight whose steps can be worked out by hand."""

import dataclasses
import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.training import checkpoint, engine, loop
from gpurender.training.loop import Settings, Training
from gpurender.training.stopping import Interrupted

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")


CPU = torch.device("cpu")
PLAIN = {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "schedule": "steps", "batch_size": 2}


class Line(torch.nn.Module):
    """y = w x, from w = 1; notes in which mode and at which seed it is asked."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, torch.initial_seed(), torch.is_autocast_enabled("cpu")))
        return self.w * x


class Numbers:
    """Batches (1, 0), (2, 0) ...: with the loss w x / 2, whose gradient is x / 2."""

    def __init__(self):
        self.place = 0

    def batches(self):
        while True:
            self.place += 1
            yield torch.tensor([float(self.place), 0.0]), torch.zeros(2)

    def state_dict(self):
        return {"position": self.place}

    def load_state_dict(self, state):
        self.place = state["position"]


def mean(outputs, targets):
    return (outputs - targets).mean()


def about(state):
    return {"kind": "test", "model": {"name": "line"}, "data": {"of": "numbers"}, "stream": state}


def training(folder, steps=4, amp="no", compiled=False, **changes):
    settings = Settings(**{**PLAIN, "steps": steps, "amp": amp, **changes})
    accelerator = engine.accelerator(CPU, amp, settings.accumulate)
    return Training(accelerator, Line().eval(), Numbers(), mean, settings, folder, about, compiled)


class Journal:
    """Notes what it is told."""

    def __init__(self):
        self.steps, self.lines = 0, []

    def advance(self):
        self.steps += 1

    def report(self, values):
        self.lines.append(values)


@pytest.fixture
def asked(monkeypatch):
    """Steps after which a signal asks for the end."""
    steps = []

    class Request:
        number = 0

        def watched(self):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def agreed(self, request):
        request.number = 15 if self.step in steps else 0
        return request.number

    monkeypatch.setattr(loop, "Request", Request)
    monkeypatch.setattr(Training, "_agreed", agreed)
    return steps


@pytest.fixture
def saved(monkeypatch):
    found = []
    monkeypatch.setattr(Training, "save", lambda self: found.append(self.step))
    return found


def test_reports_and_checkpoints_come_when_they_are_due_and_at_the_end(tmp_path, saved, monkeypatch):
    one, journal = training(tmp_path, 7), Journal()
    passed = iter([(2.0, 0.25), (4.0, 0.5), (1.0, 0.0), (0.5, 1.0)])
    monkeypatch.setattr(loop.Waiting, "restart", lambda self: next(passed))
    one.run(journal, 2, 3)
    assert saved == [3, 6, 7]
    assert journal.steps == 7
    assert all(train for train, _, _ in one.network.seen)
    ends = [2, 4, 6, 7]
    assert [line["step"] for line in journal.lines] == ends
    assert [line["images"] for line in journal.lines] == [2 * step for step in ends]
    assert [line["images_per_second"] for line in journal.lines] == [2.0, 1.0, 4.0, 4.0]
    assert [line["data_wait"] for line in journal.lines] == [0.25, 0.5, 0.0, 1.0]
    assert [set(line) for line in journal.lines] == [
        {"step", "images", "loss", "lr", "images_per_second", "data_wait"}
    ] * 4
    assert [line["lr"] for line in journal.lines] == pytest.approx([0.5, 0.05, 0.005, 0.005])


def test_a_step_is_sgd_by_hand(tmp_path):
    """The loss at step n is w n / 2; w falls by 0.5 n / 2, with momentum 0.9."""
    one, batches = training(tmp_path, 100), None
    batches = one.feed.batches()
    weight = velocity = 0.0
    weight = 1.0
    for number in range(1, 5):
        loss = one._take_step(batches)
        assert loss.item() == pytest.approx(weight * number / 2)
        assert (loss.shape, loss.dtype, loss.requires_grad) == ((), torch.float32, False)
        velocity = 0.9 * velocity + number / 2
        weight -= 0.5 * velocity
        assert one.network.w.item() == pytest.approx(weight)


def test_torch_s_defaults_do_not_change_a_step(tmp_path):
    one = training(tmp_path)
    batch = next(one.feed.batches())
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            loss = one._take_step(iter([batch]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert (loss.dtype, loss.item()) == (torch.float32, 0.5)


def test_parts_of_a_step_are_one_step_of_their_mean(tmp_path, monkeypatch):
    """Batches 1 and 2: the gradient is that of their mean, 0.75; it is clipped once, when it is whole."""
    one = training(tmp_path, 100, accumulate=2, clip=0.25, batch_size=4)
    clipped, clip = [], one.accelerator.clip_grad_norm_

    def noted(parameters, most):
        given = list(parameters)
        clipped.append((given[0].grad.item(), most))
        return clip(given, most)

    monkeypatch.setattr(one.accelerator, "clip_grad_norm_", noted)
    assert one._take_step(one.feed.batches()).item() == pytest.approx(0.75)
    assert clipped == [(0.75, 0.25)]
    assert one.network.w.item() == pytest.approx(1 - 0.5 * 0.25, abs=1e-5)
    assert one.feed.place == 2
    free = training(tmp_path, 100, clip=0.0)
    free._take_step(free.feed.batches())
    assert free.network.w.item() == 1.0  # a limit of 0 is a limit


def test_each_step_has_its_rate_and_its_seed(tmp_path):
    one = training(tmp_path, 6, seed=9)
    batches = one.feed.batches()
    for one.step in (0, 3, 5):
        one._take_step(batches)
        assert one.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.1 ** (one.step // 2))
        drawn = words(9, Stream.STEP, np.array([one.step], np.uint64))[0]
        assert one.network.seen[-1][1] == int(drawn[0]) * 2**32 + int(drawn[1])
    loop._seed(9, 3, 2)
    drawn = words(9, Stream.STEP, np.array([2 * 2**40 + 3], np.uint64))[0]
    assert torch.initial_seed() == int(drawn[0]) * 2**32 + int(drawn[1])


def test_precision_holds_for_the_model(tmp_path):
    for amp, found in (("no", False), ("bf16", True)):
        one = training(tmp_path, amp=amp)
        one._take_step(one.feed.batches())
        assert one.network.seen[-1][2] == found


def test_averaged_weights_follow_by_their_decay(tmp_path):
    """timm's: a copy until step 1, and from step 2 on a tenth of the way."""
    one = training(tmp_path, 100, ema=0.9, lr=0.125)
    batches, average = one.feed.batches(), None
    for one.step in range(5):
        one._take_step(batches)
        now = one.network.w.item()
        average = now if one.step < 2 else 0.9 * average + 0.1 * now
        assert one.ema.module.w.item() == pytest.approx(average)
    assert training(tmp_path).ema is None


def test_the_model_is_compiled_on_demand_and_moved(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    training(tmp_path)
    assert compiled == []
    one = training(tmp_path, compiled=True)
    assert compiled == [one.network]


def test_convolutions_train_in_channels_last_and_are_saved_for_all(tmp_path):
    """Weights, averages and moments; a state that an earlier version wrote, in torch's own format, goes on, too."""
    settings = Settings(**{**PLAIN, "steps": 3, "ema": 0.5, "optimizer": "adamw"})
    pictures = (torch.arange(96.0).view(2, 3, 4, 4).sin(), torch.zeros(2, 8, 4, 4))

    def made():
        torch.manual_seed(0)
        network = torch.nn.Conv2d(3, 8, 3, padding=1)
        return Training(engine.accelerator(CPU, "no", 1), network, Numbers(), mean, settings, tmp_path, about, False)

    def lies_apart(tensor):
        return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()

    one = made()
    for one.step in (0, 1):
        one._take_step(iter([pictures]))
    moments = one.optimizer.state_dict()["state"][0]["exp_avg"]
    assert all(map(lies_apart, (one.network.weight, one.ema.module.weight, moments)))
    one.step = 2
    one.save()
    saved = checkpoint.read_weights(tmp_path / "checkpoint.safetensors")["weight"]
    assert saved.is_contiguous()
    assert torch.equal(saved, one.ema.module.weight)
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    for name in ("model", "ema"):
        kept[name]["weight"] = kept[name]["weight"].contiguous()
    for name in ("exp_avg", "exp_avg_sq"):
        kept["optimizer"]["state"][0][name] = kept["optimizer"]["state"][0][name].contiguous()
    one._take_step(iter([pictures]))
    for earlier in (False, True):
        other = made()
        other.resume()
        other._take_step(iter([pictures]))
        assert torch.equal(other.network.weight, one.network.weight)
        assert torch.equal(other.ema.module.weight, one.ema.module.weight)
        assert lies_apart(other.network.weight)
        if not earlier:
            torch.save(kept, tmp_path / "state.pt")


def test_missing_memory_names_the_images_of_a_batch(tmp_path, monkeypatch):
    def step(self, batches):
        raise MemoryError

    monkeypatch.setattr(Training, "_take_step", step)
    with pytest.raises(RuntimeError, match="out of memory on cpu with 4 images per step and process"):
        training(tmp_path, batch_size=8, accumulate=2).run(Journal(), 1, 1)


def test_a_lost_loss_ends_the_training(tmp_path):
    for value in (math.inf, math.nan):
        one = training(tmp_path)
        one.step = 3
        with pytest.raises(
            RuntimeError, match=rf"^the loss is {value} at step 3: a smaller --lr or .* {tmp_path} is of"
        ):
            one._line([torch.tensor(1.0), torch.tensor(value)], None)


def test_a_signal_saves_and_ends_between_two_steps(tmp_path, asked, saved):
    asked.append(2)
    one, journal = training(tmp_path, 4), Journal()
    with pytest.raises(Interrupted) as stopped:
        one.run(journal, 10, 10)
    assert (stopped.value.number, one.step, saved, journal.lines) == (15, 2, [2], [])
    assert stopped.value.__notes__ == [f"step 2 of 4 is saved in {tmp_path}"]


def test_a_signal_at_the_last_step_comes_when_the_training_is_done(tmp_path, asked, saved, monkeypatch):
    """Else a process that goes on to something else, as a worker of a search does, would never hear of it."""
    raised = []
    monkeypatch.setattr(loop.signal, "raise_signal", raised.append)
    training(tmp_path / "calm", 4).run(Journal(), 10, 10)
    assert raised == []
    asked.append(4)
    training(tmp_path, 4).run(Journal(), 10, 10)
    assert saved == [4, 4]
    assert raised == [15]


@pytest.mark.parametrize(("processes", "step", "found"), [(1, 3, 2), (2, 3, 0), (2, 10, 15), (2, 15, 0), (3, 20, 15)])
def test_processes_agree_on_a_signal_at_every_tenth_step(processes, step, found):
    gathered = []

    def gather(number):
        gathered.append(number.tolist())
        return torch.tensor([2, 15])

    one = SimpleNamespace(accelerator=SimpleNamespace(num_processes=processes, device=CPU, gather=gather), step=step)
    assert Training._agreed(one, SimpleNamespace(number=2)) == found
    assert gathered == ([[2]] if found == 15 else [])


# -------------------------------------------------------------------------------------------------------------- files


def test_a_state_is_all_that_a_training_is(tmp_path, monkeypatch):
    replaced, replacing = [], loop.replacing
    monkeypatch.setattr(
        loop, "replacing", lambda path, **options: replaced.append((path, options)) or replacing(path, **options)
    )
    one = training(tmp_path, 3, ema=0.5, seed=4)
    one.run(Journal(), 10, 10)
    assert replaced == [(tmp_path / "state.pt", {"durable": True})]
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (kept["step"], kept["feed"], kept["scaler"]) == (3, {"position": 3}, None)
    assert kept["model"]["w"].item() == one.network.w.item() != kept["ema"]["w"].item() == one.ema.module.w.item()
    assert kept["optimizer"]["state"][0]["momentum_buffer"].item() == pytest.approx(0.5 * 0.81 + 0.9 + 1.5)
    settings = dataclasses.asdict(one.settings)
    found = checkpoint.describe(tmp_path / "checkpoint.safetensors")
    assert found == {
        "kind": "test", "model": {"name": "line"}, "data": {"of": "numbers"}, "stream": {"position": 3},
        "settings": settings, "step": 3, "images": 6, "versions": checkpoint.versions(), "version": 1,
    }  # fmt: skip
    del settings["accumulate"]
    assert kept["identity"] == {"kind": "test", "name": "line", "of": "numbers", **settings}
    averaged = checkpoint.read_weights(tmp_path / "checkpoint.safetensors")
    assert averaged["w"].item() == kept["ema"]["w"].item()


@pytest.mark.parametrize("room", [0, 10, 100, 1000])
def test_a_disk_that_becomes_full_under_a_state_is_named(tmp_path, monkeypatch, room):
    """Wherever in the file, and the state before stays."""

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(bytes(data)) > room:
                raise OSError(28, "No space left on device")
            return super().write(data)

    one = training(tmp_path)
    one.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(loop, "open", lambda path, mode: Full(path, mode), raising=False)
    one.step = 2
    with pytest.raises(OSError, match=r"No space left on device: .*state\.pt'$") as caught:
        one.save()
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "state.pt"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match=r"^another$"):
        one.save()


def test_a_training_goes_on_where_it_was_also_with_less_memory(tmp_path):
    calm = training(tmp_path, 6, ema=0.5, batch_size=4)
    batches = calm.feed.batches()
    for calm.step in range(3):
        calm._take_step(batches)
    calm.step = 3
    calm.save()
    one = training(tmp_path, 6, ema=0.5, batch_size=4, accumulate=2)  # a machine with less memory
    assert one.resume() is True
    assert (one.step, one.feed.place) == (3, 3)
    assert one.network.w.item() == calm.network.w.item()
    assert one.ema.module.w.item() == calm.ema.module.w.item()
    assert one.optimizer.state_dict()["state"][0]["momentum_buffer"].item() == pytest.approx(0.5 * 0.81 + 0.9 + 1.5)
    with pytest.raises(
        ValueError, match=r"^output: '.*' holds a training with seed=0, and this one has 1: give the same"
    ):
        training(tmp_path, 6, ema=0.5, batch_size=4, seed=1).resume()


def test_a_scaler_is_part_of_the_state(tmp_path):
    class Scaler:
        def __init__(self, scale):
            self.scale = scale

        def state_dict(self):
            return {"scale": self.scale}

        def load_state_dict(self, state):
            self.scale = state["scale"]

    for scale, saves in ((4.0, True), (1.0, False)):
        one = training(tmp_path)
        one.accelerator.scaler = Scaler(scale)
        if saves:
            one.save()
        else:
            one.resume()
    assert one.accelerator.scaler.scale == 4.0


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    one, asked = training(tmp_path), []
    one.feed.state_dict = lambda: asked.append(1) or {"position": 1}
    other = SimpleNamespace(is_main_process=False, scaler=None, device=CPU)
    with monkeypatch.context() as patch:
        patch.setattr(one, "accelerator", other)
        one.save()
    assert (asked, list(tmp_path.iterdir())) == ([1], [])  # each process asks its feed: some ask each other
    one.save()
    (tmp_path / "checkpoint.safetensors").unlink()
    monkeypatch.setattr(one, "accelerator", other)
    assert one.resume()
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_the_checkpoint_is_written_anew_only_if_it_is_of_another_step(tmp_path, monkeypatch):
    one = training(tmp_path)
    assert one.resume() is False
    one.save()
    written = []
    monkeypatch.setattr(Training, "_save_checkpoint", lambda self, state: written.append(state))
    one.resume()
    assert written == []
    (tmp_path / "checkpoint.safetensors").write_text("torn")
    one.resume()
    assert written == [{"position": 0}]


class Bad:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import gpurender.training.loop as loop; loop.RAN = True",))


def test_a_state_is_read_without_running_code_and_on_the_cpu(tmp_path, monkeypatch):
    torch.save({"identity": Bad()}, tmp_path / "state.pt")
    one = training(tmp_path)
    for reason in ("UnpicklingError", "KeyError"):
        with pytest.raises(
            ValueError, match=rf"^output: .*state\.pt cannot be read \({reason}\); remove it to begin again$"
        ):
            one.resume()
        assert not hasattr(loop, "RAN")
        torch.save({"step": 1}, tmp_path / "state.pt")
    asked = []
    monkeypatch.setattr(torch, "load", lambda path, **options: asked.append(options))
    with pytest.raises(ValueError, match="cannot be read"):
        one.resume()
    assert asked == [{"map_location": "cpu", "weights_only": True}]


# ----------------------------------------------------------------------------------------------------------- settings


BOUNDS = [
    ("steps", 1, 2**40, 1), ("batch_size", 1, 2**31 - 1, 1), ("accumulate", 1, 2**20, 1), ("warmup", 0, 50, 1),
    ("seed", 0, 2**64 - 1, 1), ("lr", 0.0, 1e6, 0.5), ("min_lr", 0.0, 1e6, 0.5), ("weight_decay", 0.0, 1e6, 0.5),
    ("clip", 0.0, 1e6, 0.5), ("ema", 0.0, 1.0, 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "low", "high", "step"), BOUNDS)
def test_a_setting_has_bounds(name, low, high, step):
    given = {"steps": 50, "batch_size": 1}
    for right, wrong in ((low, low - step), (high, high + step)):
        assert getattr(Settings(**{**given, name: right}), name) == right
        with pytest.raises(ValueError, match=rf"^{name} must be .*got "):
            Settings(**{**given, name: wrong})


def test_numpy_s_numbers_become_python_s():
    """Which are JSON; the first checkpoint of hours of training would fail."""
    whole = dict.fromkeys(("steps", "batch_size", "accumulate", "warmup", "seed"), np.int64(1))
    parts = dict.fromkeys(("lr", "min_lr", "weight_decay", "clip", "ema"), np.float32(0.5))
    found = dataclasses.asdict(Settings(**whole, **parts))
    assert {name: type(found[name]) for name in whole} == dict.fromkeys(whole, int)
    assert {name: type(found[name]) for name in parts} == dict.fromkeys(parts, float)
    for name in ("lr", "min_lr", "weight_decay"):
        with pytest.raises(TypeError, match=rf"^{name} must be a finite number in \[0, 1e\+06\], got None$"):
            Settings(steps=1, batch_size=1, **{name: None})


def test_settings_are_words_and_values_by_name():
    given = {"steps": 5, "batch_size": 1}
    assert dataclasses.asdict(Settings(**given)) == {
        **given, "accumulate": 1, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine",
        "warmup": 0, "min_lr": 0.0, "clip": None, "ema": None, "amp": "no", "seed": 0,
    }  # fmt: skip
    for name in ("optimizer", "schedule", "amp"):
        with pytest.raises(ValueError, match=rf"^{name} must be one of "):
            Settings(**given, **{name: "other"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(**given).steps = 6
    with pytest.raises(TypeError):
        Settings(5, 1)
