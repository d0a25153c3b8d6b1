"""Verification of tar files: what is missing, cut, in another order, of another label or pixel; and its repair."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.web_dataset import verify
from tests.golden import TRIANGLE

TINY = gr.FractalDB(categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6])  # 24 images
SETS = gr.MultiFractal(classes=5, instances=3, points=300, image_size=24)


@pytest.fixture
def out(tmp_path):
    gr.export(TINY, tmp_path / "out", format="webdataset", per_tar=8)
    return tmp_path / "out"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def problems(recipe, folder, **options):
    found = []
    report = verify.verify(recipe, folder, on_problem=found.append, **{"per_tar": 8} | options)
    assert report.problems == len(found)
    return {problem.path.name: problem.reason for problem in found}


def rewritten(change):
    """A damage: the members, as a list of names and contents, are changed and written again."""

    def damage(path):
        with tarfile.open(path) as tar:
            files = [(name, tar.extractfile(name).read()) for name in tar.getnames()]
        with tarfile.open(path, "w") as tar:
            for name, data in change(files):
                header = tarfile.TarInfo(name)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))

    damage.__name__ = change.__name__
    return damage


def pixel(files):
    pixels = np.array(Image.open(io.BytesIO(files[6][1])))
    pixels[-1, -1] ^= 1
    Image.fromarray(pixels).save(file := io.BytesIO(), format="PNG")
    return [*files[:6], (files[6][0], file.getvalue()), *files[7:]]


def size(files):
    Image.new("L", (33, 32)).save(file := io.BytesIO(), format="PNG")
    return [*files[:6], (files[6][0], file.getvalue()), *files[7:]]


def broken_picture(files):
    return [*files[:6], (files[6][0], files[6][1][:-30]), *files[7:]]


def label(files):
    return [*files[:7], (files[7][0], b"7"), *files[8:]]


def order(files):
    return [*files[2:4], *files[:2], *files[4:]]


def fewer(files):
    return files[:-2]


def more(files):
    return [*files, ("00009_0000.png", b"")]


def cut(path):
    path.write_bytes(path.read_bytes()[:-512])


def spoil(path):
    """A header is overwritten, as by a bad block."""
    data = bytearray(path.read_bytes())
    data[:512] = b"x" * 512
    path.write_bytes(data)


DAMAGES = {
    os.unlink: "missing",
    cut: "damaged: the end of the tar file is missing",
    spoil: "damaged: ",
    rewritten(pixel): "00001_0002.png: other pixels than the recipe's",
    rewritten(size): "00001_0002.png: 33 x 32 pixels, not 32 x 32",
    rewritten(broken_picture): "00001_0002.png: damaged: ",
    rewritten(label): "00001_0002.cls: another label than the recipe's",
    rewritten(order): "00000_0004.png instead of 00000_0001.png",
    rewritten(fewer): "nothing instead of 00002_0006.png",
    rewritten(more): "00009_0000.png should not be there",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damage_is_found_and_repaired(out, damage):
    whole = contents(out)
    damage(out / "000001.tar")
    ((name, reason),) = problems(TINY, out).items()
    assert name == "000001.tar"
    assert reason.startswith(DAMAGES[damage])
    assert list(problems(TINY, out, repair=True)) == ["000001.tar"]
    assert contents(out) == whole
    assert problems(TINY, out) == {}


def test_whole_exports_have_no_problem_and_nothing_is_written(out, tmp_path):
    before = contents(out)
    assert verify.verify(TINY, out, per_tar=8) == (24, 0, 0, 0)
    assert contents(out) == before
    gr.export(SETS, tmp_path / "sets", format="webdataset")
    assert verify.verify(SETS, tmp_path / "sets") == (15, 0, 0, 0)


def test_shards_look_at_their_files_and_the_first_at_foreign_ones(out):
    (out / "000003.tar").write_bytes(b"")
    (out / "000002.tar").unlink()
    (out / "notes.txt").write_text("")
    assert problems(TINY, out, shard="0/3") == {"000003.tar": verify.FOREIGN}
    assert problems(TINY, out, shard="1/3") == {}
    assert problems(TINY, out, shard="2/3") == {"000002.tar": "missing"}
    assert verify.verify(TINY, out, per_tar=8, repair=True) == (24, 2, 1, 1)
    assert (out / "000003.tar").exists()


def test_the_command_names_the_files_and_exits_with_1(out, tmp_path, capsys):
    (tmp_path / "r.json").write_text(TINY.to_json())
    words = ["export", str(tmp_path / "r.json"), str(out), "--format", "webdataset", "--per-tar", "8", "--verify"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{out}: 24 images checked, 0 tar files missing or damaged\n"
    (out / "000002.tar").unlink()
    assert cli.main(words) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{out}/000002.tar: missing"
    assert last.startswith(f"{out}: 24 images checked, 1 tar files missing or damaged; first give ")
    assert cli.main([*words, "--repair"]) == 0
    assert capsys.readouterr().out.endswith("1 tar files missing or damaged; 1 repaired\n")


def test_what_is_no_such_export_or_cannot_be_repaired_is_said(out, tmp_path):
    with pytest.raises(ValueError, match=r"must hold an export to verify; it has no webdataset\.json"):
        verify.verify(TINY, tmp_path / "nowhere", repair=True)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ValueError, match="has 8 images per tar file, not 1000"):
        verify.verify(TINY, out)
    (out / "000001.tar").unlink()
    os.mkfifo(out / "000001.tar")
    assert problems(TINY, out) == {"000001.tar": "not a file"}
    (out / "000001.tar").unlink()
    (out / "000001.tar").mkdir()
    (reason,) = problems(TINY, out, repair=True).values()
    assert reason.startswith("not a file; not repaired: ")
