"""``gpurender recipe``: JSON on standard output, as ``-o`` writes it, and what it stands for on standard error."""

import json
import subprocess
import sys

import pytest

import gpurender as gr
from gpurender.commands import cli, recipe
from tests.golden import TRIANGLE

MIXED = gr.Mixture({"onepfrac-1k": 1, gr.FractalDB(categories=[TRIANGLE], class_prior=1.0): 3})


@pytest.mark.parametrize("name", gr.presets())
def test_what_is_printed_is_the_recipe(name, capsys):
    assert cli.main(["recipe", name]) == 0
    out, errors = capsys.readouterr()
    assert gr.Recipe.from_json(out) == gr.recipe(name)
    assert list(json.loads(out)) == list(json.loads(gr.recipe(name).to_json()))  # in the same order
    size, fingerprint, paper = errors.splitlines()
    assert f"= {len(gr.recipe(name)):,} images of " in size
    assert fingerprint == f"fingerprint: {gr.recipe(name).fingerprint}"
    assert paper == f"paper: {gr.recipe(name).source}"


@pytest.mark.parametrize("made", [gr.OnePFrac(base=TRIANGLE, label_noise=0.1), MIXED, gr.VisualAtom(variant="paper")])
def test_the_text_has_a_line_per_parameter_and_is_lossless(made):
    text = recipe.as_text(made)
    assert gr.Recipe.from_json(text) == made
    assert len(text.splitlines()) == len(json.loads(made.to_json())) + 2


def test_a_file_holds_what_would_be_printed(tmp_path, capsys):
    path = tmp_path / "ten.json"
    assert cli.main(["recipe", "onepfrac-1k", "--set", "classes=10", "-o", str(path)]) == 0
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("10 classes x 1 image = 10 images of 512 x 512 pixels\n")
    assert cli.main(["recipe", "onepfrac-1k", "--set", "classes=10"]) == 0
    assert capsys.readouterr().out == path.read_text()
    assert gr.recipe(path) == gr.OnePFrac(classes=10)
    assert cli.main(["recipe", str(path), "--set", "seed=1"]) == 0
    assert gr.Recipe.from_json(capsys.readouterr().out) == gr.OnePFrac(classes=10, seed=1)


def test_a_pipe_holds_json_alone(root, tmp_path):
    command = [sys.executable, "-m", "gpurender", "recipe", "visualatom-1k", "--set", "variant=paper"]
    with open(tmp_path / "r.json", "wb") as file:
        done = subprocess.run(
            command, cwd=root, stdout=file, stderr=subprocess.PIPE, text=True, timeout=300, check=True
        )
    assert gr.recipe(tmp_path / "r.json") == gr.VisualAtom(variant="paper")
    assert "paper: Takashima" in done.stderr


SETTINGS = [
    ("onepfrac-1k", ["classes=10", "seed=3"], gr.OnePFrac(classes=10, seed=3)),
    ("onepfrac-1k", ["variant=paper"], gr.OnePFrac(variant="paper")),
    ("onepfrac-1k", ['variant="paper"'], gr.OnePFrac(variant="paper")),
    ("onepfrac-1k", ["sigma=4e0", "label_noise=null"], gr.OnePFrac(sigma=4.0)),
    ("onepfrac-1k", [f"base={json.dumps(TRIANGLE)}"], gr.OnePFrac(base=TRIANGLE)),
    ("visualatom-1k", ["orbits=[1, 2]", "noise_level= [0, 1]"], gr.VisualAtom(orbits=(1, 2), noise_level=(0, 1))),
    ("fractaldb-1k", ["weights=small", "flips=1"], gr.FractalDB(weights="small", flips=1)),
]


@pytest.mark.parametrize(("name", "settings", "wanted"), SETTINGS)
def test_settings_are_json_or_text(name, settings, wanted, capsys):
    """Before and after the recipe."""
    words = [word for setting in settings for word in ("--set", setting)]
    for arguments in ([name, *words], [*words, name]):
        assert cli.main(["recipe", *arguments]) == 0
        assert gr.Recipe.from_json(capsys.readouterr().out) == wanted


WRONG = [
    (["onepfrac1k"], "did you mean 'onepfrac-1k'?"),
    (["onepfrac-1k", "--set", "clases=10"], "did you mean 'classes'?"),
    (["onepfrac-1k", "--set", "image-size=64"], "did you mean 'image_size'?"),
    (["onepfrac-1k", "--set", "classes"], "--set must be NAME=VALUE"),
    (["onepfrac-1k", "--set", "=3"], "no parameter ''"),
    (["onepfrac-1k", "--set", "classes=1", "--set", "classes=2"], "'classes' twice"),
    (["onepfrac-1k", "--set", "classes=ten"], "classes must be an integer in [1, 10000000], got 'ten'"),
    (["onepfrac-1k", "--set", "seed=" + 5000 * "1"], "seed must be an integer"),
    (["onepfrac-1k", "--set", "base=" + 100_000 * "["], "base must be"),
    (["onepfrac-1k", "--set", "sigma=NaN"], "sigma must be"),
    (["onepfrac-1k", "-o", "no/such/folder/r.json"], "no/such/folder"),
]


@pytest.mark.parametrize(("arguments", "complaint"), WRONG)
def test_wrong_input_exits_2_with_one_line(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recipe", *arguments]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert len(errors.splitlines()) == 1
    assert complaint in errors
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_file(tmp_path, capsys):
    assert cli.main(["recipe", "onepfrac-1k", "--set", "classes=0", "-o", str(tmp_path / "r.json")]) == 2
    assert list(tmp_path.iterdir()) == []
    assert "classes must be" in capsys.readouterr().err


def test_the_size_counts_images():
    assert recipe.size(gr.OnePFrac()) == "1,000 classes x 1 image = 1,000 images of 512 x 512 pixels"
    assert recipe.size(gr.FractalDB()) == "1,000 classes x 1,000 images = 1,000,000 images of 362 x 362 pixels"
    long_tail = gr.VisualAtom(classes=3, instances=100, class_prior=(4, 2, 1))
    assert recipe.size(long_tail) == "3 classes x 25 to 100 images = 175 images of 512 x 512 pixels"
    assert recipe.size(gr.OnePFrac(classes=1)) == "1 class x 1 image = 1 image of 512 x 512 pixels"
