"""Configs that see the same batches: which they are, who takes them, and that each ends as alone."""

import contextlib
import json
import os
import re
import sys

import pytest

import gpurender as gr
from gpurender.search import desk, ray_engine, study, trial
from gpurender.search.board import LeaseBoard
from gpurender.search.leases import claimed, is_stale
from gpurender.training.loop import Training
from tests.search import fake_ray
from tests.search.support import TEMPLATE, score_of, task
from tests.support.modules import module

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")

LADDER = gr.search.Ladder((32, 64), eta=2, finetune_steps=1, seeds=1)
RECIPE = {"family": "onepfrac", "classes": 4, "points": 500, "image_size": 32}
IMAGES = {"family": "visualatom", "classes": 4, "instances": 8, "image_size": 32, "orbits": [2, 4], "radius": [4, 8]}
ONE = {
    "recipe": IMAGES, "model": {"choice": ["test_vit", "test_resnet"]},
    "training": {"image_size": 32, "batch_size": 16, "lr": {"log": [1e-4, 1e-2]}},
}  # fmt: skip
TWO = {**ONE, "recipe": {"choice": [IMAGES, {**IMAGES, "instances": 9}]}}


def make(tmp_path, name="s", template=ONE, **options):
    given = {"ladder": LADDER, "configs": 4, "patience": 60.0, **options}
    return gr.search.create(tmp_path / name, gr.search.Space(template), {"a": task(tmp_path)}, **given)


def results(made):
    """All results, without the times."""
    found = {}
    for path in sorted((made.root / "results").glob("*.json")):
        values = json.loads(path.read_text())
        values.pop("seconds", None)
        found[path.name] = values
    return found


def config(**changes):
    return gr.search.Config.from_data({"recipe": RECIPE, "model": "test_vit", **changes})


# --------------------------------------------------------------------------------------------------------- same batches


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"model": "test_resnet"}, True),
        ({"training": {"lr": 0.5, "weight_decay": 0.5, "ema": 0.5, "clip": 1.0}}, True),
        ({"training": {"batch_size": 256}}, True),  # that of the recipe's paper
        ({"training": {"augment": "onepfrac"}}, True),
        ({"preset": "onepfrac"}, True),
        ({"preset": "visualatom"}, False),  # another batch size
        ({"preset": "visualatom", "training": {"batch_size": 256, "augment": "onepfrac"}}, True),
        ({"recipe": {**RECIPE, "points": 501}}, False),
        ({"seed": 1}, False),
        ({"training": {"batch_size": 128}}, False),
        ({"training": {"image_size": 32}}, False),
        ({"training": {"augment": "crop"}}, False),
        ({"training": {"fresh": True}}, False),
        ({"training": {"amp": "no"}}, False),
    ],
)
def test_what_decides_the_batches(change, same):
    assert (config().batches == config(**change).batches) == same


# ----------------------------------------------------------------------------------------------------------- who takes


def test_a_worker_takes_jobs_of_the_same_batches_and_holds_their_leases(tmp_path):
    """Configs of two recipes: it takes the first, and those like it, which it looks for ahead."""
    made = make(tmp_path, template=TWO, configs=12)
    made.desk.folder.make()
    configs = [made.space.random(0, number) for number in range(12)]
    like = [one.key for one in configs if one.recipe == configs[0].recipe]
    assert 4 < len(like) < 12
    with LeaseBoard(made.desk, 3).claimed() as claims:
        assert [claim.job for claim in claims] == [(key, 0, made.desk.state().configs[key]) for key in like[:3]]
        paths = [made.root / "leases" / f"{key}.0" for key in like[:3]]
        assert sorted(paths) == sorted((made.root / "leases").iterdir())
        assert not any(is_stale(path, 60.0) for path in paths)
        assert all(claim.is_held() for claim in claims)
        added = len(made.desk.state().configs)
        assert configs[added - 1].key == like[2]  # none beyond the last that was needed
        with LeaseBoard(made.desk, 20).claimed() as others:  # another worker
            first = next(one for one in configs if one.key not in like[:3])
            own = [one.key for one in configs if one.recipe == first.recipe and one.key not in like[:3]]
            assert [claim.job.key for claim in others] == own
    assert not list((made.root / "leases").iterdir())
    assert len(made.desk.state().configs) == 12


def test_alone_a_worker_takes_one_job_and_adds_none_ahead(tmp_path):
    made = make(tmp_path)
    made.desk.folder.make()
    with LeaseBoard(made.desk).claimed() as claims:
        assert [claim.job.key for claim in claims] == [made.space.random(0, 0).key]
    assert len(made.desk.state().configs) == 1


def test_leases_are_given_back_whatever_happens(tmp_path, monkeypatch):
    made = make(tmp_path)
    made.desk.folder.make()

    def ended():
        with LeaseBoard(made.desk, 3).claimed() as claims:
            assert len(claims) == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ended()
    assert not list((made.root / "leases").iterdir())
    taken, take = [], desk.Desk.take

    def full(self, *given):
        if len(taken) == 2:
            raise OSError(28, "No space left on device")
        taken.append(take(self, *given))
        return taken[-1]

    monkeypatch.setattr(desk.Desk, "take", full)
    with pytest.raises(OSError, match="No space left"), LeaseBoard(made.desk, 3).claimed():
        pass
    assert len(taken) == 2
    assert not list((made.root / "leases").iterdir())


@pytest.mark.parametrize(("proposer", "added"), [("random", 64), ("grid", 64), ("tpe", 5)])
def test_few_configs_are_added_ahead(tmp_path, proposer, added):
    """Where none is like the first; those of Optuna know less the earlier they are asked for."""
    if proposer == "tpe":
        pytest.importorskip("optuna", reason="needs optuna")
    template = {"recipe": RECIPE, "model": "test_vit", "seed": {"range": [0, 10**6 - 2]}}
    made = make(tmp_path, template=template, configs=100, proposer=proposer)
    made.desk.folder.make()
    with LeaseBoard(made.desk, 5).claimed() as claims:
        assert len(claims) == 1
    assert len(made.desk.state().configs) == added


@pytest.mark.parametrize(("proposer", "together"), [("random", 30), ("tpe", 3)])
def test_every_worker_finds_as_many_as_the_first(tmp_path, proposer, together):
    """What others hold does not count as waiting."""
    if proposer == "tpe":
        pytest.importorskip("optuna", reason="needs optuna")
    template = {"recipe": RECIPE, "model": "test_vit", "training": {"lr": {"log": [1e-5, 1e-1]}}}
    made = make(tmp_path, template=template, configs=200, proposer=proposer)
    made.desk.folder.make()
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(LeaseBoard(made.desk, together).claimed()) for _ in range(3)]
        assert [len(claims) for claims in groups] == [together] * 3
        assert len({claim.job.key for claims in groups for claim in claims}) == 3 * together


def test_promotions_go_together_by_their_rung(tmp_path):
    made = make(tmp_path, configs=8)
    made.desk.folder.make()
    keys = [made.space.random(0, number).key for number in range(8)]
    for number, key in enumerate(keys):
        made.desk.folder.add_config(number, made.space.random(0, number))
        if number < 4:
            figures = {"a": {"score": number / 10, "accuracy": 0.5}}
            made.desk.publish(key, 0, {"rung": 0, "score": number / 10, "tasks": figures, "seconds": {}})
    with LeaseBoard(made.desk, 5).claimed() as claims:  # of the other rung are more
        found = [(claim.job.key, claim.job.rung) for claim in claims]
        assert found == [(key, 1) for key in (keys[1], keys[2], keys[3])]
        with LeaseBoard(made.desk, 3).claimed() as others:
            assert [(claim.job.key, claim.job.rung) for claim in others] == [(key, 0) for key in keys[4:7]]


def test_a_rung_that_has_too_few_asks_for_no_new_configs(tmp_path):
    made = make(tmp_path, configs=8)
    made.desk.folder.make()
    for number in range(2):
        made.desk.folder.add_config(number, made.space.random(0, number))
        figures = {"a": {"score": 0.5, "accuracy": 0.5}}
        key = made.space.random(0, number).key
        made.desk.publish(key, 0, {"rung": 0, "score": 0.5, "tasks": figures, "seconds": {}})
    with LeaseBoard(made.desk, 3).claimed() as claims:
        assert [claim.job.rung for claim in claims] == [1]
    assert len(made.desk.state().configs) == 2


# ------------------------------------------------------------------------------------------------------ what they leave


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a study leaves whose configs are trained one by one."""
    folder = tmp_path_factory.mktemp("alone")
    made = make(folder)
    assert made.work(device="cpu") == 6
    return results(made)


@pytest.fixture
def drawn(monkeypatch):
    """How many batches are drawn."""
    stream = module("gpurender.training.pretrain").Stream
    found, batches = [], stream.batches

    def noted(self):
        for batch in batches(self):
            found.append(len(batch[1]))
            yield batch

    monkeypatch.setattr(stream, "batches", noted)
    return found


def test_the_results_are_those_of_configs_alone_bit_for_bit(tmp_path, alone, drawn, monkeypatch, caplog):
    made, held, together = make(tmp_path), [], trial.together

    def noted(trainings, *every):
        held.append(sorted(path.name[-1] for path in (made.root / "leases").iterdir()))
        together(trainings, *every)
        assert every == (10, 100)

    monkeypatch.setattr(trial, "together", noted)
    assert made.work(device="cpu", together=4) == 6
    assert results(made) == alone
    assert held == [["0"] * 4, ["1"] * 2]
    assert drawn == [16] * 4  # two batches a rung: alone they would be two for each of six jobs
    said = [record.getMessage() for record in caplog.records if "together" in record.getMessage()]
    assert said == ["rung 0: 4 configs together", "rung 1: 2 configs together"]
    assert made.status()["done"]
    assert not list(made.root.rglob("state.pt"))
    assert not list((made.root / "leases").iterdir())


def test_workers_on_ray_train_together_what_they_train_alone(tmp_path, alone, drawn, monkeypatch):
    """One after the other, by what stands for Ray: the first one takes all jobs of the first rung."""
    ray = fake_ray.FakeRay(CPU=2.0)
    monkeypatch.setitem(sys.modules, "ray", ray)
    made = make(tmp_path)
    assert ray_engine.work(made, None, None, None, 4) == 6
    assert results(made) == alone
    takes = [arguments for name, *arguments in ray.asked if name == "take"]
    assert {together for _, _, together in takes} == {4}
    assert drawn == [16] * 4
    assert not list((made.root / "leases").iterdir())


def test_two_at_once_try_and_promote_the_same_configs(tmp_path, alone):
    made = make(tmp_path)
    assert made.work(device="cpu", together=2) == 6
    assert results(made) == alone


def test_one_that_fails_is_a_result_and_the_others_are_as_alone(tmp_path, alone, monkeypatch, caplog):
    """The error is the one that it has alone."""
    made, take = make(tmp_path), Training._take_step
    victim = made.space.random(0, 1).key

    def lost(self, batches):
        found = take(self, batches)
        return found * float("nan") if victim in str(self.folder) else found

    monkeypatch.setattr(Training, "_take_step", lost)
    made.work(device="cpu", together=4)
    found = results(made)
    assert found[f"{victim}.0.json"] == {"rung": 0, "score": None, "error": "the loss is nan at step 2"}
    for name in alone.keys() & found.keys() - {f"{victim}.0.json"}:
        assert found[name] == alone[name]
    assert sum(name.endswith(".0.json") for name in found) == 4
    assert "leaves its group: the loss is nan at step 2" in caplog.text


def test_a_config_that_cannot_begin_is_trained_alone(tmp_path, alone, caplog):
    """A torn state, or settings that do not fit: the group goes on without it."""
    made = make(tmp_path)
    victim = made.space.random(0, 1).key
    (made.root / "checkpoints" / victim / "0").mkdir(parents=True)
    (made.root / "checkpoints" / victim / "0" / "state.pt").write_bytes(b"torn")
    made.work(device="cpu", together=4)
    assert results(made) == alone
    assert f"config {victim[:8]}, rung 0 is trained alone: output: " in caplog.text
    assert "begins again" in caplog.text


def test_a_worker_that_ends_midway_leaves_what_the_next_one_goes_on_with(tmp_path, alone, drawn, monkeypatch):
    """It ends while it measures the second of four."""
    made, measure, measured = make(tmp_path), trial.measure, []

    def ending(*given):
        measured.append(given)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(*given)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "measure", ending)
        with pytest.raises(KeyboardInterrupt):
            made.work(device="cpu", together=4)
    assert len(results(made)) == 1
    assert not list((made.root / "leases").iterdir())
    assert gr.search.Study(made.root).work(device="cpu", together=4) == 5
    assert results(made) == alone
    assert drawn == [16] * 4  # what was trained is not trained again


def test_a_lost_claim_ends_nothing(tmp_path, alone, monkeypatch, caplog):
    """This process stood still; another one has taken a job of the group over, and done it."""
    made, together = make(tmp_path), trial.together
    key = made.space.random(0, 2).key

    def stood_still(trainings, *every):
        together(trainings, *every)
        if not results(made):
            os.unlink(made.root / "leases" / f"{key}.0")
            lease = claimed(made.root / "leases" / f"{key}.0", 60.0)
            made.desk.publish(key, 0, {**alone[f"{key}.0.json"], "seconds": {}})
            lease.release()

    monkeypatch.setattr(trial, "together", stood_still)
    assert made.work(device="cpu", together=4) == 5
    assert results(made) == alone
    assert "holds other values" not in caplog.text


@pytest.mark.parametrize("wrong", [0, 65, 1.5, "x"])
def test_how_many_has_bounds(tmp_path, monkeypatch, wrong):
    made = make(tmp_path)
    text = re.escape(f"together must be an integer in [1, 64], got {wrong!r}")
    with pytest.raises((TypeError, ValueError), match=f"^{text}$"):
        made.work(device="cpu", together=wrong)
    monkeypatch.setattr(study, "trained", lambda *_: {"rung": 0, "score": None, "error": "x"})
    monkeypatch.setattr(study, "trained_together", lambda *_: None)
    assert made.work(device="cpu", together=64) == 4


def test_storms_of_fake_trainings_promote_what_one_worker_promotes(tmp_path, monkeypatch):
    """Configs of two recipes, three at once: the same configs are tried and promoted."""
    done = []

    def trained(config, tasks, ladder, rung, *_):
        done.append((config.key, rung))
        score = score_of(config.key, rung)
        return {"rung": rung, "score": score, "tasks": {"a": {"score": score, "accuracy": 0.5}}, "seconds": {}}

    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(study, "trained_together", lambda configs, *_: done.append(len(configs)))
    found = []
    for name, together in {"one": 1, "three": 3}.items():
        made = make(tmp_path, name, TEMPLATE | {"recipe": TWO["recipe"]}, configs=16)
        made.work(device="cpu", together=together)
        found.append(results(made))
    assert found[0] == found[1]
    assert 3 in done
    assert max(one for one in done if isinstance(one, int)) == 3
