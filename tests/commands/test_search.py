"""The command: a study is made, worked on, looked at, and gives a recipe."""

import json
import re

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
