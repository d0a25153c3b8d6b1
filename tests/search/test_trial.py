"""Trials: a config is trained from rung to rung, and measured on its tasks."""

import json
import re

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.search import measures, trial
from tests.search.support import TEMPLATE, task

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
CPU = torch.device("cpu")
LADDER = gr.search.Ladder((64, 128), eta=2, finetune_steps=2, seeds=2)


def config(**changes):
    made = json.loads(gr.search.Space(TEMPLATE).random(0, 1).to_json())
    made |= {"model": "test_vit", "recipe": TEMPLATE["recipe"]["choice"][1] | {"points": 500}}
    return gr.search.Config.from_data({**made, **changes})


def weights(path):
    return gr.training.load(path).state_dict()


def test_a_promoted_config_goes_on_at_the_very_next_batch(tmp_path):
    """Two rungs leave the weights that one training of the same length leaves, bit for bit."""
    own, tasks = config(), {"a": task(tmp_path)}
    folder, work = tmp_path / "checkpoints", tmp_path / "work"
    first = trial.trained(own, tasks, LADDER, 0, folder, work, CPU)
    second = trial.trained(own, tasks, LADDER, 1, folder, work, CPU)
    whole = gr.training.pretrain(
        own.recipe, own.model, tmp_path / "whole", images=128, schedule="constant", warmup=6, ema=0.99, device="cpu",
        **own.training,
    )  # fmt: skip
    kept = weights(folder / "1" / "checkpoint.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in weights(whole).items())
    below = weights(folder / "0" / "checkpoint.safetensors")
    assert not all(torch.equal(kept[name], value) for name, value in below.items())
    assert not (folder / "0" / "state.pt").exists()  # the optimiser's state is needed once
    assert (folder / "1" / "state.pt").exists()
    assert not work.exists()
    assert (first["rung"], second["rung"]) == (0, 1)
    assert "finetuned" not in first["tasks"]["a"]
    assert len(second["tasks"]["a"]["finetuned"]) == 2
    assert second["tasks"]["a"]["accuracy"] == pytest.approx(np.mean(second["tasks"]["a"]["finetuned"]))
    assert first["tasks"]["a"]["accuracy"] == first["tasks"]["a"]["ridge"]
    for values in (first, second):
        figures = values["tasks"]["a"]
        assert values["score"] == figures["score"] == pytest.approx((figures["accuracy"] - 1 / 3) / (1 - 1 / 3))
        assert {"ridge_middle", "knn", "knn_middle", "logme", "h_score", "leep", "transrate"} <= set(figures)
    again = trial.trained(own, tasks, LADDER, 0, tmp_path / "again", work, CPU)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_the_score_is_the_mean_over_tasks(tmp_path):
    tasks = {"a": task(tmp_path), "b": task(tmp_path, "b", shift=1)}
    found = trial.trained(config(), tasks, LADDER, 0, tmp_path / "c", tmp_path / "w", CPU)
    assert found["score"] == pytest.approx((found["tasks"]["a"]["score"] + found["tasks"]["b"]["score"]) / 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [({"training": {"lr": 1e6, "batch_size": 16, "image_size": 32, "clip": None}}, "training.clip"),
     ({"training": {"lr": 1e5, "batch_size": 16, "image_size": 32}}, "the loss is nan")],
)  # fmt: skip
def test_a_training_that_fails_is_a_result(tmp_path, change, text):
    if "clip" in text:
        with pytest.raises(TypeError, match=r"training\.clip must be a finite number"):
            config(**change)
        return
    found = trial.trained(config(**change), {"a": task(tmp_path)}, LADDER, 1, tmp_path / "c", tmp_path / "w", CPU)
    assert (found["rung"], found["score"]) == (1, None)
    assert re.search(r"the loss is (nan|inf) at step \d+", found["error"])


def test_a_task_that_cannot_be_read_is_no_failure_of_the_config(tmp_path):
    gone = task(tmp_path)
    (tmp_path / "a.npz").unlink()
    with pytest.raises(ValueError, match=r"a\.npz"):
        trial.trained(config(), {"a": gone}, LADDER, 0, tmp_path / "c", tmp_path / "w", CPU)


def test_a_damaged_state_is_trained_again(tmp_path):
    own, tasks = config(), {"a": task(tmp_path)}
    first = trial.trained(own, tasks, LADDER, 0, tmp_path / "c", tmp_path / "w", CPU)
    (tmp_path / "c" / "0" / "state.pt").write_bytes(b"torn")
    again = trial.trained(own, tasks, LADDER, 0, tmp_path / "c", tmp_path / "w", CPU)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


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
        else:
            with pytest.raises(ValueError, match="holds a training with steps=2, and this one has 4"):
                gr.training.pretrain(own.recipe, "test_vit", folder, images=64, schedule=schedule, **given)
    with pytest.raises(ValueError, match="schedule must be one of 'cosine', 'steps', 'constant', got 'flat'"):
        gr.training.pretrain(own.recipe, "test_vit", tmp_path / "x", images=32, schedule="flat", **given)
    with pytest.raises(ValueError, match="warmup must be an integer"):
        gr.training.pretrain(own.recipe, "test_vit", tmp_path / "x", images=32, **{**given, "warmup": -1})
