"""Replay: what a training saw is found again from its checkpoint, a loader's state or a recorder's text."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpurender as gr
from gpurender.augment.text import policy_of
from gpurender.replay import batches
from gpurender.replay.batches import as_bytes, plan, step_numbers
from gpurender.replay.facts import facts
from gpurender.training import checkpoint
from tests.support.modules import module

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")

RECIPE = gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4))
NONE = dict.fromkeys(("recipe", "batch_size", "image_size", "augment", "drop_last", "world_size"))


def loader(recipe=RECIPE, **keywords):
    keywords = {"batch_size": 3, "image_size": 16, "augment": "deit", "shuffle": True, "seed": 5, **keywords}
    return gr.DataLoader(recipe, device="cpu", **keywords)


def stream(feed):
    while True:
        yield from feed


def saved(folder, step, world=1, accumulate=1, batch_size=12, recipe=RECIPE, policy=None, **changes):
    """Write the checkpoint of a training that has no weights; return its path, and the loaders of its ranks."""
    policy = policy or gr.augment.DeiT(num_aug_repeats=2)
    size = batch_size // accumulate // world
    feeds = [
        loader(
            recipe, batch_size=size, augment=policy, rank=rank, world_size=world, drop_last=size * world <= len(recipe)
        )
        for rank in range(world)
    ]
    for _ in itertools.islice(stream(feeds[0]), step * accumulate):
        pass
    about = {
        "kind": "pretrain", "model": {"image_size": 16}, "processes": world, "step": step,
        "data": {"recipe": json.loads(recipe.to_json()), "augment": repr(policy), "fresh": False, "loader_seed": 5},
        "settings": {"batch_size": batch_size, "accumulate": accumulate}, "stream": feeds[0].state_dict(), **changes,
    }  # fmt: skip
    checkpoint.save(folder / "checkpoint.safetensors", {"w": torch.zeros(1)}, about)
    for feed in feeds:
        feed.set_epoch(1)
        feed.set_epoch(0)
    return folder / "checkpoint.safetensors", feeds


@pytest.mark.parametrize(
    ("world", "accumulate", "batch_size"), [(1, 1, 12), (2, 1, 12), (3, 2, 12), (1, 1, 40), (1, 2, 6)]
)
def test_the_steps_of_a_checkpoint_are_what_its_ranks_saw(world, accumulate, batch_size, tmp_path):
    path, feeds = saved(tmp_path, 7, world, accumulate, batch_size)
    seen = [list(itertools.islice(stream(feed), 7 * accumulate)) for feed in feeds]
    given_ = {(batch.step, batch.part, batch.rank): batch for batch in gr.replay.replay(tmp_path, range(7))}
    assert list(given_) == list(itertools.product(range(7), range(accumulate), range(world)))
    for (step, part, rank), batch in given_.items():
        images, targets = seen[rank][step * accumulate + part]
        assert torch.equal(batch.images, images)
        assert torch.equal(batch.targets, targets)
    [last] = gr.replay.replay(str(path), "6") if world * accumulate == 1 else [None]
    assert last is None or torch.equal(last.images, seen[0][6][0])


def test_what_pretrain_trains_on_is_what_is_replayed(monkeypatch, tmp_path):
    pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")
    pretrain, taken = module("gpurender.training.pretrain"), []
    plain = pretrain.Stream.batches

    def watched(self):
        for batch in plain(self):
            taken.append([tensor.clone() for tensor in batch])
            yield batch

    monkeypatch.setattr(pretrain.Stream, "batches", watched)
    gr.training.pretrain(
        RECIPE, "test_vit", tmp_path, steps=5, image_size=32, batch_size=8, accumulate=2, device="cpu", seed=3,
        augment=gr.augment.DeiT(mixup_mode="pair"),
    )  # fmt: skip
    found = list(gr.replay.replay(tmp_path, range(5)))
    assert len(found) == len(taken) == 10
    for batch, (images, targets) in zip(found, taken, strict=True):
        assert torch.equal(batch.images, images)
        assert torch.equal(batch.targets, targets)


FAMILIES = {
    "1p-frac": gr.OnePFrac(
        classes=3, instances=4, image_size=32, points=300, fill_rate=0.0,
        base=[[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]],
    ),
    "visual atom": RECIPE,
    "noise": gr.Noise(classes=3, instances=5, image_size=16),
    "polygons": gr.RCDB(classes=3, instances=4, image_size=32, vertices=(3, 6), polygons=(1, 3)),
    "schedule": gr.Schedule(RECIPE, radius=((0, (2, 4)), (9, (4, 6)))),
}  # fmt: skip
POLICIES = [None, "crop", "deit", gr.augment.DeiT(mixup_off_epoch=1, num_aug_repeats=2), gr.augment.TwoViews("crop")]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(FAMILIES)), st.sampled_from(POLICIES), st.integers(1, 3), st.sampled_from([None, 3]),
    st.booleans(), st.booleans(), st.integers(0, 20), st.data(),
)  # fmt: skip
def test_the_state_of_any_step_leads_to_any_step(family, policy, world, steps, fresh, drop, step, data):
    recipe = FAMILIES[family]
    keywords = {
        "augment": policy, "steps_per_epoch": steps, "fresh": fresh, "drop_last": drop, "batch_size": 2,
        "world_size": world,
    }  # fmt: skip
    feeds = [loader(recipe, rank=rank, **keywords) for rank in range(world)]
    state, seen = None, []
    until = data.draw(st.integers(0, step))
    for number, given_ in enumerate(zip(*map(stream, feeds), strict=False)):
        if number == until:
            state = feeds[0].state_dict()
        if number == step:
            seen = given_
            break
    found = list(
        gr.replay.replay(
            state, step, recipe=recipe, batch_size=2, image_size=16, augment=policy, drop_last=drop, world_size=world
        )
    )
    for batch, (images, targets) in zip(found, seen, strict=True):
        one, other = (x if isinstance(x, list) else [x] for x in (batch.images, images))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert torch.equal(batch.targets, targets)


def test_a_recorder_s_text_is_replayed(tmp_path):
    feed = loader(rank=1, world_size=2, augment=gr.augment.DeiT(num_aug_repeats=2))
    recorder, given_ = gr.replay.Recorder(feed), []
    for step, batch in enumerate(itertools.islice(stream(feed), 16)):
        given_.append(batch)
        recorder.note(float("nan") if step in (5, 7, 13) else 1.0)
    path = tmp_path / "spikes.json"
    path.write_text(recorder.to_json())
    found = list(gr.replay.replay(path))
    assert [(batch.step, batch.rank, str(batch.loss)) for batch in found] == [
        (5, 1, "nan"),
        (7, 1, "nan"),
        (13, 1, "nan"),
    ]
    assert all(torch.equal(batch.images, given_[batch.step][0]) for batch in found)
    assert [batch.step for batch in gr.replay.replay(path, "6:1000000000000")] == [7, 13]
    assert [batch.step for batch in gr.replay.replay(path, 13)] == [13]
    assert json.dumps(found[0].to_json(), allow_nan=False).startswith(
        '{"step": 5, "part": 0, "rank": 1, "epoch": 0, "loss": "nan"'
    )
    for wrong in (6, "8:13"):
        with pytest.raises(
            ValueError, match=rf"^steps must be some of those that the record holds, \[5, 7, 13\], got {wrong!r}$"
        ):
            gr.replay.replay(path, wrong)
    with pytest.raises(ValueError, match=r"^batch_size must be left out: a record says it, got 3$"):
        gr.replay.replay(path, batch_size=3)


def test_what_each_image_is_made_of():
    feed = loader(augment=gr.augment.DeiT(mixup_mode="elem", re_prob=1.0), batch_size=5)
    found = feed.parameters_at(2)
    told = facts(RECIPE, found, False)
    kept = feed.dataset
    values = RECIPE.parameters(np.arange(4))
    assert [each["position"] for each in told] == [10, 11, 12, 13, 14]
    drawn = found.parameters
    for n, each in enumerate(told):
        assert each["sample"] == found.indices[n] == each["draw_id"]
        assert (each["class"], each["instance"]) == divmod(each["sample"], 8)
        assert each["label"] == each["class"] == kept[each["sample"]][1]
        assert each["class_parameters"] == {name: value[each["class"]].item() for name, value in values.items()}
        assert each["augmentation"]["boxes"] == drawn["boxes"][n].tolist()
        assert each["augmentation"]["operations"] == [
            gr.augment.Operation(c).name for c in drawn["operations"][n].tolist()
        ]
        assert each["augmentation"]["interpolations"] == "bicubic"
        assert set(each["augmentation"]) == set(drawn) - {"sizes"}
        partner = each["partner"]
        if n == 2:
            assert partner is None
        elif partner is not None:
            assert (partner["number"], partner["sample"]) == (4 - n, told[4 - n]["sample"])
            assert partner["class"] == told[4 - n]["class"]
            assert partner["weight"] == 1.0 - drawn["mix_weights"][n].item()
            assert partner["how"] == ("cutmix" if drawn["cutmix"][n] else "mixup")
            assert partner.get("patch") == (drawn["cutmix_patches"][n].tolist() if drawn["cutmix"][n] else None)
    assert any(each["partner"] for each in told)
    json.dumps(told, allow_nan=False)


def test_an_image_whose_pixels_are_its_own_has_no_partner():
    found = loader(augment=gr.augment.DeiT(mixup_prob=0.0)).parameters_at(0)
    assert [each["partner"] for each in facts(RECIPE, found, False)] == [None] * 3
    assert [each["partner"] for each in facts(RECIPE, loader(augment="crop").parameters_at(0), False)] == [None] * 3
    empty = found._replace(parameters=found.parameters | {"cutmix": torch.ones(3, dtype=torch.bool)})
    assert [each["partner"] for each in facts(RECIPE, empty, False)] == [None] * 3
    weights = torch.tensor([1.0, 0.5, 0.999], dtype=torch.float64)
    mixed = found._replace(parameters=found.parameters | {"mix_weights": weights})
    assert [each["partner"] and each["partner"]["number"] for each in facts(RECIPE, mixed, False)] == [None, None, 0]


def test_facts_of_a_schedule_are_those_of_the_stage_of_each_image():
    long = gr.Mixture({RECIPE: 1, gr.Noise(classes=2, instances=3, image_size=32): 1})
    moving = gr.Schedule(long, weights=((0, (1, 1)), (20, (3, 1))))
    tail = gr.Schedule(RECIPE, instances=((0, 8), (20, 4)), radius=((0, (2, 4)), (20, (3, 5))))
    drawn = gr.Renderer(tail)
    stages = set()
    for step in range(12):
        for each in facts(tail, loader(tail, augment="crop", batch_size=4).parameters_at(step), False):
            stages.add(each["stage"])
            assert each["stage"] == (each["position"] >= 20)
            own = tail.recipes[each["stage"]]
            assert torch.equal(gr.Renderer(own)([each["draw_id"]]), drawn([each["sample"]]))
            values = own.parameters(np.array([each["class"]]))
            assert each["class_parameters"] == {name: value[0].tolist() for name, value in values.items()}
    assert stages == {0, 1}
    told = facts(moving, loader(moving, batch_size=8, augment="crop", fresh=True).parameters_at(3), True)
    assert [each["draw_id"] for each in told] == list(range(24, 32))
    assert [each["stage"] for each in told] == [1] * 8
    assert [next(iter(each["class_parameters"])) for each in told] == [
        "K" if each["class"] < 4 else "mean" for each in told
    ]


def test_samples_of_long_tails_and_mixtures_have_their_class_and_address():
    tail = gr.VisualAtom(
        classes=3, instances=6, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4), class_prior=[6, 0, 3]
    )
    counts = tail.class_counts().tolist()
    feed = loader(tail, batch_size=len(tail), shuffle=False, augment="crop")
    told = facts(tail, feed.parameters_at(0), False)
    expected = [(c, i, c * 6 + i) for c in range(3) for i in range(counts[c])]
    assert [(each["class"], each["instance"], each["draw_id"]) for each in told] == expected
    mixture = gr.Mixture({RECIPE: 1, FAMILIES["noise"]: 1})
    told = facts(mixture, loader(mixture, batch_size=8, augment="crop").parameters_at(0), False)
    for each in told:
        own = each["class"] - 4
        assert [each["class_parameters"]] == mixture.class_parameters(np.array([each["class"]]))
        assert each["draw_id"] == (each["sample"] if own < 0 else own * 5 + each["instance"])
    assert {each["class"] < 4 for each in told} == {True, False}
    fresh = loader(fresh=True)
    fresh.set_epoch(2)
    told = facts(RECIPE, fresh.parameters_at(0), True)
    assert [each["draw_id"] - each["sample"] for each in told] == [64, 64, 64]


def test_a_family_that_states_nothing_has_no_class_parameters(monkeypatch):
    asked = []
    monkeypatch.setattr(
        type(RECIPE), "_class_parameters", lambda self, classes: asked.append(classes.tolist()) or [{} for _ in classes]
    )
    told = facts(RECIPE, loader(augment="crop", batch_size=16).parameters_at(0), False)
    assert not any("class_parameters" in each for each in told)
    assert asked == [sorted({each["class"] for each in told})]  # each class once


def test_bytes_are_those_before_normalisation():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    mean, std = (0.5, 0.25, 0.125), (0.5, 0.2, 2.0)
    scale = [torch.tensor(x).view(1, 3, 1, 1) for x in (mean, std)]
    for dtype in (torch.float32, torch.float64):
        images = ((levels / 255 - scale[0]) / scale[1]).to(dtype)
        assert np.array_equal(as_bytes(images, mean, std), levels.permute(0, 2, 3, 1).numpy())
    noise = torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert as_bytes(noise, mean, std)[0, 0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("given_", "found"),
    [("3", [3]), ("3:5", [3, 4]), (7, [7]), ([9, 2], [2, 9]), (range(2, 4), [2, 3]), (np.int64(5), [5]), ("0", [0])],
)
def test_steps_are_numbers_or_a_range_without_its_end(given_, found):
    assert list(step_numbers(given_)) == found


@pytest.mark.parametrize("wrong", ["", "a", "3:", ":3", "5:5", "5:4", "-1", "1:2:3", " 3", "9" * 19, [], range(0)])
def test_what_are_no_steps_is_refused(wrong):
    with pytest.raises(
        ValueError, match=r"^steps must be a step or a range FIRST:END, without END, such as 12000:12004"
    ):
        step_numbers(wrong)


@pytest.mark.parametrize("wrong", [-1, 2**62 + 1, 1.5, range(-1, 2)])
def test_steps_have_bounds(wrong):
    with pytest.raises((TypeError, ValueError), match=r"^steps must be "):
        step_numbers(wrong)


def test_a_replay_is_of_at_most_256_batches(tmp_path, monkeypatch):
    saved(tmp_path, 3, 2, 1)
    monkeypatch.setattr(batches, "MOST", 4)
    assert plan(tmp_path, "0:2", **NONE).total == 4
    with pytest.raises(ValueError, match=r"^steps must be of at most 4 batches, got 3 steps of 2$"):
        plan(tmp_path, "0:3", **NONE)


def test_a_checkpoint_is_asked_only_for_what_it_saw(tmp_path):
    path, _ = saved(tmp_path, 3)
    with pytest.raises(ValueError, match=r"^steps must be below 3, which the checkpoint has seen, got 3$"):
        gr.replay.replay(path, "2:4")
    with pytest.raises(ValueError, match=r"^steps must be given: a step or a range"):
        gr.replay.replay(path)
    with pytest.raises(ValueError, match=r"^recipe must be left out: a checkpoint says it, got 'onepfrac-1k'$"):
        gr.replay.replay(path, 0, recipe="onepfrac-1k")
    with pytest.raises(ValueError, match=r"^world_size must be a number of ranks that share 12 images evenly, got 5$"):
        gr.replay.replay(path, 0, world_size=5)
    with pytest.raises(ValueError, match=r"^world_size must be an integer in \[1, 4096\], got 0$"):
        gr.replay.replay(path, 0, world_size=0)


def test_a_training_whose_steps_changed_is_refused(tmp_path):
    path, feeds = saved(tmp_path, 3, 1, 2)  # 6 of 32 samples a batch, so 5 batches an epoch
    state = feeds[0].state_dict() | {"position": 3}
    saved(tmp_path, 3, 1, 2, stream=state)
    with pytest.raises(
        ValueError, match=r"is of a training whose steps had several sizes \(--accumulate was changed\): "
    ):
        gr.replay.replay(path, 0)


def test_the_checkpoint_of_a_finetuning_is_refused(tmp_path):
    path, _ = saved(tmp_path, 1, kind="finetune")
    with pytest.raises(ValueError, match=r"^state must be a checkpoint of gpurender pretrain, .* is one of finetune$"):
        gr.replay.replay(path, 0)


def test_a_state_needs_its_recipe_and_batch_size():
    state = loader().state_dict()
    for name, more in (("recipe", {"batch_size": 3}), ("batch_size", {"recipe": RECIPE})):
        with pytest.raises(ValueError, match=rf"^{name} must be given with a loader's state, which does not hold it$"):
            gr.replay.replay(state, 0, **more)
    with pytest.raises(ValueError, match=r"^state is of another stream: its recipe is "):
        gr.replay.replay(state, 0, recipe="onepfrac-1k", batch_size=3)
    with pytest.raises(
        ValueError, match=r"^state must be what loader.state_dict\(\) or Recorder.to_json\(\) returned, got "
    ):
        gr.replay.replay({"seed": 0}, 0, recipe=RECIPE, batch_size=3)
    sampled = loader(sampler=range(4), shuffle=None).state_dict()
    with pytest.raises(
        ValueError, match=r"^state must be of a loader without a user's sampler: only its sampler knows"
    ):
        gr.replay.replay(sampled, 0, recipe=RECIPE, batch_size=3)
    found = list(gr.replay.replay(state, 1, recipe=RECIPE, batch_size=3))
    assert found[0].images.shape == (3, 3, 224, 224)
    with pytest.raises(
        ValueError, match=r"^drop_last must be False, or batch_size smaller: no epoch of the recipe has"
    ):
        list(gr.replay.replay(state, 0, recipe=RECIPE, batch_size=33, drop_last=True))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", None, r"^state must be a checkpoint, its folder or a JSON file, none is at "),
        ("x.json", "{", r"^state '.*x.json' is no JSON: "),
        ("x.json", "[]", r"^state must be what loader.state_dict\(\) or Recorder.to_json\(\) returned, got \[\]$"),
        ("x.json", '{"gpurender_record": 3}', r"^text must be that of Recorder.to_json\(\): version 3"),
        (
            "x.json", '{"gpurender_record": 1, "steps": 0, "spikes": [], "loader": {"seed": 1}}',
            r"^state must be what Recorder.to_json\(\) returned: 'batch_size' is missing in its loader$",
        ),
        ("x.safetensors", None, r"^checkpoint must be a file, and there is none at "),
    ],
)  # fmt: skip
def test_files_that_are_no_states_are_refused(name, text, message, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        gr.replay.replay(tmp_path / name, 0)


def test_a_policy_of_one_s_own_must_be_given(tmp_path):
    class Mine(gr.augment.Crop):
        def __repr__(self):
            return "Mine()"

    path, feeds = saved(tmp_path, 2, policy=Mine())
    with pytest.raises(
        ValueError, match=r"^augment must be a policy of gpurender.augment \(Crop, .*\), and its text names 'Mine'"
    ):
        gr.replay.replay(path, 0)
    [batch] = gr.replay.replay(path, 0, augment=Mine())
    assert torch.equal(batch.images, next(iter(feeds[0]))[0])
    assert policy_of("crop") == gr.augment.Crop()
