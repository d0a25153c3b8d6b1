"""Verification of exports: what is missing, cut, empty, of another size, or has a wrong pixel; and its repair."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.image_folder import export, verify
from gpurender.commands.image_folder.tally import Tally
from gpurender.util import folder_lock
from gpurender.util.atomic_files import TEMPORARY
from tests.golden import TRIANGLE

TINY = gr.FractalDB(categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6])  # 24 images
COLOUR = gr.OnePFrac(
    classes=3, instances=4, base=TRIANGLE, points=300, image_size=24, variant="paper", draw_type="patch_color"
)


@pytest.fixture
def out(tmp_path):
    gr.export(TINY, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    return str(path)


def problems(recipe, folder, **options):
    """Paths within the folder and reasons."""
    found = []
    report = verify.verify(recipe, folder, on_problem=found.append, **options)
    assert report.problems == len(found)
    return {problem.path.relative_to(folder).as_posix(): problem.reason for problem in found}


def contents(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def without_end(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_pixel(path):
    pixels = np.array(Image.open(path))
    pixels[-1, -1] ^= 1
    Image.fromarray(pixels).save(path)


def enlarge(path):
    with Image.open(path) as image:
        image.resize((33, 32)).save(path)


def spoil_the_middle(path):
    """Compressed data that is cut within, before an end as it should be: as a copy with a hole has it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[at - 8 : at - 4])[0]
    data[at + length // 2 : at + length] = bytes(length - length // 2)
    data[at + length : at + length + 4] = struct.pack(">I", zlib.crc32(data[at - 4 : at + length]))
    path.write_bytes(data)


def save_as_jpeg(path):
    with Image.open(path) as image:
        image.save(path, format="JPEG")


DAMAGES = {
    empty: "empty",
    truncate: "damaged: the end of the PNG file is missing",
    without_end: "damaged: the end of the PNG file is missing",
    spoil_the_middle: "damaged: ",
    flip_a_pixel: "other pixels than the recipe's",
    enlarge: "33 x 32 pixels, not 32 x 32",
    save_as_jpeg: "damaged: ",
    os.unlink: "missing",
}


@pytest.mark.parametrize("recipe", [TINY, COLOUR], ids=["grey", "colour"])
def test_a_whole_export_has_no_problem(tmp_path, recipe):
    gr.export(recipe, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert verify.verify(recipe, tmp_path / "out") == (len(recipe), 0, 0, 0)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damage_is_found_and_repaired(out, damage):
    victim, whole = out / "00001" / "00001_0003.png", contents(out)
    damage(victim)
    ((name, reason),) = problems(TINY, out).items()
    assert name == "00001/00001_0003.png"
    assert reason.startswith(DAMAGES[damage])
    assert list(problems(TINY, out, repair=True)) == ["00001/00001_0003.png"]
    assert contents(out) == whole
    assert problems(TINY, out) == {}


def test_a_channel_of_a_pixel_in_colour_is_found(tmp_path):
    gr.export(COLOUR, tmp_path / "out")
    victim = tmp_path / "out" / "00002" / "00002_0001.png"
    pixels = np.array(Image.open(victim))
    pixels[3, 4, 2] ^= 1
    Image.fromarray(pixels).save(victim)
    assert problems(COLOUR, tmp_path / "out") == {"00002/00002_0001.png": "other pixels than the recipe's"}


def test_the_command_lists_paths_and_exits_1(out, recipe_file, capsys):
    empty(out / "00000/00000_0002.png")
    truncate(out / "00001/00001_0003.png")
    flip_a_pixel(out / "00002/00002_0007.png")
    damaged = contents(out)
    assert cli.main(["export", recipe_file, str(out), "--verify"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/00000/00000_0002.png: empty",
        f"{out}/00001/00001_0003.png: damaged: the end of the PNG file is missing",
        f"{out}/00002/00002_0007.png: other pixels than the recipe's",
        f"{out}: 24 images checked, 3 missing or damaged; first give --classes, --per-class and --limit as in "
        "the export, then --repair writes these again",
    ]
    assert contents(out) == damaged
    assert cli.main(["export", recipe_file, str(out)]) == 0  # what a look at the end of a file shows
    assert capsys.readouterr().out == f"{out}: 2 images written, 22 there before\n"
    assert cli.main(["export", recipe_file, str(out), "--verify", "--repair"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/00002/00002_0007.png: other pixels than the recipe's",
        f"{out}: 24 images checked, 1 missing or damaged; 1 repaired",
    ]
    assert cli.main(["export", recipe_file, str(out), "--verify"]) == 0
    assert capsys.readouterr().out == f"{out}: 24 images checked, 0 missing or damaged\n"


def test_only_the_selection_is_looked_at(out):
    os.unlink(out / "00000/00000_0002.png")
    os.unlink(out / "00002/00002_0000.png")
    assert list(problems(TINY, out, classes="1-2")) == ["00002/00002_0000.png"]
    assert list(problems(TINY, out, per_class=2)) == ["00002/00002_0000.png"]
    assert list(problems(TINY, out, limit=16)) == ["00000/00000_0002.png"]
    assert list(problems(TINY, out, shard="0/2")) == ["00000/00000_0002.png"]
    assert list(problems(TINY, out, shard="1/2")) == ["00002/00002_0000.png"]


def test_the_missing_folder_of_an_empty_class_is_found(tmp_path):
    """Without it ImageFolder would shift the labels of all later classes."""
    recipe = gr.FractalDB(classes=3, instances=2, points=50, image_size=16, class_prior=[1, 0, 1], fill_rate=0.2)
    gr.export(recipe, tmp_path / "out")
    (tmp_path / "out" / "00001").rmdir()
    assert problems(recipe, tmp_path / "out") == {"00001": "missing"}
    assert problems(recipe, tmp_path / "out", repair=True) == {"00001": "missing"}
    assert problems(recipe, tmp_path / "out") == {}


def test_nothing_is_rendered_for_files_that_cannot_be_read(out, monkeypatch):
    for path in out.rglob("*.png"):
        truncate(path)
    monkeypatch.setattr(gr.Renderer, "__call__", lambda *_: pytest.fail("rendered"))
    assert len(problems(TINY, out)) == 24


def test_a_verification_waits_for_nobody_and_a_repair_is_refused(out):
    os.unlink(out / "00000/00000_0002.png")
    with folder_lock.alone(out, ""):
        assert list(problems(TINY, out)) == ["00000/00000_0002.png"]
        with pytest.raises(RuntimeError, match="another export writes"):
            problems(TINY, out, repair=True)


def test_another_recipe_and_a_folder_without_an_export_are_refused(out, tmp_path):
    with pytest.raises(ValueError, match="holds another recipe"):
        verify.verify(COLOUR, out)
    with pytest.raises(ValueError, match=r"must hold an export to verify; it has no recipe\.json"):
        verify.verify(TINY, tmp_path / "nowhere", repair=True)
    assert not (tmp_path / "nowhere").exists()


def test_ctrl_c_says_how_far(out, recipe_file, monkeypatch, capsys):
    monkeypatch.setattr("gpurender.commands.image_folder.export.BATCH", 4)
    real, calls = verify._wrong, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(verify, "_wrong", interrupted)
    assert cli.main(["export", recipe_file, str(out), "--verify"]) == 130
    assert capsys.readouterr().err == "gpurender: error: interrupted; 8 of 24 images are checked\n"


# ------------------------------------------------------------------------------------------- what cannot be repaired


def test_a_repair_tries_no_file_ahead_of_the_others(tmp_path):
    """An export ends at the first file that cannot be written; a repair goes on."""
    paths = {0: tmp_path / "missing" / "0.png", 1: tmp_path / "1.png"}
    tally, refused = Tally(2), {}
    export.write(gr.Renderer(TINY), paths, tally, refused)
    assert refused == {paths[0]: "No such file or directory"}
    assert paths[1].is_file()
    assert not paths[0].exists()
    with pytest.raises(ValueError, match="missing"):
        export.write(gr.Renderer(TINY), paths, Tally(2))


def test_what_cannot_be_written_is_named_and_the_others_are_repaired(out, recipe_file, capsys):
    whole = contents(out)
    for path in sorted(out.rglob("*.png"))[2:8]:
        os.unlink(path)
    (out / "00000/00000_0004.png").mkdir()
    assert problems(TINY, out)["00000/00000_0004.png"] == "a directory"
    assert cli.main(["export", recipe_file, str(out), "--verify", "--repair"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 7
    assert f"{out}/00000/00000_0004.png: a directory; not repaired: remove it first" in said
    assert said[-1] == f"{out}: 24 images checked, 6 missing or damaged; 5 repaired"
    (out / "00000/00000_0004.png").rmdir()
    assert verify.verify(TINY, out, repair=True) == (24, 1, 1, 0)
    assert contents(out) == whole


def test_nobody_waits_for_the_other_end_of_a_pipe(out):
    os.unlink(out / "00000/00000_0002.png")
    os.mkfifo(out / "00000/00000_0002.png")
    assert problems(TINY, out) == {"00000/00000_0002.png": "a pipe or device"}
    assert problems(TINY, out, repair=True) == {
        "00000/00000_0002.png": "a pipe or device; not repaired: remove it first"
    }


def test_a_file_in_place_of_a_folder_is_no_repaired_one(tmp_path):
    recipe = gr.FractalDB(classes=3, instances=2, points=50, image_size=16, class_prior=[1, 0, 1], fill_rate=0.2)
    gr.export(recipe, tmp_path / "out")
    (tmp_path / "out" / "00001").rmdir()
    (tmp_path / "out" / "00001").touch()
    assert problems(recipe, tmp_path / "out") == {"00001": "not a directory"}
    assert verify.verify(recipe, tmp_path / "out", repair=True)[1:3] == (1, 0)


def test_a_full_disk_ends_a_repair_and_says_what_was_written(out, recipe_file, monkeypatch, capsys):
    for path in sorted(out.rglob("*.png"))[2:8]:
        flip_a_pixel(path)  # these have their end: a look at it would count them
    real, room = Image.Image.save, ["an image"] * 4

    def full(self, path, *arguments, **options):
        try:
            room.pop()
        except IndexError:
            raise OSError(28, os.strerror(28)) from None
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    assert cli.main(["export", recipe_file, str(out), "--verify", "--repair"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("No space left on device; 0 of 24 images are checked, 4 are written again")
    monkeypatch.undo()
    assert verify.verify(TINY, out).problems == 2


@pytest.mark.parametrize("repair", ["yes", 1, None])
def test_repair_is_true_or_false(out, repair):
    with pytest.raises(TypeError, match=r"^repair must be True or False, got "):
        verify.verify(TINY, out, repair=repair)


def test_the_first_problems_are_printed_and_the_others_counted(out, recipe_file, capsys):
    for path in out.rglob("*.png"):
        path.unlink()
    (out / "00001/00001_0004.png").mkdir()
    assert cli.main(["export", recipe_file, str(out), "--verify"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[19] == f"{out}/00002/00002_0003.png: missing"
    assert said[20] == "... and 4 more"
    assert said[21].endswith(
        "; first give --classes, --per-class and --limit as in the export, then --repair writes these again"
    )
    assert len(said) == 22
    assert len(problems(TINY, out)) == 24
    assert cli.main(["export", recipe_file, str(out), "--verify", "--repair"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "not repaired" in line] == [
        f"{out}/00001/00001_0004.png: a directory; not repaired: remove it first"
    ]
    assert said[-2:] == ["... and 3 more", f"{out}: 24 images checked, 24 missing or damaged; 23 repaired"]


# ------------------------------------------------------------------------------------------------------ what is foreign


def write_image(path):
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (8, 8)).save(path, format="PNG")


FOREIGN = {  # what is added to an export, and what is reported
    "sub/00000/00000_0000.png": "sub",
    "cat.JPG": "cat.JPG",
    "00003/00003_0000.png": "00003",
    "00001/cat.webp": "00001/cat.webp",
    "00001/00000_0000.png": "00001/00000_0000.png",
    "00001/00001_0008.png": "00001/00001_0008.png",
    "00001/00001_00001.png": "00001/00001_00001.png",
    "00001/deep/00001_0000.png": "00001/deep/00001_0000.png",
}


@pytest.mark.parametrize("added", FOREIGN)
def test_what_imagefolder_would_read_is_reported_and_never_removed(out, recipe_file, capsys, added):
    (out / added).parent.mkdir(parents=True, exist_ok=True)
    write_image(out / added)
    before = contents(out)
    assert problems(TINY, out) == {FOREIGN[added]: verify.FOREIGN}
    for more in ([], ["--repair"]):
        assert cli.main(["export", recipe_file, str(out), "--verify", *more]) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"{out}/{FOREIGN[added]}: not of this recipe, but ImageFolder would read it: remove it",
            f"{out}: 24 images checked, 0 missing or damaged, 1 foreign",
        ]
    assert contents(out) == before


def test_an_export_in_a_folder_of_another_is_found(tmp_path):
    gr.export(TINY, tmp_path)
    gr.export(TINY, tmp_path / "sub")
    assert problems(TINY, tmp_path) == {"sub": verify.FOREIGN}
    assert problems(TINY, tmp_path / "sub") == {}


def test_what_nobody_reads_and_a_larger_selection_are_not_foreign(out):
    for name in (
        "notes.txt",
        "00001/notes.txt",
        ".DS_Store",
        f"00001/{TEMPORARY}half",
        f"{folder_lock.LOCK}-shard-0-of-2",
    ):
        (out / name).write_text("")
    assert problems(TINY, out, classes=1, per_class=1) == {}
    assert problems(TINY, out, limit=1) == {}


def test_shards_find_foreign_images_once(out):
    for name in ("sub/a.png", "00000/a.png", "00001/a.png", "00002/a.png"):
        write_image(out / name)
    found = [name for index in range(4) for name in problems(TINY, out, shard=(index, 4))]
    assert sorted(found) == ["00000/a.png", "00001/a.png", "00002/a.png", "sub"]


def test_an_image_with_label_noise_is_foreign_in_another_folder_than_its_label_s(tmp_path):
    noise = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
    recipe = gr.FractalDB(
        categories=[TRIANGLE] * 3, points=1000, image_size=32, patches=2, weights=[[1] * 6], label_noise=noise
    )
    gr.export(recipe, tmp_path / "out")
    assert problems(recipe, tmp_path / "out") == {}
    moved = next(path for path in sorted((tmp_path / "out").rglob("*.png")) if path.parent.name != path.name[:5])
    wrong = tmp_path / "out" / moved.name[:5] / moved.name
    moved.rename(wrong)
    assert problems(recipe, tmp_path / "out") == {
        moved.relative_to(tmp_path / "out").as_posix(): "missing",
        wrong.relative_to(tmp_path / "out").as_posix(): verify.FOREIGN,
    }


def test_a_mixture_s_export_has_nothing_foreign(tmp_path):
    recipe = gr.Mixture({TINY: 1, gr.OnePFrac(classes=2, points=50, image_size=32): 2})
    gr.export(recipe, tmp_path / "out")
    assert problems(recipe, tmp_path / "out") == {}
