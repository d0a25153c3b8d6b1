"""``gpurender replay``: the sheet, the JSON, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.replay.batches import as_bytes
from gpurender.replay.pictures import Row, page
from gpurender.sheet import CAPTION, GAP, PAPER

RECIPE = gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4))
HELD = ["--recipe", "recipe.json", "--batch-size", "5", "--image-size", "40", "--augment", "crop"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.json").write_text(RECIPE.to_json())
    (tmp_path / "state.json").write_text(json.dumps(loader().state_dict()))
    return tmp_path


def loader(**keywords):
    return gr.DataLoader(RECIPE, 5, image_size=40, augment="crop", shuffle=True, seed=7, device="cpu", **keywords)


def test_the_sheet_shows_what_the_loader_gave_and_the_json_says_what_it_was(folder, capsys):
    arguments = [
        "replay",
        "state.json",
        "--steps",
        "6:8",
        *HELD,
        "-o",
        "seen.png",
        "--json",
        "seen.json",
        "--images",
        "3",
    ]
    assert cli.main(arguments) == 0
    width, height = 3 * (40 + GAP) + GAP, 2 * (2 * CAPTION + 40 + GAP) + GAP
    assert capsys.readouterr().out == f"seen.png: {width} x {height}, 2 rows of visualatom\n"
    sheet = np.asarray(Image.open("seen.png"))
    assert sheet.shape == (height, width, 3)
    feed = loader()
    batches = [*feed, *feed][6:8]
    for row, (images, _) in enumerate(batches):
        top = GAP + row * (2 * CAPTION + 40 + GAP) + 2 * CAPTION
        for number, picture in enumerate(as_bytes(images, (0.5,) * 3, (0.5,) * 3)[:3]):
            left = GAP + number * (40 + GAP)
            assert np.array_equal(sheet[top : top + 40, left : left + 40], picture)
    told = json.loads((folder / "seen.json").read_text())
    assert (told["fingerprint"], told["accumulate"]) == (RECIPE.fingerprint, 1)
    assert gr.recipe(told["recipe"]) == RECIPE
    assert told["loader"] == {
        "batch_size": 5, "image_size": 40, "augment": repr(gr.augment.Crop()), "shuffle": True, "drop_last": False,
        "steps_per_epoch": None, "seed": 7, "fresh": False, "world_size": 1,
    }  # fmt: skip
    assert [(each["step"], each["epoch"], len(each["images"])) for each in told["batches"]] == [(6, 0, 2), (7, 1, 5)]
    labels = [[image["label"] for image in each["images"]] for each in told["batches"]]
    assert labels == [targets.tolist() for _, targets in batches]


def test_ranks_and_dropped_steps_are_taken_from_the_options(folder):
    arguments = [
        "replay",
        "state.json",
        "--steps",
        "3",
        *HELD,
        "--json",
        "seen.json",
        "--world-size",
        "2",
        "--drop-last",
    ]
    assert cli.main(arguments) == 0
    assert (folder / "replay.png").exists()
    told = json.loads((folder / "seen.json").read_text())
    assert [(each["step"], each["rank"], each["epoch"]) for each in told["batches"]] == [(3, 0, 1), (3, 1, 1)]
    for rank, each in enumerate(told["batches"]):
        feed = loader(rank=rank, world_size=2, drop_last=True)  # three steps an epoch
        feed.set_epoch(1)
        assert [image["label"] for image in each["images"]] == next(iter(feed))[1].tolist()


STEPS = "steps must be a step or a range FIRST:END, without END, such as 12000:12004"
WRONG = [
    (["state.json", *HELD, "-o", "x.txt"], "output must end in a picture's suffix such as .png or .jpg, got 'x.txt'"),
    (["state.json", *HELD, "--images", "0"], "images must be an integer in [1, 2147483647], got 0"),
    (["state.json", *HELD], STEPS.replace("be a", "be given: a")),
    (["state.json"], "recipe must be given with a loader's state, which does not hold it"),
    (["nothing.json"], "state must be a checkpoint, its folder or a JSON file, none is at 'nothing.json'"),
    (["state.json", "--steps", "1:", *HELD], f"{STEPS}, got '1:'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_input_is_refused_in_one_line(arguments, message, folder, capsys):
    before = sorted(folder.iterdir())
    assert cli.main(["replay", *arguments]) == 2
    assert capsys.readouterr().err == f"gpurender: error: {message}\n"
    assert sorted(folder.iterdir()) == before


def test_a_page_has_a_row_for_each_batch_and_view():
    feed = gr.DataLoader(
        RECIPE, 2, image_size=24, augment=gr.augment.MultiCrop(("crop", 1), ("crop", 1, 16)), device="cpu"
    )
    [batch] = gr.replay.replay(feed.state_dict(), 0, recipe=RECIPE, batch_size=2, image_size=24, augment=feed_policy())
    rows = list(batch.rows(1))
    assert [row.caption for row in rows] == ["step 0  epoch 0  view 0", "step 0  epoch 0  view 1"]
    assert [row.pictures.shape for row in rows] == [(1, 24, 24, 3), (1, 16, 16, 3)]
    assert rows[0].names == ["#0 class 0"]
    named = batch._replace(part=1, rank=2, loss=0.123456, pictures=batch.pictures[:1])
    assert next(iter(named.rows(1))).caption == "step 0  epoch 0  part 1  rank 2  loss 0.1235"


def feed_policy():
    return gr.augment.MultiCrop(("crop", 1), ("crop", 1, 16))


def test_lines_of_text_are_cut_at_their_picture():
    pictures = np.zeros((2, 20, 20, 3), np.uint8)
    sheet = np.asarray(page([Row("caption", ["i" * 100, ""], pictures), Row("", [""], pictures[:1, :8, :8])]))
    assert sheet.shape == (3 * GAP + 4 * CAPTION + 20 + 8, 2 * (20 + GAP) + GAP, 3)
    names = sheet[GAP + CAPTION : GAP + 2 * CAPTION]
    assert (names[:, GAP : GAP + 20] < PAPER).any()
    assert (names[:, GAP + 20 :] == PAPER).all()
    assert (sheet[GAP : GAP + CAPTION] < PAPER).any()
    assert (sheet[-GAP - 8 : -GAP, GAP : GAP + 8] == 0).all()


def test_images_of_a_gpu_s_dtype_are_shown():
    images = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)
    assert as_bytes(images, (0.5,) * 3, (0.5,) * 3).tolist() == [[[[128] * 3] * 2] * 2]
