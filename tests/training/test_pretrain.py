"""What a pre-training is made of: settings from the paper and the caller, a loader, a description."""

import json

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.training import engine, models
from gpurender.training.presets import PRESETS
from tests.support.modules import module

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")


pretrain = module("gpurender.training.pretrain")
RECIPE = gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(2, 4), radius=(4, 8))
RESNET, ONEPFRAC = PRESETS["fractaldb-resnet"], PRESETS["onepfrac"]


def settings(paper, steps=None, images=None, batch_size=None, warmup=None, **others):
    found = pretrain._settings(paper, steps, images, batch_size, warmup, **others)
    return found.steps, found.batch_size, found.warmup, found.lr


@pytest.mark.parametrize(
    ("paper", "given", "found"),
    [
        (ONEPFRAC, {}, (240_000, 256, 15, 5e-4)),
        (ONEPFRAC, {"batch_size": 512}, (120_000, 512, 7, 1e-3)),
        (ONEPFRAC, {"steps": 100}, (100, 256, 10, 5e-4)),
        (ONEPFRAC, {"steps": 1}, (1, 256, 0, 5e-4)),
        (ONEPFRAC, {"images": 2559}, (9, 256, 0, 5e-4)),
        (ONEPFRAC, {"images": 1}, (1, 256, 0, 5e-4)),
        (ONEPFRAC, {"lr": 0.25, "batch_size": 512}, (120_000, 512, 7, 0.25)),
        (ONEPFRAC, {"lr": 0.0}, (240_000, 256, 15, 0.0)),
        (ONEPFRAC, {"steps": 100, "warmup": 0}, (100, 256, 0, 5e-4)),
        (
            ONEPFRAC,
            {"steps": 100, "warmup": 50 * 256 + 255},
            (100, 256, 50, 5e-4),
        ),  # more than a tenth, if it is asked for
        (ONEPFRAC, {"steps": 100, "warmup": 2**50}, (100, 256, 100, 5e-4)),
        (RESNET, {"batch_size": 128}, (703_125, 128, 0, 0.01)),  # whose rule does not scale the rate
    ],
)
def test_settings_are_the_papers_but_for_what_is_given(paper, given, found):
    assert settings(paper, **given) == pytest.approx(found)


def test_what_a_paper_says_of_its_optimiser_is_taken():
    paper = pretrain._settings(RESNET, 9, None, None, None, weight_decay=None, ema=None, schedule=None)
    assert (paper.optimizer, paper.schedule, paper.weight_decay, paper.min_lr) == ("sgd", "steps", 0.0004, 1e-5)
    given = {"weight_decay": 0.25, "ema": 0.5, "seed": 3, "amp": "bf16", "clip": 2.0, "schedule": "constant"}
    own = pretrain._settings(RESNET, 9, None, None, None, **given)
    assert {name: getattr(own, name) for name in given} == given


@pytest.mark.parametrize(
    ("name", "high"), [("batch_size", 2**31 - 1), ("images", 2**50), ("steps", 2**40), ("lr", 1e6), ("warmup", 2**50)]
)
def test_lengths_and_rates_have_bounds(name, high):
    given = {"batch_size": 1024} if name == "images" else {}
    settings(ONEPFRAC, **given, **{name: high})
    for wrong in (high + 1, -1):
        with pytest.raises(ValueError, match=rf"^{name} must be .*got {wrong}"):
            settings(ONEPFRAC, **given, **{name: wrong})
    if name not in ("lr", "warmup"):
        settings(ONEPFRAC, **{name: 1})
        with pytest.raises(ValueError, match=rf"^{name} must be .*got 0"):
            settings(ONEPFRAC, **{name: 0})


@pytest.fixture
def made(monkeypatch):
    """What is made until the training would begin: ``loader``, ``training``, ``go``."""
    found = {}
    loader = pretrain.DataLoader

    def load(recipe, **options):
        found["loader"] = options
        return loader(recipe, **options)

    def train(*given):
        found["training"] = given

    monkeypatch.setattr(pretrain, "DataLoader", load)
    monkeypatch.setattr(pretrain, "Training", train)
    monkeypatch.setattr(pretrain, "go", lambda *given: found.update(go=given[1:]))
    return found


def test_what_a_training_is_made_of(made, tmp_path):
    path = gr.training.pretrain(
        RECIPE, "test_vit", tmp_path, steps=5, image_size=32, batch_size=8, accumulate=2, device="cpu", seed=3,
        fresh=True, compile=True, log_every=4, save_every=6, tensorboard=True, lr=0.5, weight_decay=0.25, ema=0.75,
        clip=1.5, amp="bf16",
    )  # fmt: skip
    assert path == tmp_path / "checkpoint.safetensors"
    policy = made["loader"].pop("augment")
    assert policy == gr.augment.DeiT.visualatom()
    assert made["loader"] == {
        "batch_size": 4, "shuffle": True, "drop_last": True, "image_size": 32, "device": torch.device("cpu"), "seed": 3,
        "fresh": True, "rank": 0, "world_size": 1,
    }  # fmt: skip
    assert made["go"] == (4, 6, True)
    accelerator, network, stream, loss, settings, folder, about, compiled = made["training"]
    assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps, folder, compiled) == (
        "bf16", 2, tmp_path, True,
    )  # fmt: skip
    assert (settings.accumulate, settings.lr, settings.weight_decay, settings.ema, settings.clip) == (
        2, 0.5, 0.25, 0.75, 1.5,
    )  # fmt: skip
    assert (settings.seed, settings.amp, settings.steps, settings.batch_size) == (3, "bf16", 5, 8)
    assert isinstance(loss, torch.nn.CrossEntropyLoss)
    begun = models.create("test_vit", 4, 32, 0.1, 3)
    assert torch.equal(network.head.weight, begun.head.weight)
    assert max(m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath") == pytest.approx(0.1)
    assert about({"position": 1}) == {
        "kind": "pretrain",
        "preset": "visualatom",
        "model": {"name": "test_vit", "classes": 4, "image_size": 32, "mean": list(policy.mean),
                  "std": [0.229, 0.224, 0.225]},
        "data": {
            "recipe": json.loads(RECIPE.to_json()), "fingerprint": RECIPE.fingerprint, "augment": repr(policy),
            "fresh": True, "loader_seed": 3, "began_with": None,
        },
        "stream": {"position": 1}, "processes": 1,
    }  # fmt: skip
    batches = stream.batches()
    seen = [next(batches)[1] for _ in range(10)]  # eight of an epoch, and then those of the next
    assert len(seen[9]) == 4
    state = stream.state_dict()
    assert (state["epoch"], state["position"]) == (1, 8)
    stream.load_state_dict({**state, "position": 0})
    assert stream.state_dict()["position"] == 0


def test_numpy_s_numbers_are_taken(made, tmp_path):
    gr.training.pretrain(
        RECIPE, "test_vit", tmp_path, steps=np.int64(1), image_size=np.int64(32), batch_size=np.int64(8), device="cpu",
        seed=np.uint64(2**64 - 1), augment="crop",
    )  # fmt: skip
    json.dumps(made["training"][6]({}))


@pytest.mark.parametrize(("batch_size", "whole"), [(32, True), (33, False)])
def test_an_incomplete_batch_is_left_out_unless_it_is_all(made, tmp_path, batch_size, whole):
    """The recipe has 32 images."""
    gr.training.pretrain(
        RECIPE, "test_vit", tmp_path, steps=1, image_size=32, batch_size=batch_size, device="cpu", augment="crop"
    )
    assert made["loader"]["drop_last"] is whole


def test_each_process_has_its_share_of_the_loader(made, tmp_path, monkeypatch):
    real = engine.accelerator

    class Second:
        num_processes, process_index, is_main_process = 3, 1, False

        def __init__(self, *given):
            self.device = real(*given).device

    monkeypatch.setattr(engine, "accelerator", Second)
    gr.training.pretrain(
        RECIPE, "test_vit", tmp_path, steps=1, image_size=32, batch_size=33, device="cpu", augment="crop"
    )
    options = made["loader"]
    assert (options["batch_size"], options["rank"], options["world_size"], options["drop_last"]) == (11, 1, 3, False)
    assert made["training"][6]({})["processes"] == 3


@pytest.mark.parametrize("name", ["log_every", "save_every"])
def test_reports_and_checkpoints_have_bounds(made, tmp_path, name):
    given = {"steps": 1, "image_size": 32, "batch_size": 8, "device": "cpu", "augment": "crop"}
    for right in (1, 2**31 - 1):
        gr.training.pretrain(RECIPE, "test_vit", tmp_path, **given, **{name: right})
    for wrong in (0, 2**31):
        with pytest.raises(ValueError, match=rf"^{name} must be an integer in \[1, 2147483647\], got {wrong}$"):
            gr.training.pretrain(RECIPE, "test_vit", tmp_path, **given, **{name: wrong})


def test_a_wrong_model_is_refused_before_anything_is_searched(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrain, "DataLoader", None)
    with pytest.raises(ValueError, match=r"^model must be one of timm\.list_models\(\), got 'none'"):
        gr.training.pretrain(RECIPE, "none", tmp_path, steps=1, batch_size=8, device="cpu")
