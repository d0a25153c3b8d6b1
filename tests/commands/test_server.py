"""The commands: experts are built, private images scored, a recipe recommended and trained on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpurender as gr
from gpurender.commands import cli
from tests.server.support import FILES, MODEL, file_server, pictures, recipe, recipe_server

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
SMALL = ["--model", MODEL, "--image-size", 32, "--images", 32, "--batch-size", 8, "--device", "cpu"]
Z = {"ant": 0.3, "bee": 0.7, "cow": 0.65}


def run(*words):
    return cli.main(list(map(str, words)))


@pytest.fixture
def server(tmp_path):
    recipe_server(tmp_path / "server")
    (tmp_path / "z.json").write_text(json.dumps(Z))
    return tmp_path / "server"


def test_from_recipes_to_a_recipe(tmp_path, capsys):
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(recipe(number).to_json())
    folder, mine = tmp_path / "server", tmp_path / "mine"
    names = [f"visualatom-{recipe(number).fingerprint[:12]}" for number in range(3)]
    build = ["experts", "build", tmp_path / "0.json", tmp_path / "1.json", "-o", folder]
    assert run(*build, *SMALL, "--lr", 0.01, "--seed", 3) == 0
    assert capsys.readouterr().out.splitlines() == names[:2]
    schooling = gr.DataServer(folder).catalogue.provenance["schooling"]
    assert schooling == {
        "task": "rotation", "model": MODEL, "image_size": 32, "images": 32, "batch_size": 8, "lr": 0.01, "seed": 3,
    }  # fmt: skip
    assert run("experts", "add", folder, tmp_path / "2.json", "--device", "cpu") == 0
    assert re.fullmatch(rf"[01]\.\d{{4}}  {names[0]}\n[01]\.\d{{4}}  {names[1]}\n", capsys.readouterr().out)
    pictures(mine, 3)
    assert run("adapt", folder, mine, "-o", tmp_path / "z.json", "--device", "cpu") == 0
    scores = json.loads((tmp_path / "z.json").read_text())
    assert scores == gr.DataServer(folder).adapt(mine, device="cpu")
    shown = capsys.readouterr().out.splitlines()
    assert sorted(shown, reverse=True) == shown
    assert {line[8:] for line in shown} == set(names[:2])
    assert run("recommend", folder, tmp_path / "z.json", "--budget", "2k", "-o", tmp_path / "r.json") == 0
    found = gr.recipe(tmp_path / "r.json")
    assert found == gr.DataServer(folder).recommend(scores, budget=2000).recipe
    capsys.readouterr()
    again = ["recommend", folder, "--task", mine, "--device", "cpu", "--budget", "2000", "-o", tmp_path / "s.json"]
    assert run(*again) == 0
    assert (tmp_path / "s.json").read_bytes() == (tmp_path / "r.json").read_bytes()
    shown = capsys.readouterr().out
    expert = re.search(r"^start from expert (\S+): (.+)$", shown, re.MULTILINE)
    assert gr.DataServer(folder).expert(expert[1]) == Path(expert[2])
    words = ["--model", MODEL, "--initial-checkpoint", expert[2], "--steps", 1, "--batch-size", 4, "--device", "cpu"]
    assert run("pretrain", tmp_path / "r.json", *words, "--image-size", 32, "--output", tmp_path / "trained") == 0
    about = gr.training.describe(tmp_path / "trained" / "checkpoint.safetensors")
    assert about["data"]["began_with"]["kind"] == "expert-rotation"


def test_slurm_gets_an_array_of_builds(tmp_path, sbatch, capsys, root, monkeypatch):
    (tmp_path / "0.json").write_text(recipe().to_json())
    folder = tmp_path / "my server"
    small = [*SMALL[:-2], "--engine", "slurm", "--seed", 3]
    monkeypatch.chdir(tmp_path)
    assert run("experts", "build", "0.json", "-k", 1, *small, "--workers", 2, "-o", folder) == 0
    assert capsys.readouterr().out == "job 4711: 2 workers\n"
    [noted] = map(json.loads, sbatch[0].read_text().splitlines())
    assert noted[2:5] == ["--array=0-1", "--job-name=gpurender-my server", f"--output={folder}/slurm-%A_%a.log"]
    command = noted[5].removeprefix("--wrap=")
    env = {**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run(["/bin/sh", "-c", command], env=env, cwd="/", timeout=300, check=True)  # a cluster's default folder
    assert gr.DataServer(folder).catalogue.provenance["schooling"] == {
        "task": "rotation", "model": MODEL, "image_size": 32, "images": 32, "batch_size": 8, "lr": 1e-3, "seed": 3,
    }  # fmt: skip


def test_an_engine_is_refused_before_anything_is_written(tmp_path, capsys, monkeypatch):
    for words, said in {
        ("--engine", "slurm"): "--engine slurm needs --workers N",
        ("--engine", "dask"): "--engine must be one of 'local', 'ray', 'slurm', got 'dask'",
        ("--engine", "ray", "--device", "cpu"): "--device is for --engine local",
        ("--workers", 2): "--workers is for --engine ray or slurm",
        ("--address", "auto"): "--address is for --engine ray",
        ("--engine", "ray", "--workers", 0): "workers must be an integer in [1, 100000], got 0",
        ("--engine", "slurm", "--workers", -3): "workers must be an integer in [1, 100000], got -3",
    }.items():
        assert run("experts", "build", "onepfrac-1k", "-o", tmp_path / "server", *words) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    for engine, said in {"ray": "needs the extra 'ray'", "slurm": "needs the program sbatch, and there is"}.items():
        assert (
            run("experts", "build", "onepfrac-1k", "-o", tmp_path / "server", "--engine", engine, "--workers", 2) == 1
        )
        assert said in capsys.readouterr().err
    assert not (tmp_path / "server").exists()


def test_what_is_recommended(server, tmp_path, capsys):
    words = ["recommend", server, tmp_path / "z.json", "--budget", "10M", "--json", tmp_path / "j.json"]
    assert run(*words, "-o", tmp_path / "r.json") == 0
    expected = gr.DataServer(server).recommend(Z, budget="10M")
    assert (tmp_path / "j.json").read_text() == expected.to_json()
    out = capsys.readouterr()
    assert out.out.splitlines() == [
        "  77.7%     7,770,000 images  bee",
        "  22.3%     2,230,000 images  cow",
        "   0.0%             0 images  ant",
        f"start from expert bee: {server / 'experts' / 'bee.safetensors'}",
        "expected gain (score): +0.1389; best single source bee +0.1500; equal mixture +0.0000",
    ]
    assert out.err == ""
    assert run(*words) == 0
    out = capsys.readouterr()
    assert gr.recipe(out.out) == expected.recipe
    assert out.err.splitlines()[-2].startswith("start from expert bee: ")
    assert run(*words, "--max-share", 0.5, "-o", tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "j.json").read_text())["weights"]["bee"] == 0.5


def test_files_are_recommended_as_a_list(tmp_path, capsys):
    file_server(tmp_path / "server")
    (tmp_path / "z.json").write_text(json.dumps(Z))
    words = ["recommend", tmp_path / "server", tmp_path / "z.json", "--budget", "80B", "--seed", 4]
    assert run(*words, "-o", tmp_path / "files.txt") == 0
    listed = (tmp_path / "files.txt").read_text().splitlines()
    assert tuple(listed) == gr.DataServer(tmp_path / "server").recommend(Z, budget="80B", seed=4).files
    sizes = dict(tuple(row) for rows in FILES.values() for row in rows)
    assert 0 < sum(sizes[name] for name in listed) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recommend", "{s}", "--budget", "1k"], "recommend needs either the file of gpurender adapt or --task DATA"),
        (["recommend", "{s}", "{z}", "--task", "{s}", "--budget", "1k"], "and not both"),
        (["recommend", "{s}", "{z}", "--budget", "many"], "budget must be images, such as 50000 or 10M, or bytes"),
        (["recommend", "{s}", "{z}", "--budget", "0"], "budget must be images"),
        (["recommend", "{s}", "{z}", "--budget", "2GB"], "budget must be images for a server of recipes, got '2GB'"),
        (["recommend", "{s}", "{z}", "--budget", "1k", "--max-share", "0.1"], "max_share must be at least 1/3"),
        (["recommend", "{s}", "{s}/none.json", "--budget", "1k"], "none.json' cannot be read: No such file"),
        (["recommend", "{s}", "{bad}", "--budget", "1k"], "bad.json' is no JSON: "),
        (["recommend", "{s}", "{list}", "--budget", "1k"], "must hold a JSON object of experts and numbers"),
        (["recommend", "{s}", "{z}", "--budget", "1k", "-o", "{s}/no/r.json"], "there is no folder"),
        (["recommend", "{s}", "{z}", "--budget", "1k", "--json", "{s}/no/r.json"], "there is no folder"),
        (["recommend", "{s}/no", "{z}", "--budget", "1k"], "server must be a folder or an http address"),
        (["adapt", "{s}", "{s}/nothing", "-o", "{s}/o.json"], "nothing"),
        (["adapt", "{s}", "{s}", "-o", "{s}/no/o.json"], "there is no folder"),
        (["adapt", "{s}", "{s}", "-o", "{s}/o.json"], "has no image"),
        (["experts", "build", "onepfrac-1q", "-o", "{s}x"], "did you mean 'onepfrac-1k'?"),
        (["experts", "build", "onepfrac-1k", "-o", "{s}"], "must be new, empty or a server; it has files but no plan"),
        (["experts", "build", "onepfrac-1k", "-o", "{s}x", "--task", "sing"], "task must be one of 'rotation', 'class"),
        (["experts", "build", "onepfrac-1k", "-o", "{s}x", "-k", "2"], "k must be 1, the number of recipes"),
        (["experts", "add", "{s}", "{s}/none.json"], "none.json"),
    ],
)
def test_wrong_words_are_refused_in_one_line(server, tmp_path, capsys, words, said):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    places = {"s": server, "z": tmp_path / "z.json", "bad": tmp_path / "bad.json", "list": tmp_path / "list.json"}
    before = sorted(path.name for path in server.iterdir())
    assert run(*(word.format(**places) for word in words)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("gpurender: error: ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in server.iterdir()) == before
    assert not (tmp_path / "serverx").exists()
