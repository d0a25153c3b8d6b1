"""What a fine-tuning is made of: settings, mixing, network, examples, a description, and the figures it returns."""

import hashlib
import json

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.tasks import Task
from gpurender.training import models
from tests.support.checkpoints import untrained
from tests.support.modules import module
from tests.support.pictures import image_folder

timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")
finetune = module("gpurender.training.finetune")
BEGUN = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three classes of seven training images and four test images."""
    return image_folder(tmp_path_factory.mktemp("pictures") / "data", train=7)


@pytest.fixture
def begun(tmp_path):
    model = {"name": "test_vit", "classes": 4, "image_size": 32, **BEGUN}
    return untrained(tmp_path, model=model)


@pytest.mark.parametrize(
    ("images", "given", "found"),
    [
        (50_000, {}, (6511, 768, 651, 0.015, 1e-4)),  # ceil(5,000,000 / 768) steps, ten epochs of 65.1 of warm-up
        (50_000, {"epochs": 20}, (1303, 768, 130, 0.015, 1e-4)),  # at most a tenth of the steps
        (50_000, {"epochs": 1000, "size": 512}, (97_657, 512, 976, 0.01, 1e-4)),
        (50_000, {"steps": 200, "size": 50}, (200, 50, 20, 50 * 0.01 / 512, 1e-4)),
        (64, {"epochs": 1, "size": 64}, (1, 64, 0, 0.00125, 1e-4)),
        (1, {"epochs": 1, "size": 64}, (1, 64, 0, 0.00125, 1e-4)),
        (64, {"lr": 0.0, "weight_decay": 0.0, "size": 64}, (100, 64, 10, 0.0, 0.0)),
        (64, {"lr": 1e6, "weight_decay": 0.5, "size": 64}, (100, 64, 10, 1e6, 0.5)),
    ],
)
def test_settings_are_those_of_the_released_scripts_but_for_what_is_given(images, given, found):
    whole = {"epochs": 100, "size": 768, "optimizer": "sgd", "lr": None, "weight_decay": None, "seed": 3, **given}
    made = finetune._settings(images, **whole)
    assert (made.steps, made.batch_size, made.warmup, made.lr, made.weight_decay) == pytest.approx(found)
    assert (made.optimizer, made.schedule, made.min_lr, made.seed) == ("sgd", "cosine", 0.0, 3)


def test_lengths_and_rates_have_bounds():
    given = {"size": 2**31 - 1, "optimizer": "sgd", "lr": None, "weight_decay": None}
    assert finetune._settings(1, 2**31 - 1, **given).steps == 1
    for wrong in (0, 2**31):
        with pytest.raises(ValueError, match=rf"^epochs must be an integer in \[1, 2147483647\], got {wrong}$"):
            finetune._settings(1, wrong, **given)
    for wrong in (-1.0, 1e6 + 1):
        with pytest.raises(ValueError, match=r"^lr must be a finite number in \[0, 1e\+06\], got "):
            finetune._settings(1, 1, **{**given, "lr": wrong})


def test_mixing_is_timms(monkeypatch):
    made = []
    monkeypatch.setattr(timm.data, "Mixup", lambda **given: made.append(given) or "mixing")
    assert finetune._mixing(0.0, 0.0, 3) is None
    assert made == []
    for mixup, cutmix in ((0.8, 0.0), (0.0, 1.0), (1000.0, 1000.0)):
        assert finetune._mixing(mixup, cutmix, 3) == "mixing"
        assert made.pop() == {
            "mixup_alpha": mixup, "cutmix_alpha": cutmix, "label_smoothing": 0.1, "num_classes": 3,
        }  # fmt: skip
    for name in ("mixup", "cutmix"):
        for wrong in (-0.5, 1000.5):
            with pytest.raises(ValueError, match=rf"^{name} must be a finite number in \[0, 1000\], got "):
                finetune._mixing(**{"mixup": 0.0, "cutmix": 0.0, name: wrong}, classes=3)


@pytest.mark.parametrize("scratch", [False, True])
def test_a_network_has_the_body_or_random_weights_and_a_head_of_the_seed(begun, scratch):
    about = gr.training.describe(begun)
    made = finetune._network(begun, about, 3, 32, 0.5, 9, scratch)
    new = models.create("test_vit", 3, 32, 0.5, 9)
    assert torch.equal(made.head.weight, new.head.weight)
    assert max(m.drop_prob for m in made.modules() if type(m).__name__ == "DropPath") == 0.5
    body = new if scratch else gr.training.load(begun)
    assert torch.equal(made.blocks[0].attn.qkv.weight, body.blocks[0].attn.qkv.weight)
    for right in (0.0, 1.0):
        finetune._network(begun, about, 3, 32, right, 0, scratch)
    for wrong in (-0.5, 1.5):
        with pytest.raises(ValueError, match=r"^drop_path must be a finite number in \[0, 1\], got "):
            finetune._network(begun, about, 3, 32, wrong, 0, scratch)


@pytest.fixture
def made(monkeypatch):
    """What is made until the training would begin, and what would be measured after it."""
    found = {"warmed": []}

    class Training:
        def __init__(self, *given):
            found["training"] = given
            self.ema = found.get("ema")

    def go(training, *given):
        found["go"] = given

    def accuracy(*given):
        found["measured"] = given
        return 0.75

    def examples(*given):
        found["feed"] = given
        return "feed"

    warm = module("gpurender.training.warm_up")
    for owner, name, stand_in in (
        (finetune, "Training", Training), (finetune, "go", go), (finetune, "accuracy", accuracy),
        (finetune, "Examples", examples), (finetune, "train_transform", lambda *given: ("train", *given)),
        (finetune, "test_transform", lambda *given: ("test", *given)),
        (warm, "warm_up", lambda *given, **more: found["warmed"].append((*given[1:], more))),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, stand_in)
    return found


def test_what_a_fine_tuning_is_made_of(made, begun, pictures, tmp_path):
    out = tmp_path / "out"
    result = gr.training.finetune(
        begun, pictures, out, labels_per_class=4, epochs=5, image_size=64, batch_size=6, accumulate=3,
        optimizer="adamw", lr=0.5, weight_decay=0.25, mixup=0.0, cutmix=0.5, drop_path=0.125, ema=0.75, clip=1.5,
        amp="bf16", compile=True, device="cpu", seed=9, workers=2, log_every=4, save_every=6, tensorboard=True,
        warm_up="noise", minutes=0.5,
    )  # fmt: skip
    task = Task(pictures, labels_per_class=4, seed=9)
    assert result == {
        "accuracy": 0.75, "normalised_accuracy": pytest.approx(0.625), "classes": 3, "train_images": 12,
        "test_images": 12, "steps": 10, "checkpoint": str(out / "checkpoint.safetensors"),
        "task": json.loads(task.to_json()),
    }  # fmt: skip
    assert made["go"] == (4, 6, True)
    accelerator, network, feed, loss, settings, folder, about, compiled = made["training"]
    assert (feed, folder, compiled) == ("feed", out, True)
    assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps) == ("bf16", 3)
    assert isinstance(loss, torch.nn.CrossEntropyLoss)
    assert loss.label_smoothing == 0.0  # the mixing smooths
    assert (settings.optimizer, settings.lr, settings.weight_decay, settings.batch_size, settings.accumulate) == (
        "adamw", 0.5, 0.25, 6, 3,
    )  # fmt: skip
    assert (settings.ema, settings.clip, settings.amp, settings.seed) == (0.75, 1.5, "bf16", 9)
    assert network.pos_embed.shape[1] == 1 + 4 * 4
    assert made["warmed"] == [("noise", 0.5, {"image_size": 64, "device": accelerator.device, "seed": 9})]
    train, transform, mixing, each, rank, processes, seed, workers, device = made["feed"]
    assert (len(train), transform) == (12, ("train", 64, BEGUN["mean"], BEGUN["std"]))
    assert (mixing.mixup_alpha, mixing.cutmix_alpha, mixing.num_classes) == (0.0, 0.5, 3)
    assert (each, rank, processes, seed, workers, device) == (2, 0, 1, 9, 2, accelerator.device)
    judged, test, transform, size, workers, device = made["measured"]
    assert judged is network
    assert (len(test), transform, size, workers) == (12, ("test", 64, BEGUN["mean"], BEGUN["std"]), 2, 2)
    assert about({"position": 1}) == {
        "kind": "finetune",
        "model": {"name": "test_vit", "classes": 3, "image_size": 64, **BEGUN, "class_names": ["c0", "c1", "c2"]},
        "data": {
            "task": json.loads(task.to_json()), "mixup": 0.0, "cutmix": 0.5, "warm_up": "noise",
            "began_with": {
                "kind": "pretrain", "data": {"recipe": "r"}, "step": 3,
                "sha256": hashlib.sha256(begun.read_bytes()).hexdigest(),
            },
        },
        "stream": {"position": 1},
    }  # fmt: skip


def test_what_is_measured_is_the_average_of_the_validation_images(made, pictures, tmp_path):
    """Of a checkpoint that names neither mean nor deviation."""
    made["ema"] = type("Average", (), {"module": "averaged"})
    plain = {"device": "cpu", "mixup": 0.0, "cutmix": 0.0, "from_scratch": True}
    result = gr.training.finetune(
        untrained(tmp_path), Task(pictures, validation=0.3), tmp_path / "out", ema=0.5, **plain
    )
    judged, test, transform, *_ = made["measured"]
    assert (judged, len(test), transform) == ("averaged", 6, ("test", 32, [0.5] * 3, [0.5] * 3))
    assert (result["train_images"], result["test_images"], result["steps"]) == (15, 6, 100)  # a batch is all images
    _, _, _, loss, settings, _, about, compiled = made["training"]
    assert (loss.label_smoothing, settings.batch_size, compiled) == (0.1, 15, False)
    assert about({})["data"]["began_with"] == "random weights"
    assert made["warmed"] == []


@pytest.mark.parametrize(("few", "size"), [(7, 20), (1, 2), (2, 6)])
def test_a_batch_is_even_for_mixing(made, begun, pictures, tmp_path, few, size):
    """All of 21, 3 or 6 images, less one that has no partner; at least two."""
    gr.training.finetune(begun, pictures, tmp_path / "out", labels_per_class=few, device="cpu")
    assert made["training"][4].batch_size == size
    with pytest.raises(ValueError, match=r"^batch_size must be even per process and batch for .*, got 3$"):
        gr.training.finetune(begun, pictures, tmp_path / "out", batch_size=6, accumulate=2, device="cpu")
    gr.training.finetune(begun, pictures, tmp_path / "out", batch_size=3, mixup=0.0, cutmix=0.0, device="cpu")


def test_a_single_image_is_mixed_with_itself(made, begun, tmp_path):
    one = {"x_train": np.zeros((1, 8, 8), np.uint8), "y_train": np.ones(1, np.int64)}
    np.savez(tmp_path / "one.npz", **one, x_test=one["x_train"], y_test=one["y_train"])
    gr.training.finetune(begun, tmp_path / "one.npz", tmp_path / "out", device="cpu")
    assert made["training"][4].batch_size == 2


def test_a_batch_has_at_most_768_images(made, begun, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "BATCH_SIZE", 11)
    assert module("gpurender.training.finetune").EPOCHS == 100
    gr.training.finetune(begun, pictures, tmp_path / "out", device="cpu")
    assert made["training"][4].batch_size == 10


def test_a_warm_up_is_left_out_where_the_training_goes_on(made, begun, pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.pt").write_text("")
    gr.training.finetune(begun, pictures, tmp_path / "out", warm_up="noise", device="cpu")
    assert made["warmed"] == []


def test_numpy_s_numbers_are_taken(made, begun, pictures, tmp_path):
    gr.training.finetune(
        begun, pictures, tmp_path / "out", image_size=np.int64(32), mixup=np.float32(0.5), cutmix=np.float32(0.0),
        seed=np.int64(3), validation=np.float32(0.3), labels_per_class=np.int64(4), device="cpu",
    )  # fmt: skip
    json.dumps(made["training"][6]({}))


def test_a_task_has_its_own_budget(pictures):
    task = Task(pictures)
    assert finetune._task(task, None, 0.0, 5) is task
    assert finetune._task(pictures, 3, 0.25, 5) == Task(pictures, labels_per_class=3, validation=0.25, seed=5)
    for few, share in ((3, 0.0), (None, 0.25)):
        with pytest.raises(ValueError, match=r"^labels_per_class and validation must be left out when data is a Task"):
            finetune._task(task, few, share, 0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("log_every", 1, 2**31 - 1), ("save_every", 1, 2**31 - 1), ("workers", 0, 1024), ("batch_size", 1, 2**31 - 1)],
)
def test_integers_have_bounds(made, begun, pictures, tmp_path, name, low, high):
    given = {"device": "cpu", "mixup": 0.0, "cutmix": 0.0}
    for right in (low, high):
        gr.training.finetune(begun, pictures, tmp_path / "out", **given, **{name: right})
    for wrong in (low - 1, high + 1):
        with pytest.raises(ValueError, match=rf"^{name} must be an integer in \[{low}, {high}\], got {wrong}$"):
            gr.training.finetune(begun, pictures, tmp_path / "out", **given, **{name: wrong})
