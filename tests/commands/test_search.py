"""The command: a study is made, worked on, looked at, and gives a recipe."""

import json
import os
import re
import subprocess

import pytest

import gpurender as gr
from gpurender.commands import cli, search
from tests.search.support import TEMPLATE, task

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")


@pytest.fixture
def files(tmp_path):
    """A space and a task as files; the task's path is relative to its file."""
    (tmp_path / "space.json").write_text(json.dumps({**TEMPLATE, "model": "test_vit"}))
    task(tmp_path, "digits")
    (tmp_path / "tasks.json").write_text('{"digits": {"data": "digits.npz", "labels_per_class": 5}}')
    return ["--space", str(tmp_path / "space.json"), "--tasks", str(tmp_path / "tasks.json")]


def run(*words):
    return cli.main(["search", *map(str, words)])


def test_from_a_space_to_a_recipe(tmp_path, files, capsys):
    folder = tmp_path / "study"
    assert run("init", folder, *files, "--images", "16,32", "--eta", 2, "--configs", 2, "--finetune-steps", 1,
               "--seeds", 1, "--patience", 30) == 0  # fmt: skip
    assert capsys.readouterr().out == f"{folder}: 2 configs of 4 parameters, 1 tasks\n"
    assert run("work", folder, "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert out.endswith("3 results here; 2 of 2 configs finished\n")
    assert run("status", folder, "--json", tmp_path / "status.json") == 0
    status = json.loads((tmp_path / "status.json").read_text())
    assert [status[name] for name in ("configs", "finished", "running", "stuck")] == [2, 2, 0, 0]
    assert status["best"]["rung"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 of 2 configs, 2 finished, 0 running, 0 stuck; results per rung: 2, 1"
    assert re.match(r" +[01]  rung 1  +-?\d\.\d{4}  ", lines[1])
    assert len(lines) == 4
    assert run("best", folder, "-o", tmp_path / "recipe.json", "--task", "digits") == 0
    found = gr.recipe(tmp_path / "recipe.json")
    assert json.loads(found.to_json()) == status["best"]["recipe"]
    capsys.readouterr()
    assert run("best", folder) == 0
    assert gr.recipe(capsys.readouterr().out) == found
    assert run("report", folder, "-o", tmp_path / "report.html") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert "<title>Study study</title>" in (tmp_path / "report.html").read_text()
    pytest.importorskip("optuna", reason="needs optuna, of the extra 'search'")
    assert run("export", folder, "--optuna", f"sqlite:///{tmp_path}/o.db") == 0
    assert capsys.readouterr().out == f"2 trials written to sqlite:///{tmp_path}/o.db\n"
    study = gr.search.Study(folder)
    assert study.ladder == gr.search.Ladder((16, 32), 2, 1, 1)
    assert (study.configs, study.patience, study.seed, study.proposer) == (2, 30.0, 0, "random")


def test_two_objectives_show_the_front(tmp_path, files, capsys):
    folder = tmp_path / "study"
    assert run("init", folder, *files, "--objectives", "accuracy,seconds", "--configs", 2) == 0
    study = gr.search.Study(folder)
    assert study.objectives == ("accuracy", "seconds")
    study.desk.folder.make()
    capsys.readouterr()
    assert run("status", folder) == 0
    assert "not beaten" not in capsys.readouterr().out
    for number, (score, seconds) in enumerate(((0.25, 8.0), (0.5, 12.5))):
        config = study.space.random(0, number)
        study.desk.folder.add_config(number, config)
        figures = {"digits": {"score": score, "accuracy": score}}
        values = {"rung": 0, "score": score, "tasks": figures, "seconds": {"training": seconds}}
        study.desk.publish(config.key, 0, values)
    assert run("status", folder) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "not beaten in both: config 0 (0.2500 in 8 s), config 1 (0.5000 in 12.5 s)"
    assert run("best", folder, "--seconds", 8) == 0
    assert gr.recipe(capsys.readouterr().out) == study.space.random(0, 0).recipe
    assert run("best", folder, "--seconds", 3) == 2
    assert "no config was trained within 3 seconds; the quickest took 8" in capsys.readouterr().err


def test_slurm_gets_an_array_of_workers_that_work(tmp_path, files, sbatch, capsys, root):
    folder = tmp_path / "my study"
    small = ["--images", "16", "--configs", 1, "--finetune-steps", 1, "--seeds", 1]
    assert run("init", folder, *files, *small) == 0
    capsys.readouterr()
    assert run("work", folder, "--engine", "slurm", "--workers", 8, "--minutes", 0) == 0
    assert capsys.readouterr().out == "job 4711: 8 workers\n"
    [noted] = map(json.loads, sbatch[0].read_text().splitlines())
    assert noted[:5] == [
        "--parsable", "--requeue", "--array=0-7", "--job-name=gpurender-my study",
        f"--output={folder}/slurm-%A_%a.log",
    ]  # fmt: skip
    [wrapped] = noted[5:]
    command = wrapped.removeprefix("--wrap=")
    assert command.endswith(f" -m gpurender search work '{folder}' --minutes 0.0")
    env = {**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["/bin/sh", "-c", command], env=env, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "0 results here; 0 of 1 configs finished\n"
    assert run("work", folder, "--engine", "slurm", "--workers", 1, "--together", 4) == 0
    assert json.loads(sbatch[0].read_text().splitlines()[-1])[-1].endswith(f" work '{folder}' --together 4")


def test_how_many_go_together_is_checked(tmp_path, files, capsys, monkeypatch):
    monkeypatch.setattr(gr.search.Study, "work", None)
    assert run("init", tmp_path / "study", *files) == 0
    capsys.readouterr()
    for words, text in {
        ("--together", 0): "--together must be an integer in [1, 64], got 0",
        ("--together", 65): "--together must be an integer in [1, 64], got 65",
        ("--together", 65, "--engine", "ray"): "--together must be an integer in [1, 64], got 65",
    }.items():
        assert run("work", tmp_path / "study", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(text)


def test_what_slurm_refuses_is_one_line(tmp_path, files, sbatch, capsys, monkeypatch):
    folder = tmp_path / "study"
    assert run("init", folder, *files) == 0
    slurm = ("--engine", "slurm", "--workers", 2)
    sbatch[1].write_text("refuse")
    cases = {
        slurm: (1, "sbatch refused: sbatch: error: Invalid account"),
        ("--engine", "slurm"): (2, "--engine slurm needs --workers N"),
        ("--engine", "slurm", "--workers", 0): (2, "workers must be an integer in [1, 100000], got 0"),
        (*slurm, "--device", "cpu"): (2, "--device is for --engine local: an engine gives each worker its GPU"),
        ("--engine", "ray", "--device", "cpu"): (2, "--device is for --engine local: an engine gives each"),
        ("--engine", "ray", "--workers", 0): (2, "workers must be an integer in [1, 100000], got 0"),
        ("--engine", "ray", "--minutes", -1): (2, "minutes must be a finite number in [0, 1e+09], got -1.0"),
        ("--workers", 2): (2, "--workers is for --engine ray or slurm; on this machine start the command several"),
        (*slurm, "--address", "auto"): (2, "--address is for --engine ray"),
        ("--address", "auto"): (2, "--address is for --engine ray"),
        ("--engine", "dask"): (2, "--engine must be one of 'local', 'ray', 'slurm', got 'dask'"),
    }
    for words, (code, text) in cases.items():
        assert run("work", folder, *words) == code
        assert text in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("work", folder, *slurm) == 1
    assert "engine 'slurm' needs the program sbatch, and there is none here" in capsys.readouterr().err


def test_a_space_of_a_family_is_printed(capsys):
    assert run("space", "fractaldb-1k", "--model", "test_vit") == 0
    space = gr.search.Space.from_json(capsys.readouterr().out)
    assert space.template["model"] == "test_vit"
    assert space.template["recipe"]["points"] == {"log": [100_000, 400_000]}
    assert run("space", "nds-categories") == 0
    printed = gr.search.Space.from_json(capsys.readouterr().out)
    assert printed.template["model"] == {"choice": ["resnet18", "resnet50", "resnet152"]}


FORMS = {
    '{"a": {"data": "a.npz"}}': ["a"],
    '{"a": "a.npz", "b": "sub/b.npz"}': ["a", "b"],
    '["a.npz", {"data": "sub/a.npz", "labels_per_class": 3}]': ["a", "a-1"],
    '{"data": "a.npz"}': ["a"],
    '"sub/my task.npz"': ["my-task"],
    '["CIFAR10:data/cifar"]': ["cifar"],
}


@pytest.mark.parametrize("text", FORMS)
def test_tasks_take_several_forms(tmp_path, text):
    (tmp_path / "tasks.json").write_text(text)
    found = search.read_tasks(tmp_path / "tasks.json")
    assert list(found) == FORMS[text]
    for made in found.values():
        assert f"{tmp_path}/" in made.data
        assert made.data.startswith(("/", "CIFAR10:/"))


WRONG = {
    '3': "must be a JSON object of tasks by name, or a list of tasks",
    '{}': "must be a JSON object of tasks by name, or a list of tasks",
    '{"a": 3}': "--tasks: task 'a': a task must be a JSON object, got 3",
    '{"a": {"data": "x", "labels": 3}}': "--tasks: task 'a': a task has no entry 'labels'",
    '{': "is not JSON",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_bad_tasks_are_one_line(tmp_path, files, capsys, text):
    (tmp_path / "tasks.json").write_text(text)
    assert run("init", tmp_path / "study", *files) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert WRONG[text] in line
    assert not (tmp_path / "study").exists()


def test_bad_arguments_are_one_line(tmp_path, files, capsys):
    for words, text in {
        ("--images", "1,x"): "--images must be integers with commas between them, got '1,x'",
        ("--images", "2,1"): "images must ascend",
        ("--objectives", "speed"): "objectives must be ('accuracy',) or ('accuracy', 'seconds'), got ['speed']",
        ("--proposer", "best"): "proposer must be one of 'random', 'grid', 'tpe', 'gp', got 'best'",
    }.items():
        assert run("init", tmp_path / "study", *files, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    for part in ("work", "status", "best"):
        assert run(part, tmp_path / "nothing") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "holds no study" in line
    (tmp_path / "space.json").unlink()
    assert run("init", tmp_path / "study", *files) == 2
    assert "space.json' cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_worker_gets_its_device_and_its_time(tmp_path, files, monkeypatch):
    assert run("init", tmp_path / "study", *files) == 0
    seen = []
    monkeypatch.setattr(gr.search.Study, "work", lambda self, *words, **more: seen.append((words, more)) or 0)
    assert run("work", tmp_path / "study", "--device", "cuda:7", "--minutes", 3) == 0
    assert run("work", tmp_path / "study", "--together", 64) == 0
    assert seen == [((3.0,), {"device": "cuda:7", "together": 1}), ((None,), {"device": None, "together": 64})]
