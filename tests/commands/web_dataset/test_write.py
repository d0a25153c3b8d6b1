"""Exports as tar files: read back by the package webdataset, shards, kills, the same bytes, and refusals."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.web_dataset import write
from tests.golden import TRIANGLE

TINY = gr.FractalDB(categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6])  # 24 images
COLOUR = gr.OnePFrac(
    classes=3, instances=4, base=TRIANGLE, points=300, image_size=24, variant="paper", draw_type="patch_color"
)
SETS = gr.MultiFractal(classes=5, instances=3, points=300, image_size=24)
NOISY = gr.FractalDB(
    categories=[TRIANGLE] * 3, points=300, image_size=24, patches=1, weights=[[1] * 6], label_noise=0.5
)


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    return str(path)


def export(recipe, folder, **options):
    return gr.export(recipe, folder, format="webdataset", **options)


def tars(folder):
    return sorted(Path(folder).glob("*.tar"))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def samples(folder):
    """Key, pixels and label of each sample, by the standard library alone."""
    for path in tars(folder):
        with tarfile.open(path) as tar:
            files = {name: tar.extractfile(name).read() for name in tar.getnames()}
        for name in list(files)[::2]:
            key = name.removesuffix(".png")
            [label] = [json.loads(files[f"{key}.{ending}"]) for ending in ("cls", "json") if f"{key}.{ending}" in files]
            yield key, np.asarray(Image.open(io.BytesIO(files[name]))), label


def sample_of(recipe, key):
    number, instance = map(int, key.split("_"))
    return number * recipe.instances + instance


# --------------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("recipe", [TINY, COLOUR, SETS, NOISY], ids=["grey", "colour", "sets", "noise"])
def test_the_package_webdataset_reads_pixels_and_labels(tmp_path, recipe):
    wds = pytest.importorskip("webdataset", reason="needs webdataset")
    export(recipe, tmp_path / "out", per_tar=5)
    label = "json" if recipe.multi_hot else "cls"
    files = [str(path) for path in tars(tmp_path / "out")]
    dataset = wds.WebDataset(files, shardshuffle=False).decode("pil").to_tuple("__key__", "png", label)
    read, renderer = list(dataset), gr.Renderer(recipe)
    assert sorted(sample_of(recipe, key) for key, _, _ in read) == list(range(len(recipe)))
    for key, image, found in read:
        sample = sample_of(recipe, key)
        expected = renderer([sample])[0].expand(3, -1, -1).permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(image.convert("RGB")), expected)
        labels = renderer.labels([sample])[0]
        if recipe.multi_hot:
            assert found == torch.nonzero(labels)[:, 0].tolist()
        else:
            assert found == int(labels)


def test_the_workers_of_a_torch_loader_read_every_image_once(tmp_path):
    wds = pytest.importorskip("webdataset", reason="needs webdataset")
    export(TINY, tmp_path / "out", per_tar=7)
    dataset = wds.WebDataset(str(tmp_path / "out" / "{000000..000003}.tar"), shardshuffle=100).to_tuple("__key__")
    loader = torch.utils.data.DataLoader(dataset.shuffle(10), batch_size=None, num_workers=2)
    assert sorted(sample_of(TINY, key) for (key,) in loader) == list(range(24))


def test_every_tar_has_as_many_images_of_the_whole_range_of_classes(tmp_path):
    assert export(TINY, tmp_path, per_tar=7) == (24, 0)
    assert [path.name for path in tars(tmp_path)] == [f"00000{i}.tar" for i in range(4)]
    for path in tars(tmp_path):
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert len(names) == 2 * 6
        assert names == sorted(names, key=lambda name: (name[:10], -ord(name[11])))  # the picture before its label
        assert {name[:5] for name in names} == {"00000", "00001", "00002"}
    assert export(gr.recipe(TINY, classes=1), tmp_path / "one", limit=7, per_tar=3) == (7, 0)
    assert [path.read_bytes().count(b"IEND") for path in tars(tmp_path / "one")] == [3, 2, 2]


def test_a_selection(tmp_path, recipe_file, capsys):
    words = ["export", recipe_file, str(tmp_path / "out"), "--format", "webdataset", "--per-class", "2"]
    words += ["--classes", "1-2", "--limit", "3", "--per-tar", "2"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 3 images written, 0 there before\n"
    found = {key: label for key, _, label in samples(tmp_path / "out")}
    assert found == {"00001_0000": 1, "00001_0001": 1, "00002_0000": 2}
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 0 images written, 3 there before\n"


def test_bytes_depend_on_no_time_user_or_shard(tmp_path, monkeypatch):
    export(TINY, tmp_path / "a", per_tar=5)
    monkeypatch.setattr(time, "time", lambda: 1.7e9)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    for index in (2, 0, 1):
        export(TINY, tmp_path / "b", per_tar=5, shard=(index, 3))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for path in tars(tmp_path / "a"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.type) == (0o644, tarfile.REGTYPE)


# ----------------------------------------------------------------------------------------------------- shards and kills


def test_shards_have_tar_files_of_their_own(tmp_path, monkeypatch, recipe_file):
    monkeypatch.setenv("WORLD_SIZE", "4")
    seen = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        out = tmp_path / f"out{rank}"
        assert cli.main(["export", recipe_file, str(out), "--format", "webdataset", "--per-tar", "5"]) == 0
        seen += [path.name for path in tars(out)]
    assert seen == [f"00000{i}.tar" for i in range(5)]  # each once
    assert export(TINY, tmp_path / "few", per_tar=24, shard="0/2") == (0, 0)  # one file, which is of the last shard
    assert export(TINY, tmp_path / "few", per_tar=24, shard="1/2") == (24, 0)


def test_unfinished_files_are_made_again_and_finished_ones_kept(tmp_path):
    export(TINY, tmp_path, per_tar=6)
    whole = contents(tmp_path)
    kept, empty, cut, gone = tars(tmp_path)
    before = kept.stat().st_mtime_ns
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-512])
    gone.unlink()
    assert export(TINY, tmp_path, per_tar=6) == (18, 6)
    assert contents(tmp_path) == whole
    assert kept.stat().st_mtime_ns == before


def test_an_interruption_leaves_whole_tar_files_and_says_how_far(tmp_path, monkeypatch, recipe_file, capsys):
    out, real, calls = tmp_path / "out", write.save_png, []

    def interrupted(picture, file):
        calls.append(1)
        if len(calls) == 16:
            raise KeyboardInterrupt
        real(picture, file)

    monkeypatch.setattr(write, "save_png", interrupted)
    words = ["export", recipe_file, str(out), "--format", "webdataset", "--per-tar", "6"]
    assert cli.main(words) == 130
    text = "gpurender: error: interrupted; 12 of 24 images are there; the same command goes on from them\n"
    assert capsys.readouterr().err == text
    assert sorted(contents(out)) == ["000000.tar", "000001.tar", "webdataset.json"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{out}: 12 images written, 12 there before\n"


def test_a_killed_export_goes_on(tmp_path, root):
    recipe = gr.FractalDB(categories=[TRIANGLE] * 3, points=20_000, image_size=256, weights=[[1] * 6])
    path, out = tmp_path / "r.json", tmp_path / "out"
    path.write_text(recipe.to_json())
    gr.Renderer(recipe)(0)  # compiled
    words = [sys.executable, "-m", "gpurender", "export", str(path), str(out), "--format", "webdataset"]
    process = subprocess.Popen([*words, "--per-tar", "10"], env={**os.environ, "PYTHONPATH": str(root)})
    try:
        while not tars(out) and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in tars(out)}
    written, present = export(recipe, out, per_tar=10)
    assert (written, present) == (120 - 10 * len(finished), 10 * len(finished))
    assert {path.name: path.stat().st_mtime_ns for path in tars(out)}.items() >= finished.items()
    export(recipe, tmp_path / "again", per_tar=10)
    assert contents(out) == contents(tmp_path / "again")  # and nothing unfinished is left


# ------------------------------------------------------------------------------------------------------------- refusals


def test_the_manifest_has_the_recipe_and_refuses_another_selection(tmp_path):
    export(TINY, tmp_path, per_tar=6)
    assert gr.recipe(json.loads((tmp_path / "webdataset.json").read_text())["recipe"]) == TINY
    before = contents(tmp_path)
    for options, text in (
        ({}, "has 6 images per tar file, not 1000: give limit, per_class, classes and per_tar as in its first export"),
        ({"per_tar": 6, "limit": 5}, "has 24 images, not 5: "),
    ):
        with pytest.raises(ValueError, match=text):
            export(TINY, tmp_path, **options)
    with pytest.raises(ValueError, match="holds another recipe"):
        export(COLOUR, tmp_path, per_tar=6)
    assert contents(tmp_path) == before
    export(TINY, tmp_path / "part", classes=[0, 1], per_class=3)
    with pytest.raises(ValueError, match="has other images of the recipe: give limit, per_class"):
        export(TINY, tmp_path / "part", classes=[1, 2], per_class=3)


def test_folders_and_tar_files_do_not_share_a_folder(tmp_path):
    export(TINY, tmp_path / "tars")
    with pytest.raises(ValueError, match=r"must be empty or hold an earlier export; it has files but no recipe\.json"):
        gr.export(TINY, tmp_path / "tars")
    gr.export(TINY, tmp_path / "folders", limit=1)
    with pytest.raises(ValueError, match=r"it has files but no webdataset\.json"):
        export(TINY, tmp_path / "folders")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 1}'])
def test_a_broken_manifest_is_refused_in_a_line(tmp_path, text):
    (tmp_path / "webdataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"webdataset\.json: no manifest of an export"):
        export(TINY, tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"format": "tar"}, ValueError, r"^format must be .*imagefolder.*webdataset.*, got 'tar'"),
        ({"per_tar": 5}, ValueError, r"^per_tar must be left out for format 'imagefolder', got 5"),
        (
            {"format": "webdataset", "per_tar": 0},
            ValueError,
            r"^per_tar must be an integer in \[1, 1000000000\], got 0",
        ),
        ({"format": "webdataset", "per_tar": 1.5}, TypeError, r"^per_tar must be an integer in"),
    ],
)
def test_wrong_options_are_refused_by_name_and_make_nothing(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        gr.export(TINY, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_per_tar_is_an_option_of_tar_files(tmp_path, recipe_file, capsys):
    assert cli.main(["export", recipe_file, str(tmp_path / "out"), "--per-tar", "5"]) == 2
    assert "--per-tar must be given together with --format webdataset" in capsys.readouterr().err
    with pytest.raises(ValueError, match="multi-hot labels; format 'webdataset' takes it"):
        gr.export(SETS, tmp_path / "out")
