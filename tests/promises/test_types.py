"""What a type checker sees of an installation: names, and the types of batches, in a user's script outside the tree."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpurender.loading import data_loader
from tests.support import user_script
from tests.support.fresh_venv import copied_project, fresh_venv, run


@pytest.fixture(scope="module")
def editable(tmp_path_factory):
    """The Python of an environment with an editable installation, as ``pip install -e .`` makes it."""
    home = tmp_path_factory.mktemp("types")
    project = copied_project(home / "project")
    folder = home / "venv"
    folder.mkdir()
    binaries, _ = fresh_venv(folder)
    options = ["-q", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation"]
    run([binaries / "python", "-m", "pip", "install", *options, "-e", project], home, PYTHONPATH="", HOME=str(home))
    return binaries / "python"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The user's script in a folder of the user's, from which no part of the checkout can be seen."""
    return shutil.copy(user_script.__file__, tmp_path_factory.mktemp("user") / "script.py")


def test_mypy_reads_an_editable_installation(editable, script, tmp_path):
    pytest.importorskip("mypy", reason="needs mypy, of the extra 'test'")
    command = [
        sys.executable, "-m", "mypy", "--strict", "--python-executable", editable, "--cache-dir", tmp_path, script,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr


def test_pyright_reads_an_editable_installation(editable, script, tmp_path):
    if importlib.util.find_spec("pyright") is None and shutil.which("pyright") is None:
        pytest.skip("needs pyright")  # no extra: its package downloads the program when it first runs
    settings = {"enableTypeIgnoreComments": True, "reportUnnecessaryTypeIgnoreComment": "error"}
    shutil.copy(script, tmp_path / "script.py")
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    program = [shutil.which("pyright")] if shutil.which("pyright") else [sys.executable, "-m", "pyright"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*program, "--pythonpath", editable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines()[-1:] == ["0 errors, 0 warnings, 0 informations"], done.stdout + done.stderr


def test_the_script_s_types_are_those_of_a_run(editable, script, tmp_path):
    run([editable, script], tmp_path, PYTHONPATH="")


def test_overloads_of_the_loader_take_the_same_arguments():
    tree = ast.parse(Path(data_loader.__file__).read_text())
    loader = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "DataLoader")
    makers = [node.args for node in loader.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    assert len(makers) == 4

    def names(arguments):
        return [each.arg for each in arguments.args], [each.arg for each in arguments.kwonlyargs]

    def shared(arguments):
        """Annotations and defaults, apart from those that decide the type of the batches."""
        every = [*arguments.args, *arguments.kwonlyargs]
        defaults = [*arguments.defaults, *arguments.kw_defaults]
        pairs = zip(reversed(every), reversed([None] * (len(every) - len(defaults)) + defaults), strict=True)
        return {
            each.arg: (each.annotation and ast.unparse(each.annotation), default and ast.unparse(default))
            for each, default in pairs
            if each.arg not in ("self", "augment", "collate_fn")
        }

    for overload in makers[:-1]:
        assert names(overload) == names(makers[-1])
        assert shared(overload) == shared(makers[-1])
