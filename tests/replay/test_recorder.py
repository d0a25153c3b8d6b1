"""The recorder: which losses are spikes, which of them are kept, and that their batches are found again."""

import json
import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpurender as gr
from gpurender.replay import recorder as module
from gpurender.replay.recorder import Recorder, read_record

RECIPE = gr.Noise(classes=4, instances=25, image_size=16)


def loader(**keywords):
    return gr.DataLoader(
        RECIPE, **{"batch_size": 2, "image_size": 16, "shuffle": True, "seed": 3, "device": "cpu", **keywords}
    )


class Places:
    """A loader that renders nothing: the place before batch n is n."""

    mixup_enabled = True

    def __init__(self, recipe="r"):
        self.given, self.recipe = -1, recipe

    def check_numbered(self):
        pass

    def describe(self):
        return {"recipe": self.recipe, "seed": 1, "shuffle": True, "fresh": False, "steps_per_epoch": None}

    def last_state_dict(self):
        return None if self.given < 0 else {"position": self.given}


def noted(losses, **keywords):
    places = Places()
    found = Recorder(places, **keywords)
    for loss in losses:
        places.given += 1
        found.note(loss)
    return found


USUAL = [1.0, 2.0, 3.0, 2.0, 1.0, 3.0, 2.0, 1.0, 3.0, 2.0]  # median 2, median deviation 1


@pytest.mark.parametrize(("loss", "kept"), [(2 + 6 * 1.4826, False), (2 + 6 * 1.4826 + 1e-9, True), (-100.0, False)])
def test_a_spike_lies_six_deviations_above_the_median(loss, kept):
    found = noted([*USUAL, loss])
    assert [spike.step for spike in found.spikes] == ([10] if kept else [])
    assert all(spike.height == pytest.approx(6, abs=1e-6) for spike in found.spikes)


def test_the_first_ten_losses_are_none_unless_they_are_not_finite():
    assert [spike.step for spike in noted([*USUAL[:9], 1e6]).spikes] == []
    assert [spike.step for spike in noted([*USUAL[:9], 2.0, 1e6]).spikes] == [10]
    found = noted([1.0, math.nan, -math.inf, *USUAL]).spikes
    assert [(spike.step, spike.height) for spike in found] == [(1, math.inf), (2, math.inf)]


def test_losses_that_are_all_equal_have_a_least_deviation():
    assert noted([3.0] * 10 + [3.0 + 1.7e-5]).spikes == []
    assert len(noted([3.0] * 10 + [3.0 + 1.9e-5]).spikes) == 1
    assert len(noted([0.0] * 10 + [1e-29]).spikes) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), max_size=160), st.floats(0, 3), st.integers(1, 5))
def test_spikes_are_those_of_the_definition(losses, above, most):
    kept = []
    for step, loss in enumerate(losses):
        before = losses[max(0, step - 100) : step]
        if len(before) >= 10:
            middle = statistics.median(before)
            spread = 1.4826 * statistics.median([abs(each - middle) for each in before])
            height = (loss - middle) / max(spread, 1e-6 * abs(middle), 1e-30)
            kept += [(height, step)] * (height > above)
    kept = sorted(sorted(kept, key=lambda each: -each[0])[:most], key=lambda each: each[1])
    found = noted(losses, above=above, most=most).spikes
    assert [(spike.height, spike.step, spike.state["position"]) for spike in found] == [
        (*each, each[1]) for each in kept
    ]


def test_the_highest_are_kept_and_of_equal_ones_the_first():
    found = noted([*USUAL, math.nan, 100.0, math.inf, math.nan], most=2)
    assert [spike.step for spike in found.spikes] == [10, 12]
    assert [spike.step for spike in noted([*USUAL, 50.0, 100.0, 60.0], most=1, above=2).spikes] == [11]


def test_tensors_are_read_fifty_at_a_time(monkeypatch):
    read, values = [], module._values
    monkeypatch.setattr(module, "_values", lambda losses: read.append(len(losses)) or values(losses))
    places = Places()
    found = Recorder(places)
    for step in range(101):
        places.given = step
        found.note(torch.tensor([float(step == 70) * 9 + step % 3], dtype=torch.bfloat16, requires_grad=True))
    assert read == [50, 50]
    assert [(spike.step, spike.loss) for spike in found.spikes] == [(70, 10.0)]
    assert read == [50, 50, 1]
    found.note(2)
    found.note(np.float32(2))
    assert read == [50, 50, 1, 1, 1]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("1.0", r"loss must be one number, got '1.0'"),
        (True, r"loss must be one number, got True"),
        (torch.ones(2), r"loss must be one number, got torch.float32 \[2\]"),
        (torch.ones((), dtype=torch.complex64), r"loss must be one number, got torch.complex64 \[\]"),
    ],
)
def test_what_is_no_loss_is_refused(loss, message):
    places = Places()
    places.given = 0
    with pytest.raises(TypeError, match=f"^{message}$"):
        Recorder(places).note(loss)


def test_a_loss_before_any_batch_is_refused():
    with pytest.raises(ValueError, match=r"^loss must be that of a batch, and the loader has handed out none$"):
        Recorder(loader()).note(1.0)


def test_what_is_no_loader_is_refused():
    with pytest.raises(TypeError, match=r"^loader must be a gr.DataLoader, got \[1\]$"):
        Recorder([1])
    with pytest.raises(ValueError, match=r"^sampler must be left out: only batches of the loader's own order"):
        Recorder(loader(sampler=range(4), shuffle=None))


def test_a_recorder_is_made_before_the_rank_is_known(monkeypatch):
    """Lightning's processes have a world size long before they have a process group."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    found = Recorder(loader())
    monkeypatch.setenv("RANK", "1")
    record = json.loads(found.to_json())["loader"]
    assert (record["rank"], record["world_size"]) == (1, 2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"most": 0}, r"most must be an integer in \[1, 10000\], got 0"),
        ({"most": 10_001}, r"most must be an integer in \[1, 10000\], got 10001"),
        ({"above": -1}, r"above must be a finite number in \[0, 1e\+06\], got -1"),
    ],
)
def test_bounds_of_the_arguments(keywords, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Recorder(Places(), **keywords)


def test_a_text_goes_on_where_it_was_made():
    first = noted([*USUAL, 100.0, math.nan])
    second = Recorder(Places())
    second.load_json(first.to_json())
    assert str(second.spikes) == str(first.spikes)
    assert second.to_json() == first.to_json()
    assert json.loads(first.to_json())["spikes"][1]["loss"] == "nan"
    places = second._loader
    for step, loss in enumerate([*USUAL, 90.0]):
        places.given = step
        second.note(loss)
    assert [spike.step for spike in second.spikes] == [10, 11, 22]


def test_the_text_of_another_loader_is_refused():
    text = noted([1.0]).to_json()
    with pytest.raises(
        ValueError, match=r"^text is of another loader's recorder: its recipe is 'r', this loader's is 'other'$"
    ):
        Recorder(Places("other")).load_json(text)


@pytest.mark.parametrize("changes", [{"batch_size": 3}, {"image_size": 8}, {"augment": "crop"}, {"drop_last": True}])
def test_the_text_of_a_loader_of_other_batches_is_refused(changes):
    """Its places would be read as those of this loader's batches."""
    [name] = changes
    with pytest.raises(ValueError, match=rf"^text is of another loader's recorder: its {name} is "):
        Recorder(loader(**changes)).load_json(Recorder(loader()).to_json())
    with pytest.raises(ValueError, match=r"^text is of another loader's recorder: its rank is 0, this loader's is 1$"):
        Recorder(loader(rank=1, world_size=2)).load_json(Recorder(loader(rank=0, world_size=2)).to_json())
    Recorder(loader()).load_json(Recorder(loader()).to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "text must be that of Recorder.to_json(): "),
        ("[]", "text must be that of Recorder.to_json(): "),
        ("{}", "text must be that of Recorder.to_json(): 'gpurender_record' is missing"),
        (
            '{"gpurender_record": 2}',
            "text must be that of Recorder.to_json(): version 2, this gpurender reads 1",
        ),
        (
            '{"gpurender_record": 1, "spikes": [], "steps": -1}',
            "text must be that of Recorder.to_json(): steps must be an integer in [0, 9223372036854775807], got -1",
        ),
        ('{"gpurender_record": 1, "spikes": [], "steps": 1}', "text must be that of Recorder.to_json(): 'loader' is"),
        (
            '{"gpurender_record": 1, "spikes": [{"step": 1}], "steps": 1}',
            "text must be that of Recorder.to_json(): 'loss' is missing",
        ),
    ],
)
def test_a_text_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_record(text)
    assert str(caught.value).startswith(message)
    with pytest.raises(TypeError, match=r"^text must be that of Recorder.to_json\(\), got int$"):
        read_record(1)


def test_the_batches_at_the_spikes_are_found_again():
    feed = loader(augment=gr.augment.DeiT(num_aug_repeats=2), steps_per_epoch=30, rank=1, world_size=2)
    found, given = Recorder(feed), {}
    rng = np.random.default_rng(0)
    for step in range(70):
        if step % 30 == 0:
            batches = iter(feed)
            feed.mixup_enabled = step < 60
        given[step] = next(batches)
        found.note(torch.tensor(9.0 if step in (29, 30, 66) else rng.uniform(1, 2)))
    assert [spike.step for spike in found.spikes] == [29, 30, 66]
    record = read_record(found.to_json())
    again = loader(augment=gr.augment.DeiT(num_aug_repeats=2), steps_per_epoch=30, rank=1, world_size=2)
    for spike in record["spikes"]:
        again.load_state_dict(spike.state)
        again.mixup_enabled = spike.mixes
        assert all(torch.equal(a, b) for a, b in zip(again.batch_at(again.step), given[spike.step], strict=True))
