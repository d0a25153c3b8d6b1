"""Trials: a config is trained from rung to rung, and measured on its tasks."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.search import measures, trial
from gpurender.training import checkpoint, engine, loop
from tests.search.support import TEMPLATE, task

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
CPU = torch.device("cpu")
LADDER = gr.search.Ladder((64, 128), eta=2, finetune_steps=2, seeds=2)


def config(**changes):
    made = json.loads(gr.search.Space(TEMPLATE).random(0, 1).to_json())
    made |= {"model": "test_vit", "recipe": TEMPLATE["recipe"]["choice"][1] | {"points": 500}}
    return gr.search.Config.from_data({**made, **changes})


def run(own, tasks, rung, folder):
    """Do a job; its trainings are in ``folder/c``."""
    room = folder / "room"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    opened = {name: measures.judged(one) for name, one in tasks.items()}
    return trial.trained(own, opened, LADDER, rung, folder / "c", room, CPU)


def weights(path):
    return gr.training.load(path).state_dict()


def test_a_promoted_config_goes_on_at_the_very_next_batch(tmp_path):
    """Two rungs leave the weights that one training of the same length leaves, bit for bit."""
    own, tasks = config(), {"a": task(tmp_path)}
    folder = tmp_path / "c"
    first, second = (run(own, tasks, rung, tmp_path) for rung in (0, 1))
    whole = gr.training.pretrain(
        own.recipe, own.model, tmp_path / "whole", images=128, schedule="constant", warmup=6, ema=0.99, amp="bf16",
        device="cpu",
        **own.training,
    )  # fmt: skip
    kept = weights(folder / "1" / "checkpoint.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in weights(whole).items())
    below = weights(folder / "0" / "checkpoint.safetensors")
    assert not all(torch.equal(kept[name], value) for name, value in below.items())
    assert [path.parent.name for path in folder.glob("*/state.pt")] == ["1"]  # that below is needed no more
    assert (first["rung"], second["rung"]) == (0, 1)
    assert "finetuned" not in first["tasks"]["a"]
    assert len(second["tasks"]["a"]["finetuned"]) == 2
    assert second["tasks"]["a"]["accuracy"] == pytest.approx(np.mean(second["tasks"]["a"]["finetuned"]))
    assert first["tasks"]["a"]["accuracy"] == first["tasks"]["a"]["ridge"]
    for values in (first, second):
        figures = values["tasks"]["a"]
        assert values["score"] == figures["score"] == pytest.approx((figures["accuracy"] - 1 / 3) / (1 - 1 / 3))
        assert {"ridge_middle", "knn", "knn_middle", "logme", "h_score", "leep", "transrate"} <= set(figures)
    again = run(own, tasks, 0, tmp_path / "again")
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_the_score_is_the_mean_over_tasks(tmp_path):
    tasks = {"a": task(tmp_path), "b": task(tmp_path, "b", shift=1)}
    found = run(config(), tasks, 0, tmp_path)
    assert found["score"] == pytest.approx((found["tasks"]["a"]["score"] + found["tasks"]["b"]["score"]) / 2)


def test_a_training_that_diverges_is_a_result(tmp_path):
    own = config(training={"lr": 1e5, "batch_size": 16, "image_size": 32})
    found = run(own, {"a": task(tmp_path)}, 1, tmp_path)
    assert (found["rung"], found["score"]) == (1, None)
    assert re.fullmatch(r"the loss is (nan|inf) at step \d+", found["error"])  # no path: it is the same on all machines


def test_a_config_that_does_not_fit_its_recipe_is_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "pretrain", lambda *_, **__: (_ for _ in ()).throw(ValueError("batch_size is odd")))
    found = run(config(), {"a": task(tmp_path)}, 0, tmp_path)
    assert found == {"rung": 0, "score": None, "error": "batch_size is odd"}


def test_too_little_memory_is_a_result(tmp_path, monkeypatch):
    error = engine.TooLargeError("out of memory on cpu")
    monkeypatch.setattr(trial, "pretrain", lambda *_, **__: (_ for _ in ()).throw(error))
    assert run(config(), {"a": task(tmp_path)}, 0, tmp_path)["error"] == "out of memory on cpu"


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal access"), OSError(28, "full"), ImportError("x")]
)
def test_trouble_of_the_machine_is_no_failure_of_the_config(tmp_path, monkeypatch, error):
    monkeypatch.setattr(trial, "pretrain", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        run(config(), {"a": task(tmp_path)}, 0, tmp_path)


def test_a_folder_that_cannot_be_written_is_no_failure_of_the_config(tmp_path):
    (tmp_path / "c" / "0").mkdir(parents=True)
    (tmp_path / "c" / "0" / "checkpoint.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"cannot write .*checkpoint\.safetensors"):
        run(config(), {"a": task(tmp_path)}, 0, tmp_path)


@pytest.mark.parametrize("kind", ["weights", "fine-tuning", "figure"])
def test_a_measurement_that_is_not_finite_is_a_result(tmp_path, monkeypatch, kind):
    if kind == "weights":
        real = trial.pretrain

        def spoiled(*arguments, **given):
            path = real(*arguments, **given)
            state = torch.load(path.with_name("state.pt"), weights_only=True)
            weights = {name: value * float("nan") if value.is_floating_point() else value
                       for name, value in state["ema"].items()}  # fmt: skip
            checkpoint.save(path, weights, gr.training.describe(path))
            return path

        monkeypatch.setattr(trial, "pretrain", spoiled)
    elif kind == "fine-tuning":
        error = loop.DivergedError("the loss is nan at step 3", "advice with /a/path")
        monkeypatch.setattr(measures, "finetune", lambda *_, **__: (_ for _ in ()).throw(error))
    else:
        monkeypatch.setattr(measures.transferability, "scores", lambda *_: {"leep": float("-inf")})
    found = run(config(), {"a": task(tmp_path)}, 1, tmp_path)
    assert found["score"] is None
    assert (
        found["error"]
        == {
            "weights": "its features are not finite",
            "fine-tuning": "a fine-tuning: the loss is nan at step 3",
            "figure": "leep on task 'a' is -inf",
        }[kind]
    )


def test_a_fine_tuning_has_the_steps_of_the_ladder_whatever_the_images(tmp_path, monkeypatch):
    """Of 300 images an epoch has six steps of fifty."""
    taken = []
    real = measures.finetune

    def counted(*arguments, **given):
        found = real(*arguments, **given)
        taken.append((found["steps"], given["batch_size"], given["seed"], found["task"]["seed"]))
        return found

    monkeypatch.setattr(measures, "finetune", counted)
    assert run(config(), {"a": task(tmp_path, images=300)}, 1, tmp_path)["score"] is not None
    assert taken == [(2, 50, 0, 0), (2, 50, 1, 1)]


def test_held_out_images_judge_every_rung_and_stay_the_same(tmp_path, monkeypatch):
    """So that nothing is chosen on test images."""
    own = task(tmp_path, images=60, validation=0.2, seed=5)
    one = measures.judged(own)
    assert len(one.train) == 48
    assert len(one.judged) == 12
    seeds = []
    monkeypatch.setattr(measures, "finetune", lambda path, made, *_, **__: seeds.append(made.seed) or {"accuracy": 0.5})
    found = run(config(), {"a": own}, 1, tmp_path)
    assert seeds == [5, 5]
    assert found["tasks"]["a"]["ridge"] * 12 == pytest.approx(round(found["tasks"]["a"]["ridge"] * 12))


def test_another_precision_is_one_of_the_config(tmp_path):
    found = run(config(), {"a": task(tmp_path)}, 0, tmp_path)
    assert gr.training.describe(tmp_path / "c" / "0" / "checkpoint.safetensors")["settings"]["amp"] == "bf16"
    own = config(training={"amp": "no", "batch_size": 16, "image_size": 32})
    run(own, {"a": task(tmp_path)}, 0, tmp_path / "other")
    path = tmp_path / "other" / "c" / "0" / "checkpoint.safetensors"
    assert gr.training.describe(path)["settings"]["amp"] == "no"
    assert found["seconds"]["training"] >= 0.0


def test_seconds_are_those_of_the_steps_of_a_rung(tmp_path):
    rows = [{"images": 160, "images_per_second": 32.0}, {"images": 192, "images_per_second": 16.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert trial._seconds(tmp_path, 0) == 7.0
    assert trial._seconds(tmp_path, 128) == 3.0


@pytest.mark.parametrize("rung", [0, 1])
def test_a_state_that_cannot_be_used_is_replaced(tmp_path, caplog, rung):
    own, tasks = config(), {"a": task(tmp_path)}
    calm = [run(own, tasks, r, tmp_path / "calm") for r in (0, 1)]
    if rung == 1:
        run(own, tasks, 0, tmp_path)
    (tmp_path / "c" / str(rung)).mkdir(parents=True, exist_ok=True)
    (tmp_path / "c" / str(rung) / "state.pt").write_bytes(b"torn")
    again = run(own, tasks, rung, tmp_path)
    assert {**again, "seconds": 0} == {**calm[rung], "seconds": 0}
    assert "begins again: output: " in caplog.text


def test_where_the_state_of_the_rung_below_is_torn_too_all_begins_again(tmp_path, caplog):
    own, tasks = config(), {"a": task(tmp_path)}
    calm = [run(own, tasks, rung, tmp_path / "calm") for rung in (0, 1)]
    run(own, tasks, 0, tmp_path)
    for rung in (0, 1):
        (tmp_path / "c" / str(rung)).mkdir(exist_ok=True)
        (tmp_path / "c" / str(rung) / "state.pt").write_bytes(b"torn")
    again = run(own, tasks, 1, tmp_path)
    assert {**again, "seconds": 0} == {**calm[1], "seconds": 0}
    assert caplog.text.count("begins again: output: ") == 2


def test_ridge_regression_is_scikit_learn_s():
    """With the penalty that leaving one out prefers."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    generator = np.random.default_rng(0)
    for images, width, noise in ((40, 8, 1.0), (30, 60, 3.0), (200, 20, 6.0)):
        labels = np.arange(images) % 4
        x = generator.normal(size=(images, width)) * noise
        x[:, :4] += np.eye(4)[labels] * 3
        x = (x - x.mean(0)) / x.std(0)
        asked = generator.normal(size=(50, width))
        reference = linear_model.RidgeCV(alphas=measures.PENALTIES, alpha_per_target=False)
        reference.fit(x, np.eye(4)[labels])
        assert (measures.ridge(x, labels, asked) == reference.predict(asked).argmax(1)).all()


def test_a_constant_rate_may_be_made_longer_and_others_may_not(tmp_path):
    own = config()
    given = {"warmup": 16, "device": "cpu", "image_size": 32, "batch_size": 16}
    for schedule, allowed in (("constant", True), ("cosine", False)):
        folder = tmp_path / schedule
        gr.training.pretrain(own.recipe, "test_vit", folder, images=32, schedule=schedule, **given)
        if allowed:
            gr.training.pretrain(own.recipe, "test_vit", folder, images=64, schedule=schedule, **given)
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert [line["step"] for line in lines] == [2, 4]
            assert lines[0]["lr"] == lines[1]["lr"]
            with pytest.raises(
                ValueError, match="holds a training of 4 steps, and this one has 2: give as many or more"
            ):
                gr.training.pretrain(own.recipe, "test_vit", folder, images=32, schedule=schedule, **given)
        else:
            with pytest.raises(ValueError, match="holds a training with steps=2, and this one has 4"):
                gr.training.pretrain(own.recipe, "test_vit", folder, images=64, schedule=schedule, **given)
    with pytest.raises(ValueError, match="schedule must be one of 'cosine', 'steps', 'constant', got 'flat'"):
        gr.training.pretrain(own.recipe, "test_vit", tmp_path / "x", images=32, schedule="flat", **given)
    with pytest.raises(ValueError, match="warmup must be an integer"):
        gr.training.pretrain(own.recipe, "test_vit", tmp_path / "x", images=32, **{**given, "warmup": -1})


def test_a_config_without_settings_has_the_presets():
    made = gr.search.Config(recipe=config().recipe, model="test_vit")
    assert (made.preset, made.training, made.seed, made.choices) == (None, {}, 0, {})
    assert made.key == gr.search.Config.from_data(json.loads(made.to_json())).key
