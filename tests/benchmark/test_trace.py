"""A trace of a loader: a file that Chrome and Perfetto read, with the stages by name."""

import json

import pytest

import gpurender as gr
from gpurender.benchmark import trace
from gpurender.commands import cli

RECIPE = gr.Noise(classes=2, instances=3, image_size=16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trace, "IMAGE_SIZE", 16)
    (tmp_path / "recipe.json").write_text(RECIPE.to_json())
    return tmp_path


def test_a_trace_has_the_stages_of_its_batches(folder, capsys):
    arguments = ["bench", "recipe.json", "--trace", "trace.json", "--batch-size", "2", "--device", "cpu"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == "trace.json: 8 batches, for ui.perfetto.dev\n"
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    names = [event["name"] for event in events if str(event.get("name")).startswith("gpurender: ")]
    spans = [event for event in events if event.get("name") == "gpurender: batch" and event.get("ph") == "X"]
    assert {name.removeprefix("gpurender: ") for name in names} == {
        "wait", "batch", "parameters", "canvases", "augmentation", "last launches",
    }  # fmt: skip
    assert len(spans) == trace.BATCHES == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trace", "x.txt"], "output must end in .json, got 'x.txt'"),
        (["--trace", "x.json", "--batch-size", "0"], "batch_size must be an integer in [1, 65536], got 0"),
        (["--trace", "x.json", "--json", "y"], "--json must be left out with --trace, which measures nothing, got 'y'"),
        (
            ["--trace", "x.json", "--train", "m"],
            "--train must be left out with --trace, which measures nothing, got 'm'",
        ),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(arguments, message, folder, capsys):
    assert cli.main(["bench", "recipe.json", *arguments]) == 2
    assert capsys.readouterr().err == f"gpurender: error: {message}\n"
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]
