"""The commands pretrain, finetune and probe, as a user runs them."""

import contextlib
import inspect
import json

import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.training import engine
from gpurender.training.presets import PRESETS
from tests.support.modules import module
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
    assert row.split()[5:7] == ["17.1", "1.7"]  # 61,440,000 images at 1,000 and at 10,000 a second


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


FIGURES = {"accuracy": 0.12344, "test_images": 12_345, "layers": [{"layer": 2, "linear": 0.5, "knn": 0.25}]}
NEEDED = {
    "pretrain": (["r", "--model", "m", "--output", "o"], ("r", "m", "o")),
    "finetune": (["c", "--data", "d", "--output", "o"], ("c", "d", "o")),
    "probe": (["c", "--data", "d"], ("c", "d")),
}
COMMON = {
    "batch_size": 3, "accumulate": 2, "lr": 0.5, "weight_decay": 0.25, "ema": 0.75, "clip": 1.5, "amp": "bf16",
    "compile": True, "device": "cuda:1", "seed": 7, "log_every": 4, "save_every": 5, "tensorboard": True,
}  # fmt: skip
OF_TASK = {"labels_per_class": 6, "from_scratch": True, "image_size": 64, "workers": 8}
OPTIONS = {
    "pretrain": {
        **COMMON, "preset": "deit", "initial_checkpoint": "c", "steps": 11, "images": 12, "image_size": 64,
        "augment": "crop", "fresh": True, "schedule": "constant", "warmup": 13,
    },
    "finetune": {
        **COMMON, **OF_TASK, "validation": 0.125, "epochs": 9, "steps": 14, "optimizer": "adamw", "mixup": 0.5,
        "cutmix": 0.25, "drop_path": 0.75, "warm_up": "noise", "minutes": 2.5,
    },
    "probe": {**OF_TASK, "layers": [1, 2, 6], "batch_size": 3, "device": "cuda:1", "seed": 7},
}  # fmt: skip


def words(options):
    """The words of a command line that give these values."""
    found = []
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        found += [f"--{name.replace('_', '-')}"] + [text] * (value is not True)
    return found


@pytest.fixture
def called(monkeypatch):
    """Calls of the functions that the commands are for; and that several processes end together."""
    calls = []

    @contextlib.contextmanager
    def together():
        calls.append("together")
        yield

    monkeypatch.setattr(engine, "together", together)
    for name in NEEDED:
        monkeypatch.setattr(
            module(f"gpurender.training.{name}"), name, lambda *given, **more: calls.append((given, more)) or FIGURES
        )
    return calls


@pytest.mark.parametrize("command", NEEDED)
def test_what_is_not_given_is_the_function_s_own(called, command):
    own = inspect.signature(getattr(gr.training, command)).parameters
    line, given = NEEDED[command]
    assert cli.main([command, *line]) == 0
    assert called[-1] == (given, {name: each.default for name, each in own.items() if each.kind == each.KEYWORD_ONLY})
    assert called[:-1] == ["together"] * (command != "probe")


@pytest.mark.parametrize("command", NEEDED)
def test_every_option_is_handed_on(called, command):
    line, given = NEEDED[command]
    assert cli.main([command, *line, *words(OPTIONS[command])]) == 0
    assert called[-1] == (given, OPTIONS[command])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("finetune", "accuracy 0.1234 on 12,345 images\n"),
        ("probe", "layer   2  linear 0.5000  neighbours 0.2500\n"),
    ],
)
def test_figures_are_said_and_written(called, tmp_path, capsys, command, said):
    path = tmp_path / "figures.json"
    assert cli.main([command, *NEEDED[command][0], "--json", str(path)]) == 0
    assert capsys.readouterr().out == said
    assert path.read_text() == json.dumps(FIGURES, indent=2) + "\n"
    called.clear()
    assert cli.main([command, *NEEDED[command][0], "--json", str(tmp_path / "none" / "figures.json")]) == 2
    assert called == []  # before long work


def test_a_checkpoint_s_path_is_printed(called, capsys):
    assert cli.main(["pretrain", *NEEDED["pretrain"][0]]) == 0
    assert capsys.readouterr().out == f"{FIGURES}\n"


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        (["finetune", "c", "--data", "d"], "--output"), (["finetune", "c", "--output", "o"], "--data"),
        (["finetune", "--data", "d", "--output", "o"], "CHECKPOINT"), (["probe", "c"], "--data"),
    ],
)  # fmt: skip
def test_what_is_needed_is_named(called, capsys, line, missing):
    with pytest.raises(SystemExit) as ended:
        cli.main(line)
    assert ended.value.code == 2
    assert missing in capsys.readouterr().err
    assert called == []
