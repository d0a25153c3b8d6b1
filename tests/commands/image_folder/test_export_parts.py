"""Exports of parts of a dataset: classes, numbers per class, shards at once in one folder, read back by torchvision."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.image_folder.shards import Shard
from gpurender.util import folder_lock
from gpurender.util.atomic_files import TEMPORARY
from tests.golden import TRIANGLE

TINY = gr.FractalDB(categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6])  # 24 images
COLOUR = gr.OnePFrac(
    classes=3, instances=4, base=TRIANGLE, points=300, image_size=24, variant="paper", draw_type="patch_color"
)
LAUNCHERS = ("SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "RANK", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    return str(path)


def names(folder):
    """Files of images below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png"))


def hidden(folder):
    return [path.name for path in Path(folder).rglob(".*")]


def read_back(folder, **options):
    datasets = pytest.importorskip("torchvision.datasets", reason="needs torchvision")
    return datasets.ImageFolder(str(folder), **options)


# ---------------------------------------------------------------------------------------------------------- selections


@pytest.mark.parametrize("recipe", [TINY, COLOUR], ids=["grey", "colour"])
def test_shards_read_back_have_the_pixels_and_labels_of_the_dataset(tmp_path, recipe):
    for index in range(5):
        gr.export(recipe, tmp_path / "out", shard=(index, 5))
    found, dataset = read_back(tmp_path / "out"), gr.Dataset(recipe)
    assert found.classes == dataset.classes
    assert len(found) == len(dataset) > 5
    for (image, label), (expected, number) in zip(found, dataset, strict=True):
        assert label == number
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_some_of_every_class(tmp_path, recipe_file, capsys):
    assert cli.main(["export", recipe_file, str(tmp_path / "out"), "--per-class", "2"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 6 images written, 0 there before\n"
    assert names(tmp_path / "out") == [f"0000{c}/0000{c}_000{i}.png" for c in range(3) for i in range(2)]
    found, dataset = read_back(tmp_path / "out"), gr.Dataset(TINY)
    assert found.targets == [0, 0, 1, 1, 2, 2]
    for (image, _), sample in zip(found, (0, 1, 8, 9, 16, 17), strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(dataset[sample][0]))


def test_some_classes(tmp_path, recipe_file):
    out = tmp_path / "out"
    assert cli.main(["export", recipe_file, str(out), "--classes", "1-2", "--per-class", "1"]) == 0
    assert names(out) == ["00001/00001_0000.png", "00002/00002_0000.png"]
    assert sorted(path.name for path in out.iterdir()) == ["00001", "00002", "recipe.json"]
    assert gr.export(TINY, out, classes=[0, 2], per_class=2, limit=3) == (
        2,
        1,
    )  # 0: both; 2: the first, which was there
    assert names(out) == [f"0000{c}/0000{c}_000{i}.png" for c, i in ((0, 0), (0, 1), (1, 0), (2, 0))]
    assert gr.export(TINY, out) == (20, 4)


def test_every_shard_makes_the_folders_of_all_selected_classes(tmp_path):
    recipe = gr.FractalDB(
        classes=6, instances=6, points=50, image_size=16, class_prior=[5, 0, 1, 0, 1, 1], fill_rate=0.2
    )
    assert gr.export(recipe, tmp_path / "out", classes="0-3", shard="0/4") == (1, 0)
    assert sorted(os.listdir(tmp_path / "out")) == ["00000", "00001", "00002", "00003", "recipe.json"]
    assert read_back(tmp_path / "out", allow_empty=True).classes == ["00000", "00001", "00002", "00003"]


def test_labels_outside_the_selected_classes_have_folders(tmp_path):
    recipe = gr.FractalDB(classes=6, instances=8, points=50, image_size=16, label_noise=0.5, fill_rate=0.2)
    labels = gr.Renderer(recipe).labels(np.arange(8, 24)).tolist()
    assert {0, 3, 4, 5} & set(labels)  # or it would show nothing
    assert gr.export(recipe, tmp_path / "out", classes="1-2") == (16, 0)
    folders = {int(name) for name in os.listdir(tmp_path / "out") if name != "recipe.json"}
    assert folders == {1, 2, *labels}
    by_name = {Path(name).name: int(Path(name).parent.name) for name in names(tmp_path / "out")}
    assert [by_name[f"{n // 8:05d}_{n % 8:04d}.png"] for n in range(8, 24)] == labels


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--per-class", "0"], "per_class must be an integer in [1, "),
        (["--classes", "0-3"], "classes must be numbers and ranges in [0, 2] such as 0-9,42, got '0-3'"),
        (["--classes", "2-1"], "got '2-1'"),
        (["--shard", "2/2"], "shard must be I/N with 0 <= I < N <= 1000000, such as 0/8, got '2/2'"),
        (["--repair"], "--repair must be given together with --verify"),
        (["--verify"], "must hold an export to verify; it has no recipe.json"),
    ],
)
def test_wrong_input_is_refused_in_a_line_and_makes_nothing(tmp_path, recipe_file, capsys, options, text):
    assert cli.main(["export", recipe_file, str(tmp_path / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert not (tmp_path / "out").exists()


def test_a_shard_of_another_recipe_is_refused(tmp_path):
    gr.export(TINY, tmp_path / "out", shard="0/2")
    with pytest.raises(ValueError, match="holds another recipe"):
        gr.export(COLOUR, tmp_path / "out", shard="1/2")
    assert hidden(tmp_path / "out") == []


# -------------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize(("rank", "size"), [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
def test_shards_of_the_environment_are_disjoint_and_complete(tmp_path, monkeypatch, recipe_file, capsys, rank, size):
    seen = []
    monkeypatch.setenv(size, "5")
    for index in range(5):
        monkeypatch.setenv(rank, str(index))
        out = tmp_path / f"out{index}"
        assert cli.main(["export", recipe_file, str(out), "--per-class", "4"]) == 0
        assert capsys.readouterr().err == (
            f"gpurender: shard {index}/5 of the export, from {rank} (--shard 0/1 is everything)\n"
        )
        seen += names(out)
    assert sorted(seen) == [f"0000{c}/0000{c}_000{i}.png" for c in range(3) for i in range(4)]
    assert cli.main(["export", recipe_file, str(tmp_path / "all"), "--shard", "0/1"]) == 0
    assert capsys.readouterr().err == ""
    assert len(names(tmp_path / "all")) == 24
    assert gr.export(TINY, tmp_path / "python") == (24, 0)  # rank 0 of a script may export everything


def test_shards_write_one_folder_at_once(tmp_path, recipe_file, root):
    """Started together: neither the manifest nor what one of them writes is taken for something foreign."""
    gr.Renderer(TINY)(0)  # compiled
    out = tmp_path / "out"
    array = {"PYTHONPATH": str(root), "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "gpurender", "export", recipe_file, str(out)],
            env={**os.environ, **array, "SLURM_ARRAY_TASK_ID": str(task)}, stdout=subprocess.PIPE, text=True,
        )
        for task in range(1, 5)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert said == [f"{out}: 6 images written, 0 there before\n"] * 4
    assert len(names(out)) == 24
    assert hidden(out) == []


def test_the_same_shard_twice_and_everything_besides_a_shard_are_refused(tmp_path):
    out = tmp_path / "out"
    gr.export(TINY, out, limit=1)
    with folder_lock.turn(out):
        held = folder_lock.shared(out, "")
        held.__enter__()
    with folder_lock.alone(out, "", f"{folder_lock.LOCK}-shard-1-of-2"):  # as shard 1/2 holds them
        with pytest.raises(RuntimeError, match=r"another export writes shard 1/2 in '.*out' \(process \d+ on "):
            gr.export(TINY, out, shard="1/2")
        with pytest.raises(RuntimeError, match=r"another export writes '.*out' \(process \d+ on "):
            gr.export(TINY, out)
        assert gr.export(TINY, out, shard="0/2") == (11, 1)
    held.__exit__(None, None, None)
    with folder_lock.alone(out, ""), pytest.raises(RuntimeError, match="another export writes '"):
        gr.export(TINY, out, shard="1/2")
    assert gr.export(TINY, out, shard="1/2") == (12, 0)
    assert hidden(out) == []


def test_a_shard_leaves_alone_what_another_is_writing(tmp_path):
    """The last one clears what killed ones have left."""
    out = tmp_path / "out"
    gr.export(TINY, out, limit=1)
    with folder_lock.turn(out):
        held = folder_lock.shared(out, "")
        held.__enter__()
    busy = out / "00000" / f"{TEMPORARY}busy"
    busy.write_bytes(b"half")
    assert gr.export(TINY, out, shard="0/2") == (11, 1)
    assert busy.exists()
    held.__exit__(None, None, None)
    (out / f"{folder_lock.LOCK}-shard-7-of-9").write_text("of a process that was killed")
    assert gr.export(TINY, out, shard="1/2") == (12, 0)
    assert hidden(out) == []


def test_killed_shards_go_on(tmp_path, root):
    """SIGKILL of two shards at work in one folder: whatever is there is whole, and the same commands complete it."""
    recipe = gr.FractalDB(categories=[TRIANGLE] * 6, points=20_000, image_size=256, weights=[[1] * 6])
    path, out = tmp_path / "r.json", tmp_path / "out"
    path.write_text(recipe.to_json())
    gr.export(recipe, out, limit=1)  # compiled
    rng = np.random.default_rng(0)

    def begin(index):
        words = [sys.executable, "-m", "gpurender", "export", str(path), str(out), "--shard", f"{index}/2"]
        return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL)

    def written(index):
        first, end = Shard(index, 2).part(len(recipe))
        numbers = (int(name[6:11]) * recipe.instances + int(name[12:16]) for name in names(out))
        return sum(first <= number < end for number in numbers)

    processes = [begin(index) for index in range(2)]
    try:
        while any(written(i) < 2 and processes[i].poll() is None for i in range(2)):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2
    before = names(out)
    assert 4 <= len(before) < len(recipe)
    for name in before:
        with Image.open(out / name) as image:
            image.load()
    processes = [begin(index) for index in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert len(names(out)) == len(recipe)
    assert hidden(out) == []
    dataset = gr.Dataset(recipe)
    for (image, label), sample in zip(read_back(out), range(len(recipe)), strict=True):
        assert label == dataset[sample][1]
        assert np.array_equal(np.asarray(image), np.asarray(dataset[sample][0]))


def test_a_full_disk_says_how_far_the_shard_is(tmp_path, monkeypatch, recipe_file, capsys):
    real, room = Image.Image.save, ["an image"] * 3

    def full(self, path, *arguments, **options):
        try:
            room.pop()
        except IndexError:
            raise OSError(28, os.strerror(28)) from None
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    assert cli.main(["export", recipe_file, str(tmp_path / "out"), "--shard", "1/2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device; 3 of 12 images are there; the same command goes on from them" in line
    assert hidden(tmp_path / "out") == []
