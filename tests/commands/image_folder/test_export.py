"""Exports: one process at a time, what is left behind and what is kept, names, modes, and folders for all classes."""

import errno
import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.image_folder import claims, export, layout, verify
from gpurender.commands.image_folder.selection import Selection
from gpurender.recipes.labels import class_counts
from gpurender.util import atomic_files, folder_lock
from tests.golden import TRIANGLE
from tests.support.messages import said

TINY = gr.FractalDB(categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6])  # 24 images


def pictures(folder):
    return sorted(path for path in Path(folder).rglob("*.png"))


def unfinished(folder):
    return [
        path for path in Path(folder).rglob("*") if path.name.startswith((atomic_files.TEMPORARY, folder_lock.LOCK))
    ]


def usual_mode(folder):
    """The mode that a new file of this process gets."""
    path = folder / "usual"
    path.touch()
    try:
        return path.stat().st_mode
    finally:
        path.unlink()


# ----------------------------------------------------------------------------------------------------- one at a time


def test_only_one_at_a_time_has_the_lock(tmp_path):
    """Eight threads in turn: each holder removes the file, which is when a lock of another file could be taken."""
    inside, most, refused = [], [], []

    def work():
        for _ in range(30):
            try:
                with folder_lock.alone(tmp_path, "another works in") as locked:
                    assert locked
                    inside.append(1)
                    time.sleep(0.002)  # the others try meanwhile
                    most.append(len(inside))
                    inside.pop()
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(most) + len(refused) == 8 * 30  # nothing else was raised
    assert set(most) == {1}
    assert {text[: text.index(":")].split(" (")[0] for text in refused} <= {f"another works in {str(tmp_path)!r}"}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("another", [False, True])
def test_a_lock_whose_file_is_gone_is_none(tmp_path, monkeypatch, another):
    """Its holder ended, and removed it, after we opened it; perhaps another process has made and locked the next."""
    path, real, held = tmp_path / folder_lock.LOCK, folder_lock._opened, []

    def late(name):
        handle = real(name)
        if not held:
            os.unlink(name)
            held.append(os.open(tmp_path / folder_lock.LOCK, os.O_RDWR | os.O_CREAT) if another else -1)
            if another:
                fcntl.flock(held[0], fcntl.LOCK_EX)
        return handle

    monkeypatch.setattr(folder_lock, "_opened", late)
    if another:
        with pytest.raises(RuntimeError, match="another works in"), folder_lock.alone(tmp_path, "another works in"):
            pass
        os.close(held[0])
        return
    with folder_lock.alone(tmp_path, "") as locked:
        assert locked
        assert path.exists()
        with pytest.raises(RuntimeError, match=f"process {os.getpid()} on "), folder_lock.alone(tmp_path, ""):
            pass
        assert path.exists()
    assert not path.exists()


def test_a_second_export_is_refused_in_a_sentence(tmp_path, capsys):
    out, recipe = tmp_path / "out", tmp_path / "r.json"
    recipe.write_text(TINY.to_json())
    out.mkdir()
    with folder_lock.alone(out, ""):
        busy = out / f"{atomic_files.TEMPORARY}busy"
        busy.write_bytes(b"half of what the first one writes")
        assert cli.main(["export", str(recipe), str(out)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"another export writes {str(out)!r} (process {os.getpid()} on " in line
        assert "wait until it has ended, or choose another directory" in line
        assert pictures(out) == []
        assert busy.exists()
    assert cli.main(["export", str(recipe), str(out)]) == 0
    assert len(pictures(out)) == 24
    assert unfinished(out) == []


def test_exports_that_start_at_once_all_run_or_are_refused(tmp_path):
    gr.Renderer(TINY)(0)  # compiled
    out, begin, ends, refused = tmp_path / "out", threading.Barrier(6), [], []

    def work():
        begin.wait()
        try:
            ends.append(export.export(TINY, out))
        except RuntimeError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(ends) + len(refused) == 6
    assert all("another export writes" in text for text in refused)
    assert sum(written for written, _ in ends) == 24  # each image was drawn once
    assert len(pictures(out)) == 24
    assert unfinished(out) == []


def test_a_killed_export_s_lock_is_free_and_its_leftovers_are_cleared(tmp_path, root):
    out = tmp_path / "out"
    export.export(TINY, out, limit=1)
    code = f"""
import os, signal
from gpurender.util.folder_lock import alone
with alone({str(out)!r}, ""):
    open(os.path.join({str(out)!r}, "00000", {atomic_files.TEMPORARY!r} + "half"), "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(unfinished(out)) == 2  # the lock's file and the half one
    assert export.export(TINY, out) == (23, 1)
    assert unfinished(out) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_only_old_leftovers_are_cleared(tmp_path, monkeypatch, number, caplog):
    """And it is said that two exports may meet."""
    out = tmp_path / "out"
    export.export(TINY, out, limit=1)
    assert "no locks" not in caplog.text

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    young, old = out / "00000" / f"{atomic_files.TEMPORARY}young", out / "00000" / f"{atomic_files.TEMPORARY}old"
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    assert export.export(TINY, out) == (23, 1)
    (record,) = [record for record in caplog.records if "no locks" in record.message]
    assert (record.levelname, str(out) in record.message) == ("WARNING", True)
    assert young.exists()
    assert not old.exists()


def test_a_foreign_folder_is_left_as_it_is(tmp_path):
    """A picture that another command writes there just now is not that export's leftover."""
    (tmp_path / "cat.jpg").write_bytes(b"meow")
    (tmp_path / f"{atomic_files.TEMPORARY}other").write_bytes(b"half")
    with pytest.raises(ValueError, match="must be empty"):
        export.export(TINY, tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f"{atomic_files.TEMPORARY}other", "cat.jpg"]


# ----------------------------------------------------------------------------------------------- interrupted and full


def test_a_full_disk_names_the_file_and_how_far(tmp_path, monkeypatch, capsys):
    out, recipe = tmp_path / "out", tmp_path / "r.json"
    recipe.write_text(TINY.to_json())
    real, room = Image.Image.save, ["an image"] * 10

    def full(self, path, *arguments, **options):
        try:
            room.pop()  # by one thread alone
        except IndexError:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None  # as write() has it: it knows no name
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    assert cli.main(["export", str(recipe), str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"'{out}/0000\d/0000\d_000\d\.png': No space left on device; 10 of 24 images are there; ", line)
    assert "the same command goes on" in line
    assert len(pictures(out)) == 10
    assert unfinished(out) == []
    room += ["an image"] * 10
    with pytest.raises(OSError, match="No space left") as caught:
        export.export(TINY, out)
    assert caught.value.__notes__[0].startswith("20 of 24 images are there")


def test_the_same_command_on_a_disk_that_is_still_full_says_how_far(tmp_path, monkeypatch, capsys):
    """Then it is the trial before the work that finds it out."""
    out, recipe = tmp_path / "out", tmp_path / "r.json"
    recipe.write_text(TINY.to_json())
    export.export(TINY, out, limit=10)

    def full(name, mode):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files, "open", full, raising=False)
    assert cli.main(["export", str(recipe), str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"'{out}/0000\d/0000\d_000\d\.png': No space left on device; 10 of 24 images are there; ", line)
    assert unfinished(out) == []


def test_labels_are_looked_up_some_thousands_at_a_time(tmp_path, monkeypatch):
    """A matrix of label noise has a row for every label that is looked up at once."""
    noise = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
    recipe = gr.FractalDB(
        categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6], label_noise=noise
    )
    asked, labelled = [], gr.Renderer.labels_of

    def counted(self, samples, *rest):
        asked.append(len(samples))
        return labelled(self, samples, *rest)

    monkeypatch.setattr(gr.Renderer, "labels_of", counted)
    monkeypatch.setattr(layout, "LABELS", 5)
    monkeypatch.setattr(export, "BATCH", 4)
    assert export.export(recipe, tmp_path / "out") == (24, 0)
    assert sorted(asked, reverse=True)[:5] == [5, 5, 5, 5, 4]


def test_ctrl_c_says_how_far(tmp_path, monkeypatch, capsys):
    out, recipe = tmp_path / "out", tmp_path / "r.json"
    recipe.write_text(TINY.to_json())
    monkeypatch.setattr(export, "BATCH", 4)
    real = export.write

    def interrupted(renderer, missing, tally):
        real(renderer, missing, tally)
        if tally.written == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(export, "write", interrupted)
    assert cli.main(["export", str(recipe), str(out)]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("gpurender: error: interrupted; 12 of 24 images are there; the same command goes on from them")
    assert len(pictures(out)) == 12
    assert unfinished(out) == []


def test_without_a_thread_to_be_had_all_is_written(tmp_path, monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(threading.Thread, "start", refused)
    assert export.export(TINY, tmp_path / "out") == (24, 0)
    assert len(pictures(tmp_path / "out")) == 24


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_export_with_nothing_half_written(tmp_path, root, how):
    """By the signal itself, as a shell's loop and Slurm expect of a program."""
    recipe = gr.FractalDB(categories=[TRIANGLE] * 40, points=20_000, image_size=256, weights=[[1] * 6])
    path, out = tmp_path / "r.json", tmp_path / "out"
    path.write_text(recipe.to_json())
    process = subprocess.Popen(
        [sys.executable, "-m", "gpurender", "export", str(path), str(out)], env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # nohup ignores it
    )  # fmt: skip
    try:
        while not pictures(out) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == -how
    (line,) = said(errors).splitlines()
    word = "interrupted" if how == signal.SIGINT else "terminated"
    counted = re.fullmatch(rf"gpurender: error: {word}; (\d+) of {len(recipe)} images are there; .*", line)
    assert int(counted[1]) == len(pictures(out))
    assert unfinished(out) == []


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_file_without_its_end_is_written_again(tmp_path, damage):
    """As a power cut leaves it, or a copy that was broken off."""
    out = tmp_path / "out"
    export.export(TINY, out)
    victim = pictures(out)[5]
    whole = victim.read_bytes()
    victim.write_bytes(b"" if damage == "empty" else whole[:-1])
    assert export.export(TINY, out) == (1, 23)
    assert victim.read_bytes() == whole


def test_where_nothing_can_be_written_nothing_is_drawn(tmp_path, monkeypatch):
    out = tmp_path / "out"
    export.export(TINY, out)
    victim = pictures(out)[0]
    victim.unlink()
    victim.mkdir()
    monkeypatch.setattr(gr.Renderer, "__call__", lambda *_: pytest.fail("drawn"))
    with pytest.raises(ValueError, match=r"cannot write .*00000_0000\.png': it is a directory"):
        export.export(TINY, out)
    victim.rmdir()
    victim.symlink_to(tmp_path / "nowhere/a.png")
    with pytest.raises(ValueError, match=r"cannot write .*00000_0000\.png'"):
        export.export(TINY, out)


# ------------------------------------------------------------------------------------------------- names and folders


def test_files_have_the_umask_s_mode(tmp_path):
    out = tmp_path / "out"
    export.export(TINY, out, limit=2)
    made = [*pictures(out), out / claims.MANIFEST]
    assert len(made) == 3
    assert {path.stat().st_mode for path in made} == {usual_mode(tmp_path)}


@pytest.mark.parametrize(
    ("instances", "first", "last"),
    [(8, "0000", "0007"), (10_000, "0000", "9999"), (10_001, "00000", "10000"), (100_001, "000000", "100000")],
)
def test_names_have_as_many_digits_as_the_last_instance(tmp_path, instances, first, last):
    """At least four, as the released files have."""
    recipe = gr.OnePFrac(classes=2, instances=instances, points=50, image_size=16)
    paths = layout.Places(tmp_path, recipe).paths([0, instances - 1, instances], [0, 0, 1])
    names = [f"00000/00000_{first}.png", f"00000/00000_{last}.png", f"00001/00001_{first}.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == names


@pytest.mark.parametrize("folder", [5, None, b"p", Path, "", "a\0b"])
def test_a_folder_that_is_no_path_is_refused_by_name(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    for work in (gr.export, verify.verify):
        with pytest.raises((TypeError, ValueError), match=r"^folder must be a path, .*got "):
            work(TINY, folder)
    assert os.listdir(tmp_path) == []


def test_a_link_to_nothing_becomes_a_folder(tmp_path):
    (tmp_path / "link").symlink_to("disk/out")
    assert export.export(TINY, tmp_path / "link", limit=1) == (1, 0)
    assert len(pictures(tmp_path / "disk/out")) == 1
    assert (tmp_path / "link").is_symlink()


def read_back(folder, **options):
    datasets = pytest.importorskip("torchvision.datasets", reason="needs torchvision")
    return datasets.ImageFolder(str(folder), **options)


def test_labels_of_the_folders_are_the_recipe_s(tmp_path, caplog):
    """Also behind a class without images, whose folder keeps the place; ImageFolder wants to be told of it."""
    recipe = gr.FractalDB(classes=5, instances=6, points=50, image_size=16, class_prior=[5, 0, 1, 0, 0], fill_rate=0.2)
    assert class_counts(recipe.class_prior, 5, 6).tolist() == [6, 0, 1, 0, 0]
    with caplog.at_level(logging.WARNING, "gpurender"):
        export.export(recipe, tmp_path / "out")
    (record,) = caplog.records
    assert "no image of class 00001, 00003, 00004; ImageFolder(folder, allow_empty=True)" in record.getMessage()
    found = read_back(tmp_path / "out", allow_empty=True)
    assert found.targets == [label for _, label in gr.Dataset(recipe)]
    assert found.targets == [0] * 6 + [2]
    assert len(found.classes) == 5
    with pytest.raises(FileNotFoundError, match="00001"):  # not silently another label
        read_back(tmp_path / "out")


def test_labels_under_a_limit_are_the_recipe_s(tmp_path, caplog):
    """Only classes in between get empty folders: a few images of 21,000 classes do not make 21,000 folders."""
    many = gr.OnePFrac(classes=21_000, points=50, image_size=16)
    with caplog.at_level(logging.WARNING, "gpurender"):
        export.export(many, tmp_path / "many", limit=3)
        assert caplog.records == []
    assert sorted(os.listdir(tmp_path / "many")) == ["00000", "00001", "00002", "recipe.json"]
    assert read_back(tmp_path / "many").targets == [0, 1, 2]

    noisy = gr.FractalDB(classes=12, instances=3, points=50, image_size=16, label_noise=0.6, fill_rate=0.2)
    export.export(noisy, tmp_path / "noisy", limit=5)
    labels = gr.Renderer(noisy).labels(np.arange(5)).tolist()
    assert len(set(range(max(labels))) - set(labels)) >= 2  # or it would show nothing
    found = read_back(tmp_path / "noisy", allow_empty=True)
    names = {Path(path).name: label for path, label in found.samples}
    assert [names[f"{n // 3:05d}_{n % 3:04d}.png"] for n in range(5)] == labels
    assert len(found.classes) == max(labels) + 1


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_classes_with_images_are_those_of_the_labels(monkeypatch, chunk):
    monkeypatch.setattr(layout, "LABELS", chunk)
    plain = gr.OnePFrac(classes=7, instances=3, points=50, image_size=16)
    tail = gr.OnePFrac(classes=7, instances=3, points=50, image_size=16, class_prior=[1, 0, 1, 1, 0, 0, 1])
    noisy = gr.OnePFrac(classes=7, instances=3, points=50, image_size=16, label_noise=0.7)
    mixture = gr.Mixture({tail: 1, plain: 2}, labels="separate")
    for recipe in (plain, tail, noisy, mixture):
        renderer = gr.Renderer(recipe)
        for total in (1, 3, 4, len(recipe)):
            labels = recipe.joint(renderer.labels(torch.arange(total)))
            filled = layout.labels_with_images(renderer, Selection(recipe, limit=total))
            assert filled.shape == (recipe.classes,)
            assert np.flatnonzero(filled).tolist() == sorted(set(labels.tolist()))
