"""Clients of a folder: scores of experts, recommendations, and what stays private."""

import json
import pickle
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

import gpurender as gr
from gpurender.server import data_server
from gpurender.server import experts as expert_module
from gpurender.server.data_server import DataServer
from tests.search.support import task
from tests.server.support import FILES, NAMES, file_server, pictures, recipe_server

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    recipe_server(root)
    return root


def rotation_score(path, folder, names):
    """Equation 5, image by image, with Pillow's rotations; these images need no crop."""
    model = gr.training.load(path)
    right = 0
    for name in names:
        image = Image.open(folder / name).convert("RGB")
        side = image.size[0]
        image = image.resize((36, 36), Image.Resampling.BICUBIC) if side != 36 else image  # 32 x 8/7, as timm has it
        image = image.crop((2, 2, 34, 34))
        for k in range(4):
            pixels = pil_to_tensor(image.rotate(90 * k))[None].float() / 255
            with torch.inference_mode():
                right += int(model((pixels - 0.5) / 0.5).argmax()) == k
    return right / (4 * len(names))


def test_the_scores_are_equation_5_and_need_no_labels(folder, tmp_path):
    names = pictures(tmp_path / "mine", 8, side=36)
    found = DataServer(folder).adapt(tmp_path / "mine", device="cpu")
    expected = {n: rotation_score(folder / f"experts/{n}.safetensors", tmp_path / "mine", names) for n in NAMES}
    assert found == expected
    assert list(found) == list(NAMES)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("data", ["", "a\0b"])
def test_an_empty_path_is_not_the_present_folder(folder, data):
    with pytest.raises(ValueError, match=r"^data must be a path, neither empty nor with a null character, got "):
        DataServer(folder).adapt(data, device="cpu")


def test_an_image_folder_with_classes_is_scored_by_its_training_images(folder, tmp_path):
    names = pictures(tmp_path / "data" / "train", 6, side=36, classes=["x", "y"])
    pictures(tmp_path / "data" / "val", 2, side=36, seed=9, classes=["x", "y"])
    server = DataServer(folder)
    found = server.adapt(tmp_path / "data", device="cpu")
    path = folder / "experts/bee.safetensors"
    assert found["bee"] == rotation_score(path, tmp_path / "data" / "train", names)
    assert server.adapt(gr.tasks.Task(tmp_path / "data"), device="cpu") == found


def test_other_tasks_are_scored_too(folder, tmp_path):
    given = task(tmp_path)
    assert DataServer(folder).adapt(given, device="cpu") == DataServer(folder).adapt(given.data, device="cpu")


def test_at_most_2048_images_are_looked_at(folder, tmp_path, monkeypatch):
    pictures(tmp_path / "mine", 9, side=36)
    monkeypatch.setattr(data_server, "SHOWN", 4)
    counts = []
    monkeypatch.setattr(data_server, "score", lambda path, task, shown, device: counts.append(len(shown.at(8))) or 0.5)
    DataServer(folder).adapt(tmp_path / "mine", device="cpu")
    assert counts == [4, 4, 4]


def test_nothing_is_sent_and_nothing_but_numbers_is_told(folder, tmp_path, monkeypatch):
    def refused(*words, **more):
        raise AssertionError("a socket was opened")

    pictures(tmp_path / "mine", 2)
    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    server = DataServer(folder)
    scores = server.adapt(tmp_path / "mine", device="cpu")
    found = server.recommend(scores, budget="1k")
    assert sum(found.images.values()) == 1000
    text = json.dumps(scores) + found.to_json() + found.recipe.to_json()
    assert str(tmp_path) not in text
    assert "000.png" not in text
    loader = gr.DataLoader(found.recipe, batch_size=4, image_size=32)
    assert next(iter(loader))[0].shape == (4, 3, 32, 32)


def test_a_linear_head_judges_experts_on_classes(tmp_path):
    recipe_server(tmp_path / "server", task="classify")
    given = task(tmp_path, images=60)
    found = DataServer(tmp_path / "server").adapt(given, device="cpu")
    assert set(found) == set(NAMES)
    judgements = 60 * 4  # every image, in four foldings
    assert all(round(judgements * value) == pytest.approx(judgements * value) for value in found.values())
    pictures(tmp_path / "flat", 3)
    with pytest.raises(ValueError, match="has no folder 'train'"):
        DataServer(tmp_path / "server").adapt(tmp_path / "flat", device="cpu")


def test_every_image_is_judged_by_a_linear_head_that_has_not_seen_it():
    from gpurender.server.sources import samples_of

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    names = [f"{label}/{i}" for i, label in enumerate(labels)]
    samples = samples_of(None, names)
    features = (np.eye(3)[samples.labels] + generator.normal(0, 0.01, (200, 3))).astype(np.float32)
    assert expert_module._linear(features, samples) == 1.0
    for wrong in ([7], [7, 120, 199]):  # of another class than they look: a head that had seen them could say so
        turned = features.copy()
        turned[wrong] = np.roll(features[wrong], 1, 1)
        assert expert_module._linear(turned, samples) == 1.0 - len(wrong) / 200
    own = np.eye(200, dtype=np.float32)  # a feature for each image: learned by heart, of no use for others
    assert expert_module._linear(own, samples) < 0.5
    said = "data must have labelled images of at least 2 classes for experts on classes, got"
    with pytest.raises(ValueError, match=f"{said} 1 image$"):
        expert_module._linear(features[:1], samples.part(np.arange(1)))
    one = np.flatnonzero(samples.labels == 1)
    with pytest.raises(ValueError, match=f"{said} {len(one)} images of one class$"):
        expert_module._linear(features[one], samples.part(one))
    for count in range(2, 7):
        assert 0.0 <= expert_module._linear(features[:count], samples.part(np.arange(count))) <= 1.0


def test_the_accuracy_of_a_few_images_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    selection = pytest.importorskip("sklearn.model_selection")
    from gpurender.server.sources import samples_of

    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, 256)
    samples = samples_of(None, [f"{label}/{i}" for i, label in enumerate(labels)])
    features = (np.eye(4)[samples.labels] + generator.normal(0, 0.7, (256, 4))).astype(np.float32)
    folds = selection.RepeatedKFold(n_splits=5, n_repeats=20, random_state=0)
    classifier = linear_model.RidgeClassifier(alpha=1.0)
    expected = selection.cross_val_score(classifier, features, samples.labels, cv=folds).mean()
    assert expert_module._linear(features, samples) == pytest.approx(expected, abs=0.015)


def test_images_are_read_once_for_all_experts_and_normalised_as_timm_does(tmp_path):
    from gpurender.server.sources import samples_of
    from gpurender.training.examples import test_transform as evaluation

    names = pictures(tmp_path, 3, side=50)
    samples, reads = samples_of(tmp_path, names), []
    plain = samples._found.image
    object.__setattr__(samples._found, "image", lambda i: reads.append(i) or plain(i))
    shown = expert_module.Shown(samples)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    for side in (32, 24, 32):
        found, transform = shown.at(side), expert_module.normalised(mean, std)
        for i in range(3):
            assert found[i][0].dtype == torch.uint8
            assert torch.equal(transform(found[i][0]), evaluation(side, mean, std)(plain(i)))
    assert len(reads) == 6
    assert found.labels.tolist() == samples.labels.tolist()


def test_an_expert_is_the_file_of_the_catalogue(tmp_path):
    recipe_server(tmp_path)
    server = DataServer(tmp_path)
    path = server.expert("bee")
    assert path == tmp_path / "experts" / "bee.safetensors"
    assert gr.training.load(path).num_classes == 4
    with pytest.raises(ValueError, match=r"expert must be one of 'ant', 'bee', 'cow', got 'bees'; did you mean 'bee'?"):
        server.expert("bees")
    whole = path.read_bytes()
    for bad in (whole[:-1], whole + b"\0", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"bee\.safetensors' is not the expert of the catalogue: it has \d+ bytes"):
            server.expert("bee")
    path.unlink()
    with pytest.raises(ValueError, match=r"bee\.safetensors' cannot be read: No such file"):
        server.expert("bee")


def test_lists_of_files(tmp_path):
    file_server(tmp_path)
    server, equal = DataServer(tmp_path), {"ant": 0.5, "bee": 0.5, "cow": 0.5}
    found = server.recommend(equal, budget=5)
    assert sorted(found.files) == sorted(path for rows in FILES.values() for path, _ in rows)
    assert server.recommend(equal, budget="30B", seed=1).files
    for bad in (
        '[["../x", 1]]', '[["/etc/passwd", 1]]', '[["a", -1]]', '[["a", true]]', '[["a", 1.5]]', '[["a", 1e30]]',
        '[["a", 2000000000000000000]]', '[["", 1]]', "{", "[[1, 2]]", '[["a"]]', "3",
    ):  # fmt: skip
        (tmp_path / "partitions" / "bee.json").write_text(bad)
        with pytest.raises(ValueError, match=r"server: 'partitions/bee\.json' is damaged: "):
            DataServer(tmp_path).recommend(equal, budget=5)
    (tmp_path / "partitions" / "bee.json").unlink()
    with pytest.raises(ValueError, match=r"server: 'partitions/bee\.json' cannot be read: No such file"):
        DataServer(tmp_path).recommend(equal, budget=5)
    assert server.recommend(equal, budget=5) == found  # a list is read once
    with pytest.raises(ValueError, match="source must be one of 'ant', 'bee', 'cow', got 'bees'"):
        server.files("bees")
    assert pickle.loads(pickle.dumps(server)).recommend(equal, budget=5) == found
    recipe_server(tmp_path / "recipes")
    with pytest.raises(ValueError, match="files are listed by a server of an image folder, and this one has recipes"):
        DataServer(tmp_path / "recipes").files("bee")


def test_what_is_no_server_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"server must be a folder or an http address, got '.*nothing'"):
        DataServer(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"has no catalogue.json"):
        DataServer(tmp_path)
    with pytest.raises(TypeError, match="server must be a path, got 3"):
        DataServer(3)


def test_a_server_names_itself(folder):
    assert repr(DataServer(folder)) == f"DataServer({str(folder)!r}: 3 experts)"
    assert gr.DataServer is DataServer
