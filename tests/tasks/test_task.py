"""Tasks: which images, which labels, which of them held out; every kind of source."""

import gzip
import json
import struct

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.tasks import Task, normalised, sources, summary
from tests.support.pictures import image_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("task") / "data", train=10)


def names(samples):
    return [samples._found.names[i] for i in samples._indices]


def test_a_folder_is_read_as_torchvision_reads_it(folder):
    datasets = pytest.importorskip("torchvision.datasets", reason="needs torchvision, of the extra 'train'")
    theirs, ours = datasets.ImageFolder(folder / "val"), Task(folder).samples("test")
    assert len(ours) == len(theirs) == 12
    assert list(ours.classes) == theirs.classes
    for (image, label), (other, expected) in zip((ours[i] for i in range(12)), theirs, strict=True):
        assert (label, image.mode) == (expected, "RGB")
        assert np.array_equal(np.asarray(image), np.asarray(other))


def test_labels_are_chosen_by_name_and_seed_alone(folder, tmp_path):
    few = Task(folder, labels_per_class=3).samples("train")
    assert np.bincount(few.labels).tolist() == [3, 3, 3]
    copy = tmp_path / "copy"
    for path in sorted((folder / "train").rglob("*.png"), reverse=True):  # another folder, in another order
        there = copy / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    assert names(Task(copy, labels_per_class=3).samples("train")) == names(few)
    assert names(Task(folder, labels_per_class=3, seed=1).samples("train")) != names(few)
    more = Task(folder, labels_per_class=5).samples("train")
    assert set(names(few)) < set(names(more))  # a larger budget keeps the labels of a smaller one


def test_held_out_images_are_no_training_images(folder):
    task = Task(folder, validation=0.3, labels_per_class=4)
    train, held = task.samples("train"), task.samples("validation")
    assert (np.bincount(train.labels).tolist(), np.bincount(held.labels).tolist()) == ([4] * 3, [3] * 3)
    assert not set(names(train)) & set(names(held))
    whole = Task(folder, validation=0.3).samples("train")
    assert sorted(names(whole) + names(held)) == sorted(names(Task(folder).samples("train")))
    with pytest.raises(ValueError, match=r"^labels_per_class must be at most 7, the images of class 'c0', got 8"):
        Task(folder, validation=0.3, labels_per_class=8).samples("train")


def test_a_task_is_a_value(folder):
    task = gr.tasks.Task(folder, labels_per_class=2, seed=2**64 - 1)
    assert Task.from_json(task.to_json()) == task
    assert json.loads(task.to_json())["kind"] == "folder"
    for text, said in [
        ("[]", "must be a JSON object"), ("{", "must be a JSON object"), ("{}", "must have an entry 'data'"),
        ('{"data": "x", "label_per_class": 3}', "no entry 'label_per_class'; did you mean 'labels_per_class'"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=said):
            Task.from_json(text)
    for wrong in ({"labels_per_class": 0}, {"validation": 1.0}, {"seed": -1}, {"kind": "csv"}):
        with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} must be"):
            Task(folder, **wrong)


def idx(array, path):
    path.write_bytes(b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def test_idx_files_are_read_packed_or_not(tmp_path):
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (9, 5, 4)).astype(np.uint8), np.arange(9, dtype=np.uint8) % 3
    for part in ("train", "t10k"):
        idx(images, tmp_path / f"{part}-images-idx3-ubyte")
        idx(labels, tmp_path / f"{part}-labels-idx1-ubyte")
    packed = tmp_path / "t10k-images-idx3-ubyte"
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    task = Task(tmp_path)
    assert task.kind == "idx"
    for part in ("train", "test"):
        samples = task.samples(part)
        assert samples.labels.tolist() == labels.tolist()
        assert np.array_equal(np.asarray(samples[4][0]), np.stack([images[4]] * 3, -1))
    whole = (tmp_path / "train-images-idx3-ubyte").read_bytes()
    for broken in (whole[:-1], whole + b"\0", b"\x89PNG" + whole, whole[:6]):
        (tmp_path / "train-images-idx3-ubyte").write_bytes(broken)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is "):
            task.samples("train")


def test_npz_files_are_read(tmp_path):
    x, y = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2, None])
    task = Task(tmp_path / "a.npz", labels_per_class=2)
    assert (task.kind, len(task.samples("train")), len(task.samples("test"))) == ("npz", 4, 2)
    assert np.array_equal(np.asarray(task.samples("test")[1][0]), x[1])
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y)
    with pytest.raises(ValueError, match="no x_test"):
        Task(tmp_path / "b.npz").samples("test")
    np.savez(tmp_path / "c.npz", x_train=x.astype(np.float32), y_train=y)
    with pytest.raises(ValueError, match=r"must be uint8 .* got float32 \[6, 8, 8, 3\]"):
        Task(tmp_path / "c.npz").samples("train")
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y * 0)
    with pytest.raises(ValueError, match="two or more classes, got 1"):
        Task(tmp_path / "d.npz").samples("train")


def test_wrong_folders_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"^data must be a folder with train/ and val/, and there is no folder"):
        Task(tmp_path / "none").samples("train")
    with pytest.raises(ValueError, match="has no folder 'train'"):
        Task(tmp_path).samples("train")
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train/a has no image"):
        Task(tmp_path).samples("train")
    Image.new("L", (4, 4)).save(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(ValueError, match="two or more classes, got 1"):
        Task(tmp_path).samples("train")
    (tmp_path / "train" / "b").mkdir()
    (tmp_path / "train" / "b" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    with pytest.raises(ValueError, match=r"b/1\.png cannot be read as an image"):
        Task(tmp_path).samples("train")[1]
    (tmp_path / "val" / "a").mkdir(parents=True)
    (tmp_path / "val" / "c").mkdir()
    for name in "ac":
        Image.new("L", (4, 4)).save(tmp_path / "val" / name / "1.png")
    with pytest.raises(ValueError, match="same classes for training and test; 'b' differs"):
        Task(tmp_path).samples("test")


def test_an_image_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_PIXELS", 99)
    Image.new("1", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has 10 x 10 pixels"):
        sources.open_image(tmp_path / "a.png")


def test_scores():
    assert normalised(0.1, 10) == 0.0
    assert normalised(1.0, 4) == 1.0
    found = summary([0.5, 0.7, 0.6], 2)
    assert (round(found.mean, 9), round(found.sd, 9), round(found.normalised, 9), found.seeds) == (0.6, 0.1, 0.2, 3)
    assert summary([0.5], 2).sd == 0.0
    assert str(found) == "60.0 ± 10.0 % (3 seeds, normalised 0.200)"
    with pytest.raises(ValueError, match="at least one number"):
        summary([], 2)
