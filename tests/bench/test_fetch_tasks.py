"""Real images from packages: bench/fetch_tasks on small packages made here."""

import hashlib
import io
import json
import subprocess
import tarfile

import numpy as np
import pytest
from PIL import Image

from bench import fetch_tasks
from gpurender.tasks import Task


def png(color, size=8):
    """Return the bytes of an image: a half of it is transparent."""
    image = Image.new("RGBA", (size, size), color)
    image.paste((0, 0, 0, 0), (0, 0, size, size // 2))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def tar(files, mode="w:gz"):
    """Return the bytes of a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def debian(tmp_path, files):
    """Return the bytes of a Debian package, archived by binutils' ar."""
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar(files, "w:xz")}
    for name, data in members.items():
        (tmp_path / name).write_bytes(data)
    subprocess.run(["ar", "rc", "some.deb", *members], cwd=tmp_path, check=True)
    return (tmp_path / "some.deb").read_bytes()


def offer(monkeypatch, keep, name, data):
    """Put a package into the folder of downloads under the name of one of the module's."""
    package = getattr(fetch_tasks, name)
    keep.mkdir(parents=True, exist_ok=True)
    (keep / package.url.rpartition("/")[2]).write_bytes(data)
    monkeypatch.setattr(fetch_tasks, name, fetch_tasks.Package(package.url, hashlib.sha256(data).hexdigest()))


def test_a_package_of_another_digest_is_refused_and_removed(tmp_path):
    package = fetch_tasks.Package("https://example.org/some.tgz", "0" * 64)
    (tmp_path / "some.tgz").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"example\.org/some\.tgz must have the SHA-256 0+, got"):
        fetch_tasks.download(package, tmp_path)
    assert not (tmp_path / "some.tgz").exists()


def test_files_of_a_debian_package(tmp_path):
    files = {"./usr/share/a": b"first", "./usr/share/b": b"second"}
    assert dict(fetch_tasks.debian_files(debian(tmp_path, files))) == files
    with pytest.raises(ValueError, match="a Debian package must be"):
        list(fetch_tasks.debian_files(b"no archive"))


def test_emoji_lie_on_white_and_train_on_another_hand(tmp_path, monkeypatch):
    groups = ["Flags", "Animals & Nature", "Component"]
    entries = [
        {"category": group, "image": f"{i}.png", "has_img_google": True, "has_img_twitter": i != 3}
        for i, group in enumerate(groups * 2)
    ]
    for name, hand, color in (("NOTO", "google", "red"), ("TWEMOJI", "twitter", "blue")):
        files = {f"package/img/{hand}/64/{entry['image']}": png(color) for entry in entries}
        data = tar({"package/emoji.json": json.dumps(entries).encode(), **files})
        offer(monkeypatch, tmp_path / "downloads", name, data)
    task = Task(fetch_tasks.fetch("emoji", tmp_path))
    train, test = task.samples("train"), task.samples("test")
    assert train.classes == ("animals-nature", "flags")
    assert (len(train), len(test)) == (4, 3)
    pixels = np.asarray(test[0][0])
    assert (pixels[:4] == 255).all()
    assert (pixels[4:] == (0, 0, 255)).all()
    assert "Apache" in (tmp_path / "emoji.txt").read_text()


def test_subgroups_of_emoji_are_classes_if_they_are_large_enough(tmp_path, monkeypatch):
    sizes = {"food-fruit": 13, "drink": 12, "dishware": 11}
    entries = [
        {"category": "Food & Drink", "subcategory": subgroup, "image": f"{subgroup}{i}.png"}
        for subgroup, size in sizes.items()
        for i in range(size)
    ] + [{"category": "Symbols", "subcategory": "arrow", "image": f"{i}.png"} for i in range(20)]
    entries = [entry | {"has_img_google": True, "has_img_twitter": True} for entry in entries]
    for name, hand, color in (("NOTO", "google", "red"), ("TWEMOJI", "twitter", "blue")):
        files = {f"package/img/{hand}/64/{entry['image']}": png(color) for entry in entries}
        data = tar({"package/emoji.json": json.dumps(entries).encode(), **files})
        offer(monkeypatch, tmp_path / "downloads", name, data)
    task = Task(fetch_tasks.fetch("emoji-food", tmp_path))
    assert task.samples("train").classes == ("drink", "food-fruit")
    assert (len(task.samples("train")), len(task.samples("test"))) == (25, 25)
    assert not (tmp_path / "emoji").exists()


def test_stamps_are_photographs_without_cartoons(tmp_path, monkeypatch):
    root = "./usr/share/tuxpaint/stamps"
    names = [f"{group}/{place}{i}.png" for group in fetch_tasks.STAMP_GROUPS for place in ("", "of/") for i in range(2)]
    files = {f"{root}/{name}": png("green") for name in [*names, "food/cartoon/x.png", "symbols/y.png"]}
    data = debian(tmp_path, {**files, f"{root}/food/0.ogg": b"sound"})
    offer(monkeypatch, tmp_path / "downloads", "STAMPS", data)
    folder = fetch_tasks.fetch("stamps", tmp_path)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len(found) == len(names)
    assert [name for name in found if "/food/" in name] == [
        "train/food/0.png", "train/food/of-0.png", "val/food/1.png", "val/food/of-1.png",
    ]  # fmt: skip


def test_the_first_of_each_class_are_for_training(tmp_path):
    images = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 0])
    fetch_tasks.save(tmp_path / "some.npz", images, labels, 3)
    with np.load(tmp_path / "some.npz") as file:
        assert file["x_train"][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert file["y_test"].tolist() == [0, 1, 1, 1, 1, 0]


def test_a_set_is_made_once(tmp_path, monkeypatch):
    made = []
    source = fetch_tasks.Source(lambda folder, keep: made.append(folder), "some", "About")
    monkeypatch.setitem(fetch_tasks.SETS, "some", source)
    assert fetch_tasks.fetch("some", tmp_path) == fetch_tasks.fetch("some", tmp_path) == tmp_path / "some"
    assert made == [tmp_path]


def test_a_name_that_is_unknown(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fetch_tasks", "folder", "fashoin"])
    with pytest.raises(SystemExit):
        fetch_tasks.main()
    assert f"NAME must be one of {', '.join(fetch_tasks.SETS)}, got 'fashoin'" in capsys.readouterr().err
