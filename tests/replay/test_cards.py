"""Data cards: what they say, that they hold on the same recipe, and that every change of one is noticed."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.replay import cards
from gpurender.training import checkpoint

RECIPE = gr.VisualAtom(classes=4, instances=16, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4))
TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.json").write_text(RECIPE.to_json())
    return tmp_path


def block(path="card.md"):
    return cards.read_card(open(path, encoding="utf-8").read())


def about(epoch=2, position=5, images=133, **changes):
    stream = {"length": 64, "epoch": epoch, "position": position, "repeats": 1, "fresh": 0}
    return {
        "kind": "pretrain", "model": {"name": "vit", "image_size": 16}, "step": 9, "images": images, "processes": 2,
        "settings": {"batch_size": 2, "accumulate": 2}, "stream": stream, "versions": {"torch": "9", "timm": "8"},
        "data": {"recipe": json.loads(RECIPE.to_json()), "augment": "Crop()", "loader_seed": 3, "fresh": False},
        **changes,
    }  # fmt: skip


def trained(folder, **changes):
    (folder / "run").mkdir(exist_ok=True)
    checkpoint.save(folder / "run/checkpoint.safetensors", {"w": torch.zeros(1)}, about(**changes))


def test_the_card_of_a_recipe_says_what_it_is_and_holds(folder, capsys):
    assert cli.main(["card", "recipe.json"]) == 0
    assert capsys.readouterr().out == "card.md, card.png\n"
    text = (folder / "card.md").read_text()
    for said in (
        "# Training data: visualatom\n", "![images of the recipe](card.png)",
        f"| fingerprint | `{RECIPE.fingerprint}` |",
        "| classes | 4 |", "| images | 64 of 32 x 32 pixels, grey |", "## Licence position", "Apache-2.0", RECIPE.paper,
        "| family | visualatom, variant released |", "| seed | 0 |",
    ):  # fmt: skip
        assert said in text
    assert "## Training" not in text.replace("# Training data", "")
    assert "categories" not in text.partition("```json")[0]
    assert Image.open("card.png").mode == "RGB"
    found = block()
    assert gr.recipe(found["recipe"]) == RECIPE
    samples = [sample for sample, _, _ in found["canvases"]]
    assert len(samples) == 32
    assert samples == sorted(set(samples))
    assert (samples[0], samples[-1]) == (0, 63)
    for sample, epoch, digest in found["canvases"]:
        assert epoch == 0
        assert digest == hashlib.sha256(gr.Renderer(RECIPE)([sample]).numpy().tobytes()).hexdigest()
    assert cli.main(["verify", "card.md"]) == 0
    assert capsys.readouterr().out == "card.md: fingerprint and 32 canvases are as the card says\n"


def test_the_card_of_a_checkpoint_says_what_it_saw(folder, capsys):
    pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    data = {**about()["data"], "fresh": True}
    stream = {**about()["stream"], "fresh": 1}
    trained(folder, data=data, stream=stream)
    assert cli.main(["card", "run", "-o", "model.md"]) == 0
    text = (folder / "model.md").read_text()
    digest = hashlib.sha256((folder / "run/checkpoint.safetensors").read_bytes()).hexdigest()
    for said in (
        "![images of the recipe](model.png)", "## Training\n", "| model | vit, 16 pixels |",
        f"| checkpoint | `checkpoint.safetensors`, SHA-256 `{digest}` |",
        "| length | 9 steps of 2 images: 133 images |", "| augmentation | `Crop()` |",
        "| versions | timm 8, torch 9 |",
        "| order | shuffled by Philox4x32-10, seed 3; `gpurender replay` shows any step again |",
        "| samples | positions 0 to 63 of epochs 0 to 1, then positions 0 to 4 of epoch 2; an epoch is 64 positions, "
        "each with another sample, new instances in every epoch |",
    ):  # fmt: skip
        assert said in text
    found = block("model.md")
    assert found["training"]["stream"] == stream
    assert "recipe" not in found["training"]["data"]
    assert {epoch for _, epoch, _ in found["canvases"]} == {0, 2}
    last = found["canvases"][-1]
    assert last[2] == hashlib.sha256(gr.Renderer(RECIPE)([63], 2).numpy().tobytes()).hexdigest()
    assert cli.main(["verify", "model.md"]) == 0
    assert capsys.readouterr().out.endswith("fingerprint and 64 canvases are as the card says\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 0, "position": 7, "images": 7}, "positions 0 to 6 of epoch 0; an epoch is 64 positions, each with"),
        ({"epoch": 1, "position": 0, "images": 64}, "positions 0 to 63 of epoch 0; an epoch"),
        ({"epoch": 0, "position": 0, "images": 0}, "none; an epoch is 64 positions"),
        ({"images": 134}, "up to position 5 of epoch 2; --accumulate was changed on the way"),
        (
            {"settings": {"batch_size": 12, "accumulate": 1}, "images": 125},
            "positions 0 to 59 of epochs 0 to 1, then positions 0 to 4 of epoch 2; an epoch is 64",
        ),
        (
            {"settings": {"batch_size": 65, "accumulate": 1}, "position": 0, "images": 130},
            "positions 0 to 63 of epochs 0 to 1; an epoch",
        ),
    ],
)
def test_the_samples_that_were_seen_in_words(changes, said):
    assert cards.samples_seen(about(**changes)).startswith(said)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("mixture", "shared among the recipes by their weights"), ("schedule", "each with a sample of its stage"),
        ("visualatom", "each with another sample"),
    ],
)  # fmt: skip
def test_the_order_of_an_epoch_in_words(family, said):
    found = about()
    found["data"]["recipe"] = {"family": family}
    assert cards.samples_seen(found).endswith(f"; an epoch is 64 positions, {said}")


def test_a_card_leaves_the_description_of_its_checkpoint_as_it_is(folder):
    trained(folder)
    subject = cards.subject_of(folder / "run")
    before = json.dumps(subject.about)
    first = cards.card(subject, "x.png", [(0, 0, "a")])
    assert json.dumps(subject.about) == before
    assert cards.card(subject, "x.png", [(0, 0, "a")]) == first


def test_repeated_samples_in_words():
    repeated = about(stream={"length": 64, "epoch": 0, "position": 6, "repeats": 3, "fresh": 0}, images=6)
    assert cards.samples_seen(repeated).endswith("; an epoch is 64 positions, 3 in a row with the same sample")


@pytest.mark.parametrize("number", [0, 17, 31])
def test_another_hash_is_said_in_one_line_and_exits_1(number, folder, capsys):
    cli.main(["card", "recipe.json"])
    sample, _, digest = block()["canvases"][number]
    other = "0" * 64
    (folder / "card.md").write_text((folder / "card.md").read_text().replace(digest, other))
    capsys.readouterr()
    assert cli.main(["verify", "card.md"]) == 1
    assert capsys.readouterr().err == (
        f"gpurender: error: canvas of sample {sample}, epoch 0 differs: the card says 000000000000…, and "
        f"{digest[:12]}… is drawn\n"
    )


def test_another_recipe_is_said_in_one_line_and_exits_1(folder, capsys):
    cli.main(["card", "recipe.json"])
    text = (folder / "card.md").read_text()
    (folder / "card.md").write_text(text.replace('"seed": 0', '"seed": 1'))
    capsys.readouterr()
    assert cli.main(["verify", "card.md"]) == 1
    changed = gr.recipe(RECIPE, seed=1).fingerprint
    assert capsys.readouterr().err == (
        f"gpurender: error: fingerprint differs: the card says {RECIPE.fingerprint[:12]}…, and its recipe has "
        f"{changed[:12]}… in gpurender {gr.__version__}\n"
    )


NONE = "CARD must be a card of gpurender card, with a block of JSON that has 'gpurender_card'"
DAMAGED = "CARD must have a recipe, a fingerprint and canvases in its JSON: one is missing or damaged"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NONE),
        ('```json\n{"a": 1}\n```', NONE),
        ("```json\n{\n```", NONE),
        ("```json\n[]\n```", NONE),
        ('```json\n{"gpurender_card": 2}\n```', "CARD has version 2, this gpurender reads 1"),
        ('```json\n{"gpurender_card": 1, "recipe": {}, "fingerprint": "a", "canvases": []}\n```', DAMAGED),
        ('```json\n{"gpurender_card": 1, "recipe": {}, "fingerprint": "a", "canvases": [[0, 0]]}\n```', DAMAGED),
        ('```json\n{"gpurender_card": 1, "recipe": {}, "fingerprint": 7, "canvases": [[0, 0, "a"]]}\n```', DAMAGED),
        ('```json\n{"gpurender_card": 1, "fingerprint": "a", "canvases": [[0, 0, "a"]]}\n```', DAMAGED),
    ],
)
def test_what_is_no_card_exits_2(text, message, folder, capsys):
    (folder / "card.md").write_text(text)
    assert cli.main(["verify", "card.md"]) == 2
    assert capsys.readouterr().err == f"gpurender: error: {message}\n"


def test_a_sample_that_the_recipe_does_not_have_exits_2(folder, capsys):
    cli.main(["card", "recipe.json"])
    text = (folder / "card.md").read_text()
    (folder / "card.md").write_text(text.replace("[63, 0,", "[64, 0,"))
    capsys.readouterr()
    assert cli.main(["verify", "card.md"]) == 2
    assert capsys.readouterr().err.startswith("gpurender: error: samples must be an integer in [0, 63], got 64")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["card", "recipe.json", "-o", "card.txt"], "output must end in .md, got 'card.txt'"),
        (["card", "nowhere.json"], "recipe 'nowhere.json' is neither a preset"),
        (["card", "nowhere.safetensors"], "checkpoint must be a file, and there is none at 'nowhere.safetensors'"),
        (["verify", "nowhere.md"], "CARD 'nowhere.md' cannot be read: No such file or directory"),
    ],
)
def test_wrong_input_exits_2_and_leaves_nothing(arguments, message, folder, capsys):
    pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"gpurender: error: {message}")
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]


def test_the_checkpoint_of_a_finetuning_is_refused(folder, capsys):
    pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    trained(folder, kind="finetune")
    assert cli.main(["card", "run/checkpoint.safetensors"]) == 2
    assert capsys.readouterr().err == (
        "gpurender: error: CHECKPOINT must be one of gpurender pretrain, 'run/checkpoint.safetensors' is one of "
        "finetune\n"
    )


def test_what_a_user_gave_to_the_recipe_is_said():
    own = gr.FractalDB(categories=[TRIANGLE] * 2, points=100, image_size=32)
    picture = gr.SingleImage(np.arange(64 * 64, dtype=np.uint64).reshape(64, 64).astype(np.uint8), classes=2)
    assert cards.GIVEN in cards.card(cards.Subject(own), "x.png", [(0, 0, "a")])
    both = cards.card(cards.Subject(gr.Mixture({own: 1, picture: 1})), "x.png", [(0, 0, "a")])
    assert (both.count(cards.GIVEN), both.count(cards.PICTURE)) == (1, 1)
    moving = gr.Schedule(gr.Mixture({own: 1, picture: 1}), weights=((0, (1, 1)), (5, (1, 2))))
    for recipe in (moving, moving.recipe):
        assert "| seed |" not in cards.card(cards.Subject(recipe), "x.png", [(0, 0, "a")])
    assert cards._given(moving) == [cards.GIVEN, cards.PICTURE]
    assert cards._given(gr.Noise(classes=2, instances=2, image_size=16)) == []
    assert cards.samples_of(gr.Noise(classes=2, instances=2, image_size=16)) == [0, 1, 2, 3]


def test_a_cell_of_a_table_stays_one_cell():
    assert cards._cell("a |\n b") == "a \\| b"
