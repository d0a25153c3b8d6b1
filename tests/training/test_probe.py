"""Probes: the classifiers on features whose answers are known, and what the figures are made of."""

import json

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.tasks import Task
from gpurender.training.examples import order
from tests.support.bars import Bars
from tests.support.checkpoints import untrained
from tests.support.modules import module
from tests.support.pictures import image_folder

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
probe = module("gpurender.training.probe")


def test_neighbours_vote_by_their_similarity():
    """The 20 nearest by cosine, each with exp(similarity / 0.07), in NumPy; in blocks or at once."""
    random = np.random.default_rng(3)
    x, asked, labels = random.normal(size=(60, 3)), random.normal(size=(500, 3)), random.integers(0, 4, 60)
    known = x / np.linalg.norm(x, axis=1, keepdims=True)
    wanted = []
    for one in asked / np.linalg.norm(asked, axis=1, keepdims=True):
        similarity = known @ one
        nearest = np.argsort(-similarity)[:20]
        votes = [np.exp(similarity[nearest] / 0.07)[labels[nearest] == label].sum() for label in range(4)]
        wanted.append(int(np.argmax(votes)))
    given = [torch.from_numpy(part) for part in (x, labels, asked)]
    for options in ({}, {"block": 7}):
        assert probe.neighbours(*given, **options).tolist() == wanted
    few = probe.neighbours(given[0][:2], given[1][:2], given[2])  # fewer than 20 known images
    assert few.shape == (500,)


def test_a_classifier_is_fitted_in_at_most_so_many_iterations(monkeypatch):
    made, solver = [], torch.optim.LBFGS

    class Noted(solver):
        def __init__(self, parameters, **options):
            made.append(options)
            super().__init__(parameters, **options)

    monkeypatch.setattr(torch.optim, "LBFGS", Noted)
    x = torch.tensor([[1.0], [-1.0]])
    weights, biases = probe.linear(x, torch.tensor([2, 0]), 0.5)
    assert made == [{"max_iter": 200, "line_search_fn": "strong_wolfe"}]
    assert (tuple(weights.shape), tuple(biases.shape)) == ((1, 3), (3,))
    assert not weights.requires_grad
    assert not biases.requires_grad


def test_features_decide_the_precision_and_the_place():
    """Whatever torch's defaults are."""
    x = torch.tensor([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0]], dtype=torch.float64)
    labels = torch.tensor([1, 0, 1])
    with torch.device("meta"):
        weights, biases = probe.linear(x, labels, 0.5)
        found = probe.neighbours(x, labels, x)
    assert {(part.dtype, part.device.type) for part in (weights, biases)} == {(torch.float64, "cpu")}
    assert found.tolist() == [1, 0, 1]


def test_the_penalty_is_the_best_on_a_fifth_and_the_fit_is_to_all(monkeypatch):
    """Features are standardised; the accuracy counts biases."""
    fitted, mean, spread = [], 3.0, 2.0
    known = np.array([[mean + spread * (-1) ** i, 5.0] for i in range(20)], np.float32)
    labels = np.array([i % 2 for i in range(20)])

    def linear(x, t, penalty):
        fitted.append((x[:, 0].tolist(), t.tolist(), penalty))
        right = 1.0 if penalty in (1e-2, 1.0) else -1.0
        return torch.tensor([[right, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 0.5])

    monkeypatch.setattr(probe, "linear", linear)
    asked = np.array([[5.0, 5.0], [1.0, 5.0], [3.5, 5.0]], np.float32)  # 1, -1 and 0.25 standardised
    found = probe._scores(known, labels, asked, np.array([0, 1, 0]), 9)
    assert found == {"linear": pytest.approx(2 / 3), "knn": 1.0, "penalty": 1e-2, "features": 2}
    shuffled = order(20, 9, 0).tolist()
    rest = [i for place, i in enumerate(shuffled) if place % 5]
    standard = [(-1.0) ** i for i in range(20)]
    assert [penalty for *_, penalty in fitted] == [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e-2]
    for x, t, _ in fitted[:-1]:
        assert x == pytest.approx([standard[i] for i in rest])
        assert t == labels[rest].tolist()
    assert fitted[-1][0] == pytest.approx(standard)
    assert fitted[-1][1] == labels.tolist()


def test_the_fifth_that_is_held_out_is_what_the_penalty_is_chosen_on(monkeypatch):
    """Right answers on the rest alone do not count."""
    shuffled = order(10, 4, 0).tolist()
    held = shuffled[::5]
    labels = np.array([int(i in held) for i in range(10)])
    known = labels[:, None].astype(np.float32)

    def linear(x, t, penalty):
        sign = 10.0 if penalty == 1.0 else -10.0  # the held ones are above the mean
        return torch.tensor([[0.0, sign]]), torch.zeros(2)

    monkeypatch.setattr(probe, "linear", linear)
    assert probe._scores(known, labels, known, labels, 4)["penalty"] == 1.0


def test_one_image_has_nothing_to_hold_out():
    found = probe._scores(np.ones((1, 2), np.float32), np.zeros(1, np.int64), np.ones((3, 2), np.float32),
                          np.zeros(3, np.int64), 0)  # fmt: skip
    assert found == {"linear": 1.0, "knn": 1.0, "penalty": 1e-4, "features": 2}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture
def asked(monkeypatch):
    """What features are asked for; they are the labels, and noise."""
    found = []

    def features(model, part, transform, layers, *given):
        found.append((model, len(part), transform, list(layers), *given))
        return {layer: np.eye(3, dtype=np.float32)[part.labels] * layer for layer in layers}

    monkeypatch.setattr(probe, "features", features)
    monkeypatch.setattr(probe, "test_transform", lambda *given: given)
    return found


@pytest.mark.parametrize("scratch", [False, True])
def test_what_a_probe_is_made_of(asked, tmp_path, pictures, monkeypatch, scratch):
    path = untrained(tmp_path)
    bars = Bars()
    monkeypatch.setattr(probe, "progress", bars)
    result = gr.training.probe(
        path, pictures, layers=[4, 2], labels_per_class=5, from_scratch=scratch, image_size=64, batch_size=3,
        device="cpu", seed=8, workers=2,
    )  # fmt: skip
    rows = [{"layer": layer, "linear": 1.0, "knn": 1.0, "penalty": 1e-4, "features": 3} for layer in (2, 4)]
    assert result == {
        "accuracy": 1.0, "normalised_accuracy": 1.0, "layers": rows, "classes": 3, "train_images": 15,
        "test_images": 12, "task": json.loads(Task(pictures, labels_per_class=5, seed=8).to_json()),
    }  # fmt: skip
    (model, *given), (same, *more) = asked
    assert same is model
    assert given == [15, (64, [0.5] * 3, [0.5] * 3), [2, 4], 3, 2, torch.device("cpu")]
    assert more == [12, *given[1:]]
    module_of = module("gpurender.training.models")
    begun = module_of.create("test_vit", 4, 64, seed=8) if scratch else gr.training.load(path, image_size=64)
    assert torch.equal(model.blocks[0].attn.qkv.weight, begun.blocks[0].attn.qkv.weight)
    assert model.pos_embed.shape[1] == 1 + 4 * 4
    assert bars.made == [{"total": 2, "desc": "probe", "unit": "layer"}]
    assert bars.steps == [1, 1]


def test_what_is_not_given_is_the_checkpoint_s(asked, tmp_path, pictures):
    path = untrained(
        tmp_path, model={"name": "test_vit", "classes": 4, "image_size": 32, "mean": [0.1] * 3, "std": [0.2] * 3}
    )
    result = gr.training.probe(path, Task(pictures, labels_per_class=2), device="cpu")
    assert asked[0][1:] == (6, (32, [0.1] * 3, [0.2] * 3), [1, 2, 3, 4, 5, 6], 64, 0, torch.device("cpu"))
    assert [row["layer"] for row in result["layers"]] == [1, 2, 3, 4, 5, 6]


def test_the_last_layer_is_the_accuracy(asked, tmp_path, pictures, monkeypatch):
    scores = iter([0.5, 0.25])
    monkeypatch.setattr(probe, "_scores", lambda *_: {"linear": next(scores)})
    result = gr.training.probe(untrained(tmp_path), pictures, layers=[1, 2], device="cpu")
    assert (result["accuracy"], result["normalised_accuracy"]) == (0.25, pytest.approx(-0.125))


@pytest.mark.parametrize(("name", "high"), [("image_size", 8192), ("batch_size", 2**31 - 1)])
def test_integers_have_bounds(tmp_path, pictures, monkeypatch, name, high):
    class TakenError(Exception):
        """The bound is taken."""

    def task(*_, **__):
        raise TakenError

    monkeypatch.setattr(probe, "Task", type("Task", (), {"__new__": task}))
    path = untrained(tmp_path)
    for right in (1, high):
        with pytest.raises(TakenError):
            gr.training.probe(path, pictures, device="cpu", **{name: right})
    for wrong in (0, high + 1):
        with pytest.raises(ValueError, match=rf"^{name} must be an integer in \[1, {high}\], got {wrong}$"):
            gr.training.probe(path, pictures, device="cpu", **{name: wrong})
