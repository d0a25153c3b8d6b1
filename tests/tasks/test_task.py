"""Tasks: which images, which labels, which of them held out; every kind of source."""

import dataclasses
import gzip
import hashlib
import json
import struct
import sys

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.tasks import Task, normalised, sources, summary, task
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


def test_the_largest_image_is_taken(tmp_path, monkeypatch):
    assert sources.MAX_PIXELS == 100_000_000
    Image.new("1", (10, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(sources, "MAX_PIXELS", 100)
    assert sources.open_image(tmp_path / "a.png").mode == "RGB"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit
    with pytest.raises(ValueError, match=r"^.*a\.png cannot be read as an image: Image size \(100 pixels\) exceeds"):
        sources.open_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^.*none\.png cannot be read as an image: "):
        sources.open_image(tmp_path / "none.png")

    def broken(path):
        raise SyntaxError("broken PNG file")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ValueError, match=r"^.*a\.png cannot be read as an image: broken PNG file"):
        sources.open_image(tmp_path / "a.png")


def test_which_files_of_a_folder_are_images(tmp_path):
    """In folders of a class, at any depth and in capitals; neither hidden folders nor folders that look like images."""
    for name in ("b/2.PNG", "b/x/1.jpg", "a/1.png"):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "train" / "b" / "y.png").mkdir()
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "b" / "notes.txt").write_text("")
    (tmp_path / "train" / "c.png").write_text("")
    found = Task(tmp_path).samples("train")
    assert found.classes == ("a", "b")
    assert names(found) == ["a/1.png", "b/2.PNG", "b/x/1.jpg"]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.labels.dtype == np.int64


@pytest.mark.parametrize("there", [["val", "test", "validation"], ["test", "validation"], ["validation"]])
def test_test_images_are_in_the_first_folder_of_three_names(tmp_path, there):
    for part in ("train", *there):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (4, 4), {"train": 0, there[0]: 7}.get(part, 9)).save(tmp_path / part / name / "1.png")
    assert Task(tmp_path).samples("test")[0][0].getpixel((0, 0)) == (7, 7, 7)
    assert Task(tmp_path).samples("train")[0][0].getpixel((0, 0)) == (0, 0, 0)


def test_a_source_is_known_by_its_looks(tmp_path):
    (tmp_path / "a:b").mkdir()
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images.idx3-ubyte.gz").write_text("")
    for source, kind in {
        "x.npz": "npz", "CIFAR10:/data": "torchvision", f"{tmp_path}/a:b": "folder", f"{tmp_path}/mnist": "idx",
        str(tmp_path): "folder", "none": "folder",
    }.items():  # fmt: skip
        assert sources.kind_of(source) == kind
    with pytest.raises(ValueError, match=r"mnist has no train-images-idx3-ubyte and -labels-idx1-ubyte \(or \.gz\)$"):
        Task(tmp_path / "mnist").samples("train")
    with pytest.raises(ValueError, match="has no t10k-images-idx3-ubyte"):
        sources.read(str(tmp_path / "mnist"), "idx", "test")


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_files_have_six_types(tmp_path, code, dtype):
    values = np.array([[1, 2, 3], [-4, 5, 6]]).astype(dtype)
    path = tmp_path / "x"
    header = b"\0\0" + bytes([code, 2]) + struct.pack(">2I", 2, 3)
    path.write_bytes(header + values.tobytes())
    found = sources.read_idx(path)
    assert (found.tolist(), found.dtype) == (values.tolist(), np.dtype(dtype))
    path.write_bytes(b"\0\0" + bytes([code, 2]) + struct.pack(">2I", 0, 3))
    assert sources.read_idx(path).shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\x08", "is no IDX file"), (b"\0\1\x08\1\0\0\0\0", "is no IDX file"),
        (b"\0\0\x0a\1\0\0\0\0", "is no IDX file"), (b"\0\0\x08\0", "is cut off or too long for its header"),
        (b"\0\0\x08\1\0\0\0", "is cut off"), (b"\0\0\x08\1\0\0\0\1", "is cut off"),
    ],
)  # fmt: skip
def test_wrong_idx_files_are_named(tmp_path, data, said):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/x {said}"):
        sources.read_idx(tmp_path / "x")


def spoiled(data):
    """Packed bytes of which some in the middle are others."""
    return data[:30] + bytes(byte ^ 0xFF for byte in data[30:50]) + data[50:]


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: b"text", spoiled, lambda data: None])
def test_damaged_files_are_named(tmp_path, spoil):
    """Cut off, of another kind, spoiled, missing."""
    values = np.random.default_rng(3).integers(0, 256, (9, 8, 8)).astype(np.uint8)
    idx(values, tmp_path / "x")
    np.savez_compressed(tmp_path / "x.npz", x_train=values, y_train=np.arange(9))
    for name, data in (
        ("y.gz", gzip.compress((tmp_path / "x").read_bytes())), ("y.npz", (tmp_path / "x.npz").read_bytes()),
    ):  # fmt: skip
        path, changed = tmp_path / name, spoil(data)
        if changed is not None:
            path.write_bytes(changed)
        with pytest.raises(ValueError, match=rf"{name} cannot be read: "):
            sources.read_idx(path) if name == "y.gz" else sources.read(str(path), "npz", "train")


def test_an_array_alone_is_no_task_and_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    x = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "b.npz", x_train=x, y_train=np.array([0, None]))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read: "):
            Task(tmp_path / name).samples("train")
    np.savez(tmp_path / "c.npz", x_train=x)
    with pytest.raises(ValueError, match=r"c\.npz must hold x_train, y_train, x_test and y_test; no y_train$"):
        Task(tmp_path / "c.npz").samples("train")


IMAGES = np.arange(4 * 2 * 2).astype(np.uint8).reshape(4, 2, 2)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (IMAGES, [0, 1, 2, 1], None),
        (IMAGES[..., None], np.array([[0], [1], [2], [1]]), None),
        (np.stack([IMAGES] * 3, -1), np.array([0, 1, 2, 1], np.uint8), None),
        (np.stack([IMAGES] * 2, -1), [0, 1, 2, 1], r"images of s must be uint8 .* got uint8 \[4, 2, 2, 2\]"),
        (IMAGES[0], [0, 1], "images of s must be uint8"),
        (IMAGES[..., None, None], [0, 1, 2, 1], "images of s must be uint8"),
        (IMAGES.astype(np.int16), [0, 1, 2, 1], "images of s must be uint8"),
        (IMAGES, [0.0, 1.0, 2.0, 1.0], r"labels of s must be integers .* got float64 \[4\]"),
        (IMAGES, [0, 1, 2], "labels of s must be integers"),
        (IMAGES, [0, -1, 2, 1], "labels of s must be integers"),
        (IMAGES, [[0, 1], [1, 0], [1, 1], [0, 0]], "labels of s must be integers"),
        (IMAGES[:0], np.zeros(0, np.int64), "labels of s must be integers"),
        (IMAGES, [0, 0, 0, 0], "s must have two or more classes, got 1"),
    ],
)
def test_arrays_are_grey_or_in_colour_with_a_label_each(images, labels, said):
    if said is not None:
        with pytest.raises(ValueError, match=f"^data: {said}"):
            sources._arrays("s", images, np.array(labels))
        return
    found = sources._arrays("s", images, np.array(labels))
    assert (found.names, found.classes, found.labels.tolist()) == (["0", "1", "2", "3"], ("0", "1", "2"), [0, 1, 2, 1])
    assert found.labels.dtype == np.int64
    for i in range(4):
        assert np.array_equal(np.asarray(found.image(i)), np.stack([IMAGES[i]] * 3, -1))


class Shown:
    """A dataset of torchvision with three images."""

    def __init__(self, root, train):
        self.root, self.train, self.targets = root, train, [0, 2, 1]

    def __getitem__(self, index):
        return Image.new("L", (2, 2), index + 10 * self.train), "unused"


class Split(Shown):
    def __init__(self, root, split):
        super().__init__(root, split == "train")
        self.labels, self.classes = [1, 0, 1], ["cat", "dog"]
        del self.targets


class Missing(Shown):
    def __init__(self, root, train):
        raise RuntimeError("Dataset not found.\n You can download it")


def test_torchvision_s_datasets_are_read(monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets", reason="needs torchvision, of the extra 'train'")
    for name, stand_in in {"CIFAR10": Shown, "SVHN": Split, "MNIST": Missing}.items():
        monkeypatch.setattr(datasets, name, stand_in)
    for part, level in (("train", 10), ("test", 0)):
        found = sources.read("CIFAR10:/da:ta", "torchvision", part)
        assert (found.names, found.labels.tolist(), found.classes) == (["0", "1", "2"], [0, 2, 1], ("0", "1", "2"))
        image = found.image(2)
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (2 + level,) * 3)
        assert found.image.__closure__[0].cell_contents.root == "/da:ta"
        found = sources.read("SVHN:x", "torchvision", part)
        assert (found.labels.tolist(), found.labels.dtype, found.classes) == ([1, 0, 1], np.int64, ("cat", "dog"))
        assert found.image(0).getpixel((0, 0)) == (level,) * 3
    with pytest.raises(ValueError, match=r"^data: MNIST in 'x': Dataset not found\. You can download it$"):
        sources.read("MNIST:x", "torchvision", "train")
    with pytest.raises(
        ValueError, match=r"^data must name a dataset of torchvision, got 'CIFAR11'; did you mean 'CIFAR10"
    ):
        sources.read("CIFAR11:x", "torchvision", "train")
    with pytest.raises(ValueError, match=r"^data must name a dataset of torchvision, got 'vision'"):
        sources.read("vision:x", "torchvision", "train")
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(RuntimeError, match=r"^data='MNIST:x' needs torchvision: pip install 'gpurender\[train\]' \("):
        sources.read("MNIST:x", "torchvision", "train")


def test_a_name_s_number_is_that_at_the_address_of_its_hash():
    """The first 64 bits of its SHA-256, the lowest byte first; a name of any bytes has one."""
    given = ["a/1.png", "ä\udcff"]
    found = task._keys(7, given)
    for name, key in zip(given, found.tolist(), strict=True):
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        address = sum(byte << 8 * place for place, byte in enumerate(digest[:8]))
        drawn = words(7, Stream.TASK, np.array([address], np.uint64))[0]
        assert key == int(drawn[0]) * 2**32 + int(drawn[1])


def test_labels_are_those_of_the_smallest_numbers(folder):
    """Of each class: first what is held out, a share of it rounded, and then the budget."""
    whole = Task(folder).samples("train")
    keys = dict(zip(names(whole), task._keys(3, names(whole)).tolist(), strict=True))
    parts = {part: names(Task(folder, validation=0.25, labels_per_class=4, seed=3).samples(part))
             for part in ("train", "validation")}  # fmt: skip
    for name in ("c0", "c1", "c2"):
        own = sorted((x for x in names(whole) if x.startswith(name)), key=keys.__getitem__)
        assert [x for x in parts["validation"] if x.startswith(name)] == sorted(own[:2])  # of 10 x 0.25
        assert [x for x in parts["train"] if x.startswith(name)] == sorted(own[2:6])
    with pytest.raises(ValueError, match=r"^part must be one of 'train', 'validation', 'test', got 'val'"):
        Task(folder).samples("val")
    assert len(Task(folder, labels_per_class=10).samples("train")) == 30


def test_numbers_of_a_task_have_bounds(folder):
    for name, low, high, step in (
        ("labels_per_class", 1, 2**31 - 1, 1), ("validation", 0.0, 0.9, 0.01), ("seed", 0, 2**64 - 1, 1),
    ):  # fmt: skip
        for right, wrong in ((low, low - step), (high, high + step)):
            assert getattr(Task(folder, **{name: right}), name) == right
            with pytest.raises(ValueError, match=rf"^{name} must be .*got "):
                Task(folder, **{name: wrong})
    with pytest.raises(TypeError, match=r"^data must be a path or 'NAME:ROOT', got 3$"):
        Task(3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'label'"):
        Task(folder, label=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task(folder).seed = 1
    assert Task(folder).data == str(folder)
    assert Task(folder, kind="npz").kind == "npz"
    with pytest.raises(ValueError, match=r"^a task must be a JSON object: maximum recursion"):
        Task.from_json("[" * 100_000)


def test_scores():
    assert normalised(0.25, 4) == 0.0
    for accuracy in (-0.01, 1.01):
        with pytest.raises(ValueError, match=r"^accuracy must be a finite number in \[0, 1\], got "):
            normalised(accuracy, 4)
        with pytest.raises(ValueError, match=r"^accuracies\[1\] must be a finite number in \[0, 1\], got "):
            summary([0.5, accuracy], 4)
    assert normalised(0.0, 2) == -1.0
    assert normalised(1.0, 2**31 - 1) == 1.0
    for classes in (1, 2**31):
        with pytest.raises(ValueError, match=r"^classes must be an integer in \[2, 2147483647\], got "):
            normalised(0.5, classes)
    two = summary([0.5, 0.7], 2)
    assert two.sd == pytest.approx(0.02**0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        two.sd = 0.0
    assert normalised(0.1, 10) == 0.0
    assert normalised(1.0, 4) == 1.0
    found = summary([0.5, 0.7, 0.6], 2)
    assert (round(found.mean, 9), round(found.sd, 9), round(found.normalised, 9), found.seeds) == (0.6, 0.1, 0.2, 3)
    assert summary([0.5], 2).sd == 0.0
    assert str(found) == "60.0 ± 10.0 % (3 seeds, normalised 0.200)"
    with pytest.raises(ValueError, match="at least one number"):
        summary([], 2)


def test_images_of_16_bits_keep_their_levels(tmp_path):
    levels = np.array([[0, 255], [256, 65_535]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
        found = sources.open_image(tmp_path / f"a.{suffix}")
        assert found.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found)[..., 0], [[0, 0], [1, 255]])
