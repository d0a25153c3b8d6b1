"""Training: what a run leaves, that it goes on after any end, and that it trains."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.training import checkpoint, engine, models
from gpurender.training.examples import order
from gpurender.training.loop import Settings, Training, per_batch
from gpurender.training.presets import PRESETS, preset
from tests.support import ROOT
from tests.support.pictures import image_folder

timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")

RECIPE = gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(2, 4), radius=(4, 8))
SHORT = {"steps": 6, "batch_size": 8, "image_size": 32, "device": "cpu", "log_every": 2}


def weights(path):
    return gr.training.load(path).state_dict()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short pre-training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run")
    gr.training.pretrain(RECIPE, "test_vit", folder, **SHORT)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("pictures") / "data")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_checkpoint_that_timm_reads(run):
    about = gr.training.describe(run / "checkpoint.safetensors")
    assert (about["kind"], about["preset"], about["step"], about["images"]) == ("pretrain", "visualatom", 6, 48)
    assert about["data"]["fingerprint"] == RECIPE.fingerprint
    assert gr.Recipe.from_json(json.dumps(about["data"]["recipe"])) == RECIPE
    assert about["stream"]["position"] + about["stream"]["epoch"] * len(RECIPE) == 48
    theirs = timm.create_model("test_vit", num_classes=4, img_size=32, checkpoint_path=run / "checkpoint.safetensors")
    assert equal(theirs.state_dict(), weights(run / "checkpoint.safetensors"))
    mode = (run / "metrics.jsonl").stat().st_mode
    assert (run / "checkpoint.safetensors").stat().st_mode == mode  # as the umask says


def test_reports_are_json_lines(run):
    found = lines(run)
    assert [line["step"] for line in found] == [2, 4, 6]
    assert [line["images"] for line in found] == [16, 32, 48]
    for line in found:
        assert line["loss"] > 0
        assert line["images_per_second"] > 0
        assert 0 <= line["data_wait"] <= 1


def noted_steps(monkeypatch):
    """The numbers of the steps that are taken from now on."""
    take, taken = Training._take_step, []
    monkeypatch.setattr(
        Training, "_take_step", lambda training, batches: taken.append(training.step) or take(training, batches)
    )
    return taken


class DisturbedError(Exception):
    """What ends a training midway."""


@pytest.mark.parametrize(
    ("model", "options"),
    [("test_vit", {}), ("test_vit", {"ema": 0.9, "accumulate": 2}), ("test_resnet", {"ema": 0.9, "amp": "bf16"})],
    ids=["plain", "averaged", "convolutions"],
)
def test_a_run_that_was_cut_off_ends_with_the_same_bytes(tmp_path, monkeypatch, model, options):
    calm, cut = tmp_path / "calm", tmp_path / "cut"
    keywords = {**SHORT, **options, "log_every": 1, "save_every": 2}
    gr.training.pretrain(RECIPE, model, calm, **keywords)
    take = Training._take_step

    def failing(at):
        def step(training, batches):
            if training.step == at:
                raise DisturbedError
            return take(training, batches)

        return step

    for at in (3, 5):  # step 2, then step 4 is the last one saved
        with monkeypatch.context() as patch:
            patch.setattr(Training, "_take_step", failing(at))
            with pytest.raises(DisturbedError):
                gr.training.pretrain(RECIPE, model, cut, **keywords)
    torch.manual_seed(77)  # the generators' state is no part of a training
    taken = noted_steps(monkeypatch)
    gr.training.pretrain(RECIPE, model, cut, **keywords)
    assert taken == [4, 5]  # it goes on, and does not begin again
    paths = [folder / "checkpoint.safetensors" for folder in (cut, calm)]
    assert equal(*map(weights, paths))
    assert gr.training.describe(paths[0]) == gr.training.describe(paths[1])
    assert [(line["step"], line["loss"]) for line in lines(cut)] == [(x["step"], x["loss"]) for x in lines(calm)]


def test_labels_of_several_classes_have_a_binary_cross_entropy(tmp_path):
    """The first loss is that of a model of small outputs: ln 2 per class, not ln 8."""
    several = gr.MultiFractal(classes=8, instances=4, points=500, image_size=32)
    gr.training.pretrain(several, "test_vit", tmp_path, **{**SHORT, "steps": 2, "augment": "crop", "log_every": 1})
    assert lines(tmp_path)[0]["loss"] == pytest.approx(math.log(2), abs=0.1)
    model = timm.create_model("test_vit", num_classes=3, img_size=32)
    assert gr.warm_up(model, several, minutes=0, image_size=32, batch_size=8) is model


def test_a_kill_between_the_two_files_leaves_no_old_checkpoint(tmp_path, monkeypatch):
    """The state is of the last step, the checkpoint of an earlier one; the next start writes it."""
    save = checkpoint.save

    def failing(path, weights, about):
        if about["step"] == 6:
            raise DisturbedError
        save(path, weights, about)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", failing)
        with pytest.raises(DisturbedError):
            gr.training.pretrain(RECIPE, "test_vit", tmp_path, **SHORT, save_every=4)
    assert gr.training.describe(tmp_path / "checkpoint.safetensors")["step"] == 4
    gr.training.pretrain(RECIPE, "test_vit", tmp_path, **SHORT, save_every=4)
    assert gr.training.describe(tmp_path / "checkpoint.safetensors")["step"] == 6


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(monkeypatch):
    monkeypatch.setattr(Training, "run", None)
    with pytest.raises(ValueError, match=r"^(output must be a folder|cannot write)"):
        gr.training.pretrain(RECIPE, "test_vit", "/proc/self", **SHORT)


def test_a_finished_run_takes_no_further_step(run, tmp_path):
    before = (run / "checkpoint.safetensors").read_bytes()
    gr.training.pretrain(RECIPE, "test_vit", run, **SHORT)
    assert (run / "checkpoint.safetensors").read_bytes() == before
    assert len(lines(run)) == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [({"steps": 7}, "steps"), ({"lr": 0.5}, "lr"), ({"seed": 3}, "loader_seed"), ({"fresh": True}, "fresh"),
     ({"image_size": 64}, "image_size")],
)  # fmt: skip
def test_another_run_in_the_folder_is_refused(run, change, named):
    with pytest.raises(ValueError, match=rf"^output: .* holds a training with {named}="):
        gr.training.pretrain(RECIPE, "test_vit", run, **{**SHORT, **change})


def test_a_state_of_an_earlier_version_that_kept_less_goes_on(run, continued, tmp_path):
    kept = torch.load(continued / "state.pt", weights_only=True)
    del kept["identity"]["began_with"]["sha256"]
    torch.save(kept, tmp_path / "state.pt")
    again = {**SHORT, "steps": 2, "lr": 0.0, "weight_decay": 0.0, "initial_checkpoint": run / "checkpoint.safetensors"}
    gr.training.pretrain(replace(RECIPE, classes=6), "test_vit", tmp_path, **again)
    assert equal(*(weights(folder / "checkpoint.safetensors") for folder in (continued, tmp_path)))


def test_equal_checkpoints_are_equal_files(run, tmp_path):
    """safetensors itself writes metadata in another order each time."""
    about, tensors = gr.training.describe(run / "checkpoint.safetensors"), weights(run / "checkpoint.safetensors")
    for number in range(12):
        checkpoint.save(tmp_path / str(number), tensors, about)
    assert len({(tmp_path / str(number)).read_bytes() for number in range(12)}) == 1
    assert gr.training.describe(tmp_path / "0") == about
    assert equal(weights(tmp_path / "0"), tensors)
    size = int.from_bytes((tmp_path / "0").read_bytes()[:8], "little")
    assert size % 8 == 0  # tensors are aligned
    model = timm.create_model("test_vit", num_classes=4, img_size=32)
    timm.models.load_checkpoint(model, str(run / "checkpoint.safetensors"))
    assert equal(model.state_dict(), tensors)


def test_a_damaged_state_is_named(run, tmp_path):
    (tmp_path / "state.pt").write_bytes((run / "state.pt").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^output: .*state\.pt cannot be read .* remove it"):
        gr.training.pretrain(RECIPE, "test_vit", tmp_path, **SHORT)


def test_a_policy_may_be_given_itself(run, tmp_path):
    own = gr.augment.DeiT.visualatom(mixup_alpha=0.0)
    gr.training.pretrain(RECIPE, "test_vit", tmp_path, augment=own, **{**SHORT, "steps": 2})
    about = gr.training.describe(tmp_path / "checkpoint.safetensors")
    assert (
        about["data"]["augment"] == repr(own) != gr.training.describe(run / "checkpoint.safetensors")["data"]["augment"]
    )
    again = gr.augment.DeiT.visualatom(mixup_alpha=0.0)
    gr.training.pretrain(RECIPE, "test_vit", tmp_path, augment=again, **{**SHORT, "steps": 2})  # it is done
    with pytest.raises(ValueError, match="holds a training with augment="):
        gr.training.pretrain(RECIPE, "test_vit", tmp_path, augment="visualatom", **{**SHORT, "steps": 2})


@pytest.fixture(scope="module")
def continued(run, tmp_path_factory):
    """A pre-training on other classes that began with another one's weights, which a rate of zero leaves."""
    folder = tmp_path_factory.mktemp("continued")
    begun = {"initial_checkpoint": run / "checkpoint.safetensors", **SHORT, "steps": 2}
    gr.training.pretrain(replace(RECIPE, classes=6), "test_vit", folder, lr=0.0, weight_decay=0.0, **begun)
    return folder


def test_a_pre_training_begins_with_a_checkpoint(run, continued, tmp_path):
    before, after = (weights(folder / "checkpoint.safetensors") for folder in (run, continued))
    heads = {name for name in before if name.startswith("head.")}
    assert heads
    assert after["head.weight"].shape[0] == 6
    assert equal(*({name: one[name] for name in one if name not in heads} for one in (before, after)))
    about, earlier = (gr.training.describe(folder / "checkpoint.safetensors") for folder in (continued, run))
    digest = hashlib.sha256((run / "checkpoint.safetensors").read_bytes()).hexdigest()
    assert about["data"]["began_with"] == {
        **{name: earlier[name] for name in ("kind", "data", "step")}, "sha256": digest,
    }  # fmt: skip
    assert earlier["data"]["began_with"] is None
    larger = {**SHORT, "steps": 1, "image_size": 64, "initial_checkpoint": run / "checkpoint.safetensors"}
    gr.training.pretrain(RECIPE, "test_vit", tmp_path, **larger)  # positions are resampled, as in a fine-tuning


def test_a_continued_pre_training_is_resumed_as_itself(run, continued, tmp_path):
    again = {**SHORT, "steps": 2, "lr": 0.0, "weight_decay": 0.0}
    held = (continued / "checkpoint.safetensors").read_bytes()
    recipe = replace(RECIPE, classes=6)
    gr.training.pretrain(recipe, "test_vit", continued, initial_checkpoint=run / "checkpoint.safetensors", **again)
    assert (continued / "checkpoint.safetensors").read_bytes() == held
    with pytest.raises(ValueError, match=r"^output: .* holds a training with began_with="):
        gr.training.pretrain(recipe, "test_vit", continued, **again)
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, weights(continued / "checkpoint.safetensors"), {
        **gr.training.describe(run / "checkpoint.safetensors"), "model": {"name": "test_vit", "classes": 6,
        "image_size": 32},
    })  # fmt: skip
    with pytest.raises(ValueError, match=r"^output: .* holds a training with began_with="):  # other weights
        gr.training.pretrain(recipe, "test_vit", continued, initial_checkpoint=other, **again)
    with pytest.raises(ValueError, match="model must be that of initial_checkpoint, 'test_vit', got 'test_vit2'"):
        gr.training.pretrain(
            RECIPE, "test_vit2", tmp_path / "new", initial_checkpoint=run / "checkpoint.safetensors", **SHORT
        )
    with pytest.raises(ValueError, match=r"^initial_checkpoint must be a file, and there is none at .*nothing"):
        gr.training.pretrain(RECIPE, "test_vit", tmp_path / "new", initial_checkpoint=tmp_path / "nothing", **SHORT)
    assert not (tmp_path / "new" / "checkpoint.safetensors").exists()


class Nameless(gr.augment.Policy):
    """A policy that another process cannot recognise by its repr."""

    def draw(self, numbers, **keywords):
        return gr.augment.Resize().draw(numbers, **keywords)

    def apply(self, canvases, parameters, **keywords):
        return gr.augment.Resize().apply(canvases, parameters, **keywords)


WRONG = [
    ({"model": "vit_tinny"}, r"model must be one of timm.*did you mean 'vit_tiny"),
    ({"preset": "onepfrak"}, "preset must be one of .* did you mean 'onepfrac'"),
    ({"steps": 0}, "steps must be an integer in"),
    ({"images": 5}, "steps must be left out when images is given"),
    ({"batch_size": 0}, "batch_size must be"),
    ({"batch_size": 9, "accumulate": 2}, "batch_size must be a multiple of 2"),
    ({"image_size": 30}, "image_size must suit the model test_vit, got 30"),
    ({"amp": "fp8"}, "amp must be one of"),
    ({"amp": "fp16"}, "amp must be 'no' or 'bf16' on a CPU"),
    ({"augment": gr.augment.TwoViews(gr.augment.Crop())}, "augment must give one view of a sample, and"),
    ({"augment": "none"}, "augment must be one of"),
    ({"augment": Nameless()}, "augment must have a repr that is the same in every process"),
    ({"lr": -1.0}, "lr must be a finite number"),
    ({"ema": 2.0}, "ema must be a finite number"),
    ({"log_every": 0}, "log_every must be"),
    ({"batchsize": 8}, "unexpected keyword argument 'batchsize'; did you mean 'batch_size'"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[" ".join(change) for change, _ in WRONG])
def test_wrong_arguments_are_refused_by_name(tmp_path, change, said):
    given = {"recipe": RECIPE, "model": "test_vit", "output": tmp_path / "new", **SHORT, **change}
    with pytest.raises((TypeError, ValueError), match=said):
        gr.training.pretrain(**given)
    assert not (tmp_path / "new" / "checkpoint.safetensors").exists()


def test_lost_numbers_end_a_training(tmp_path):
    with pytest.raises(RuntimeError, match=r"the loss is (nan|inf) at step"):
        gr.training.pretrain(
            RECIPE,
            "test_vit",
            tmp_path,
            **{**SHORT, "preset": "fractaldb-resnet", "lr": 1e6, "steps": 40},
        )


def test_missing_memory_says_what_helps():
    with (
        pytest.raises(RuntimeError, match=r"out of memory on cpu with 512 images per step and process: --accumulate"),
        engine.explained(512, torch.device("cpu")),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n 3 GiB")
    with pytest.raises(RuntimeError, match=r"^other$"), engine.explained(512, torch.device("cpu")):
        raise RuntimeError("other")


def test_presets_are_whole():
    for name, values in PRESETS.items():
        steps = values.images // values.batch_size
        Settings(
            steps=steps, batch_size=values.batch_size, optimizer=values.optimizer, lr=values.lr,
            weight_decay=values.weight_decay, schedule=values.schedule, min_lr=values.min_lr,
            warmup=values.warmup // values.batch_size,
        )  # fmt: skip
        assert gr.augment.DeiT is type(gr.augment.named.policy(values.augment)), name
        assert all(timm.is_model(model) for model in values.models), name
        assert "arXiv" in values.source
    # 1p-frac's released script: 80,000 epochs of 3 steps of 256 images
    assert PRESETS["onepfrac"].images == 80_000 * 3 * 256


@pytest.mark.parametrize("given", sorted(gr.presets()))
def test_a_recipe_has_the_settings_of_its_paper_however_it_is_given(given):
    """By name, as an object and as JSON."""
    wanted = {
        "3d-ofdb": "ofdb", "colorfractal": "deit", "exfractaldb": "exfractaldb", "fractaldb": "fractaldb",
        "gaussian-lpce": "onepfrac", "multifractal": "deit", "mv-fractaldb": "exfractaldb", "ofdb": "ofdb",
        "onepfrac": "onepfrac", "rcdb": "rcdb", "rcdb-lpce": "onepfrac", "uniform-lpce": "onepfrac",
        "visualatom": "visualatom", "visualatom-lpce": "onepfrac",
    }  # fmt: skip
    stem, _, size = given.rpartition("-")
    own = wanted[stem] + ("-21k" if size == "21k" and stem != "fractaldb" else "")
    for form in (given, gr.recipe(given), gr.recipe(given).to_json()):
        assert preset(None, gr.recipe(form))[0] == own
    assert preset("fractaldb-resnet", gr.recipe(given))[0] == "fractaldb-resnet"
    assert preset(None, RECIPE)[0] == "visualatom"  # no preset: its family's


def test_a_step_is_shared_evenly():
    assert per_batch(Settings(steps=1, batch_size=48, accumulate=2), 3) == 8
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of 6 \(3 processes x accumulate 2\), got 50"):
        per_batch(Settings(steps=1, batch_size=50, accumulate=2), 3)


# ------------------------------------------------------------------------------------------------- fine-tuning, probes


def test_fine_tuning_takes_the_body_and_learns(run, pictures, tmp_path):
    found = gr.training.finetune(
        run / "checkpoint.safetensors", pictures, tmp_path, epochs=20, batch_size=8, device="cpu", mixup=0.0,
        cutmix=0.0, optimizer="adamw", lr=2e-3,
    )  # fmt: skip
    assert (found["classes"], found["train_images"], found["test_images"], found["steps"]) == (3, 18, 12, 45)
    assert found["accuracy"] > 0.6  # brightness of a channel is easily learnt; chance is a third
    assert found["normalised_accuracy"] == pytest.approx((found["accuracy"] - 1 / 3) * 1.5)
    about = gr.training.describe(found["checkpoint"])
    assert about["model"]["class_names"] == ["c0", "c1", "c2"]
    assert about["data"]["began_with"]["data"]["fingerprint"] == RECIPE.fingerprint
    again = gr.training.load(found["checkpoint"], classes=5)  # a new head
    assert again.head.weight.shape[0] == 5


def test_fine_tuning_begins_with_the_checkpoint(run, pictures, tmp_path):
    """With a rate of zero the body stays what it was, and from scratch it is another."""
    keywords = {"epochs": 1, "batch_size": 18, "lr": 0.0, "device": "cpu"}
    gr.training.finetune(run / "checkpoint.safetensors", pictures, tmp_path / "a", **keywords)
    gr.training.finetune(run / "checkpoint.safetensors", pictures, tmp_path / "b", from_scratch=True, **keywords)
    body = {name: x for name, x in weights(run / "checkpoint.safetensors").items() if not name.startswith("head.")}
    for folder, same in (("a", True), ("b", False)):
        found = weights(tmp_path / folder / "checkpoint.safetensors")
        assert equal({name: found[name] for name in body}, body) == same


def test_fine_tuning_that_was_cut_off_ends_with_the_same_bytes(run, pictures, tmp_path, monkeypatch):
    keywords = {"epochs": 3, "batch_size": 8, "device": "cpu", "save_every": 2, "labels_per_class": 5}
    calm = gr.training.finetune(run / "checkpoint.safetensors", pictures, tmp_path / "calm", **keywords)
    take = Training._take_step

    def failing(training, batches):
        if training.step == 3:
            raise DisturbedError
        return take(training, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_take_step", failing)
        with pytest.raises(DisturbedError):
            gr.training.finetune(run / "checkpoint.safetensors", pictures, tmp_path / "cut", **keywords)
    taken = noted_steps(monkeypatch)
    cut = gr.training.finetune(run / "checkpoint.safetensors", pictures, tmp_path / "cut", **keywords)
    assert taken == list(range(2, calm["steps"]))
    assert equal(weights(calm["checkpoint"]), weights(cut["checkpoint"]))
    assert cut["accuracy"] == calm["accuracy"]


def test_workers_do_not_change_what_is_learnt(run, pictures, tmp_path):
    keywords = {"epochs": 1, "batch_size": 6, "device": "cpu"}
    found = [
        gr.training.finetune(run / "checkpoint.safetensors", pictures, tmp_path / str(n), workers=n, **keywords)
        for n in (0, 2)
    ]
    assert equal(weights(found[0]["checkpoint"]), weights(found[1]["checkpoint"]))


WRONG_TUNING = [
    ({"image_size": 0}, r"image_size must be an integer in \[1, 8192\], got 0"),
    ({"image_size": 8193}, r"image_size must be an integer in \[1, 8192\], got 8193"),
    ({"image_size": 33}, "image_size must suit the model test_vit, got 33"),
    ({"epochs": 0}, "epochs must be an integer in"),
    ({"batch_size": 0}, "batch_size must be an integer in"),
    ({"batch_size": 9, "mixup": 0.5}, "batch_size must be even per process and batch for mixup and cutmix, got 9"),
    ({"batch_size": 8, "accumulate": 3}, "batch_size must be a multiple of 3"),
    ({"optimizer": "adam"}, "optimizer must be one of .*adamw"),
    ({"lr": -1.0}, "lr must be a finite number"),
    ({"weight_decay": -1.0}, "weight_decay must be a finite number"),
    ({"mixup": -0.1}, "mixup must be a finite number"),
    ({"cutmix": 1001.0}, "cutmix must be a finite number"),
    ({"drop_path": 1.5}, "drop_path must be a finite number"),
    ({"from_scratch": 1}, "from_scratch must be True or False"),
    ({"workers": -1}, "workers must be an integer in"),
    ({"log_every": 0}, "log_every must be an integer in"),
    ({"save_every": 0}, "save_every must be an integer in"),
    ({"labels_per_class": 0}, "labels_per_class must be an integer in"),
    ({"labels_per_class": 1000}, "labels_per_class must be at most"),
    ({"validation": 1.0}, "validation must be a finite number"),
    ({"epoch": 3}, "unexpected keyword argument 'epoch'; did you mean 'epochs'"),
]


@pytest.mark.parametrize(("change", "said"), WRONG_TUNING, ids=[" ".join(change) for change, _ in WRONG_TUNING])
def test_wrong_arguments_of_a_fine_tuning_are_refused_by_name(run, pictures, tmp_path, change, said):
    given = {"source": run / "checkpoint.safetensors", "data": pictures, "output": tmp_path / "new", "device": "cpu"}
    with pytest.raises((TypeError, ValueError), match=said):
        gr.training.finetune(**{**given, "epochs": 1, "mixup": 0.0, "cutmix": 0.0, "batch_size": 8, **change})
    assert not (tmp_path / "new" / "checkpoint.safetensors").exists()


WRONG_PROBES = [
    ({"image_size": 8193}, r"image_size must be an integer in \[1, 8192\], got 8193"),
    ({"batch_size": 0}, "batch_size must be an integer in"),
    ({"layers": []}, "layers must"),
    ({"layers": [0]}, "layers must be an integer in"),
    ({"labels_per_class": 0}, "labels_per_class must be an integer in"),
    ({"layer": [1]}, "unexpected keyword argument 'layer'; did you mean 'layers'"),
]


@pytest.mark.parametrize(("change", "said"), WRONG_PROBES, ids=[" ".join(change) for change, _ in WRONG_PROBES])
def test_wrong_arguments_of_a_probe_are_refused_by_name(run, pictures, change, said):
    with pytest.raises((TypeError, ValueError), match=said):
        gr.training.probe(run / "checkpoint.safetensors", pictures, device="cpu", **change)


def test_orders_are_permutations():
    for epoch in range(3):
        assert sorted(order(50, 7, epoch)) == list(range(50))
    assert order(50, 7, 0).tolist() != order(50, 7, 1).tolist() != order(50, 8, 1).tolist()


def test_probes_measure_each_layer(run, pictures):
    found = gr.training.probe(run / "checkpoint.safetensors", pictures, layers=[1, 3], device="cpu")
    assert [row["layer"] for row in found["layers"]] == [1, 3]
    assert found["accuracy"] == found["layers"][-1]["linear"] > 0.6
    assert all(0.0 <= row["knn"] <= 1.0 for row in found["layers"])
    with pytest.raises(ValueError, match=r"layers must be an integer in \[1, 6\], got 7"):
        gr.training.probe(run / "checkpoint.safetensors", pictures, layers=[7], device="cpu")


def test_the_linear_classifier_is_logistic_regression():
    """Against scipy's minimum of the same function."""
    minimize = pytest.importorskip("scipy.optimize", reason="needs scipy").minimize
    from gpurender.training.probe import linear

    random = np.random.default_rng(0)
    x, t = random.normal(size=(40, 3)), random.integers(0, 2, 40)

    def loss(flat):
        scores = x @ flat[:6].reshape(3, 2) + flat[6:]
        top = np.log(np.exp(scores).sum(1)) - scores[np.arange(40), t]
        return top.mean() + 0.1 / 2 * (flat[:6] ** 2).sum() / 3

    best = minimize(loss, np.zeros(8)).fun
    weights, biases = linear(torch.tensor(x, dtype=torch.float32), torch.from_numpy(t), 0.1)
    assert loss(np.concatenate([weights.numpy().ravel(), biases.numpy()])) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("what", ["nothing", "text", "foreign"])
def test_what_is_no_checkpoint_is_refused(tmp_path, what):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    if what == "text":
        path.write_text("weights")
    elif what == "foreign":
        save_file({"a": torch.zeros(1)}, path)
    said = {"nothing": "must be a file", "text": "cannot be read", "foreign": "was not written by gpurender"}[what]
    with pytest.raises(ValueError, match=rf"^checkpoint .*{said}"):
        gr.training.load(path)


# --------------------------------------------------------------------------------------------------------------- ends


def command(folder, *more):
    where = [str(folder / "recipe.json"), "--model", "test_vit", "--output", str(folder / "run"), "--device", "cpu"]
    length = ["--steps", "40", "--batch-size", "8", "--image-size", "32", "--log-every", "1", "--save-every", "3"]
    return [sys.executable, "-m", "gpurender", "pretrain", *where, *length, *more]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def wait_for_step(folder, step, process):
    path, begin = folder / "run" / "metrics.jsonl", time.monotonic()
    while not path.exists() or path.read_text().count("\n") < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begin < 300
        time.sleep(0.02)


def test_signals_save_and_kills_lose_nothing(tmp_path):
    """SIGTERM saves the step it came at; SIGKILL goes on from the last saved one; the end is that of a calm run."""
    (tmp_path / "recipe.json").write_text(RECIPE.to_json())
    for number, step in ((signal.SIGTERM, 4), (signal.SIGKILL, 12)):
        process = subprocess.Popen(
            command(tmp_path), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for_step(tmp_path, step, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert process.returncode == -number
        if number == signal.SIGTERM:
            assert "is saved in" in said
            assert said.count("\n") <= 3
        saved = gr.training.describe(tmp_path / "run" / "checkpoint.safetensors")["step"]
        assert saved >= (step if number == signal.SIGTERM else step - 3)  # at every third step
    subprocess.run(command(tmp_path), env=environment(), check=True, timeout=300, capture_output=True)
    calm = tmp_path / "calm"
    keywords = {**SHORT, "steps": 40, "log_every": 1, "save_every": 3}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the commands have
    try:
        gr.training.pretrain(RECIPE, "test_vit", calm, **keywords)
    finally:
        torch.set_num_threads(threads)
    assert equal(weights(tmp_path / "run" / "checkpoint.safetensors"), weights(calm / "checkpoint.safetensors"))
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 41))


# ------------------------------------------------------------------------------------------------------------- warm-up


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_warm_up_leaves_the_head(name):
    model = timm.create_model(name, num_classes=7, **({"img_size": 32} if "vit" in name else {})).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    strides = [weight.stride() for weight in model.parameters()]
    head = model.get_classifier()
    state = torch.get_rng_state()
    found = gr.warm_up(model, RECIPE, minutes=0, image_size=32, batch_size=8)
    assert found is model
    assert model.get_classifier() is head
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert [weight.stride() for weight in model.parameters()] == strides
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    heads = {key for key in before if key.startswith(model.default_cfg["classifier"] + ".")}
    assert heads
    assert not changed & heads
    assert len(changed) > len(before) // 2


def test_a_warm_up_of_a_model_of_ones_own():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    head = model[2].weight.clone()
    body = model[0].weight.clone()
    gr.warm_up(model, RECIPE, minutes=0, image_size=32, batch_size=8)
    assert torch.equal(model[2].weight, head)
    assert not torch.equal(model[0].weight, body)
    with pytest.raises(ValueError, match="model must have a linear layer as its head, and Conv2d has none"):
        gr.warm_up(torch.nn.Conv2d(3, 4, 8), RECIPE, minutes=0)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got 'resnet18'"):
        gr.warm_up("resnet18", RECIPE)


# ----------------------------------------------------------------------------------------------------- many processes


def test_two_processes_train_what_one_does(tmp_path):
    """The images of a step are the same, shared among the processes; the weights agree up to the order of sums."""
    (tmp_path / "recipe.json").write_text(RECIPE.to_json())
    options = {"steps": 4, "batch_size": 8, "image_size": 32, "log_every": 1, "lr": 0.1}
    options |= {"preset": "fractaldb-resnet", "augment": "crop", "device": "cpu"}  # without stochastic depth
    gr.training.pretrain(RECIPE, "test_vit", tmp_path / "one", **options)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gpurender", "pretrain"]
    where = [str(tmp_path / "recipe.json"), "--model", "test_vit", "--output", str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, *launch, *where, *words], env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    one, two = (weights(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    begun = models.create("test_vit", RECIPE.classes, 32).state_dict()

    def distance(a, b):
        return max(float((a[name] - b[name]).abs().max()) for name in a)

    assert distance(one, two) < 1e-4 < distance(one, begun) / 50
    for a, b in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert (a["step"], a["loss"]) == (b["step"], pytest.approx(b["loss"], rel=1e-4))


THREE = """
import sys
import gpurender as gr
recipe, folder = gr.recipe(sys.argv[1]), sys.argv[2]
options = dict(batch_size=6, image_size=32, device="cpu", schedule="constant", log_every=1)
for name, steps in (("calm", 5), ("resumed", 3), ("resumed", 5)):
    gr.training.pretrain(recipe, "test_vit", f"{folder}/{name}", steps=steps, **options)
"""


def test_three_processes_go_on_bit_for_bit(tmp_path):
    """Sums of more than two depend on their order, which DistributedDataParallel changes after its first pass."""
    (tmp_path / "recipe.json").write_text(RECIPE.to_json())
    (tmp_path / "script.py").write_text(THREE)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(tmp_path / "script.py")]
    done = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "recipe.json"), str(tmp_path)], env=environment(),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert equal(*(weights(tmp_path / name / "checkpoint.safetensors") for name in ("calm", "resumed")))
    assert [line["loss"] for line in lines(tmp_path / "calm")] == [line["loss"] for line in lines(tmp_path / "resumed")]
