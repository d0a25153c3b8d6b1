"""The commands pretrain, finetune and probe, as a user runs them."""

import json

import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.training.presets import PRESETS
from tests.support.pictures import image_folder

SMALL = ["--batch-size", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a recipe, pictures, and a checkpoint in ``run``."""
    pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")
    folder = tmp_path_factory.mktemp("commands")
    recipe = gr.OnePFrac(classes=8, points=500, image_size=32, fill_rate=0.0)
    (folder / "recipe.json").write_text(recipe.to_json())
    image_folder(folder / "pictures")
    command = ["pretrain", str(folder / "recipe.json"), "--model", "test_vit", "--output", str(folder / "run")]
    assert cli.main([*command, "--steps", "3", "--image-size", "32", "--tensorboard", *SMALL]) == 0
    return folder


def test_a_command_leaves_its_files(trained):
    assert {path.name for path in (trained / "run").iterdir()} == {
        "checkpoint.safetensors", "metrics.jsonl", "state.pt", "tensorboard",
    }  # fmt: skip
    [line] = (trained / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 3
    assert gr.training.describe(trained / "run" / "checkpoint.safetensors")["preset"] == "onepfrac"


def test_tensorboard_has_the_reports(trained):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    events = accumulator.EventAccumulator(str(trained / "run" / "tensorboard"))
    events.Reload()
    [line] = (trained / "run" / "metrics.jsonl").read_text().splitlines()
    [loss] = events.Scalars("loss")
    assert (loss.step, loss.value) == (3, pytest.approx(json.loads(line)["loss"], rel=1e-6))


def test_fine_tuning_and_probing_write_one_object(trained, tmp_path, capsys):
    where = [str(trained / "run" / "checkpoint.safetensors"), "--data", str(trained / "pictures")]
    for command, more in (
        ("finetune", ["--epochs", "1", "--output", str(tmp_path / "t")]),
        ("probe", ["--layers", "2"]),
    ):
        path = tmp_path / f"{command}.json"
        assert cli.main([command, *where, *more, "--labels-per-class", "4", "--json", str(path), *SMALL]) == 0
        found = json.loads(path.read_text())
        assert 0.0 <= found["accuracy"] <= 1.0
        assert (found["train_images"], found["test_images"]) == (12, 12)
    assert "accuracy 0." in capsys.readouterr().out


def test_the_listing_names_every_preset_and_its_source(capsys):
    assert cli.main(["pretrain", "--list"]) == 0
    shown = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert f"\n{name} " in shown
        assert f"{name}: {preset.source}" in shown
    row = next(line for line in shown.splitlines() if line.startswith("onepfrac "))
    assert row.split()[2:5] == ["61", "M", "256"]
    assert row.split()[5] == "17.1"  # 61,440,000 images at 1,000 a second


WRONG = [
    (["pretrain"], "RECIPE is missing"),
    (["pretrain", "onepfrac-1k", "--output", "x"], "--model is missing"),
    (["pretrain", "onepfrac-1k", "--model", "test_vit"], "--output is missing"),
    (["pretrain", "onepfrac-1k", "--model", "nothing", "--output", "x"], "model must be one of"),
    (["finetune", "none.safetensors", "--data", "x", "--output", "y"], "checkpoint must be a file"),
    (["probe", "none.safetensors", "--data", "x", "--layers", "a"], "layers must be numbers of blocks"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_arguments_exit_with_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not list(tmp_path.iterdir())
