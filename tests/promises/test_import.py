"""Import is free: nothing but the standard library is loaded, nothing is printed, written or asked of a network."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

import gpurender as gr

# An audit hook sees every open, rename, socket … of the interpreter, whoever asks for it.
WATCHED_IMPORT = """
    import json, os, sys

    refused = []

    def watch(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "subprocess.Popen")
        if writes or changes or event.startswith("socket."):
            refused.append([event, repr(args)])

    before = set(sys.modules)
    sys.addaudithook(watch)
    {statement}
    found = {{"events": refused[:], "modules": sorted(set(sys.modules) - before)}}
    sys.__stdout__.write(json.dumps(found))
"""


def watched(statement, folder):
    """Events and modules of a statement that a fresh interpreter runs in an empty folder and that prints nothing."""
    code = textwrap.dedent(WATCHED_IMPORT).format(statement=statement)
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code],  # -B: bytecode is Python's own cache, not ours
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)  # anything printed besides would not parse


@pytest.fixture
def in_root(root, monkeypatch):
    monkeypatch.chdir(root)


@pytest.mark.usefixtures("in_root")
def test_import_loads_only_itself_and_the_standard_library(tmp_path):
    found = watched("import gpurender", tmp_path)
    others = {name.partition(".")[0] for name in found["modules"]} - sys.stdlib_module_names
    assert others == {"gpurender"}


@pytest.mark.usefixtures("in_root")
def test_import_writes_nothing_and_asks_no_network(tmp_path):
    assert watched("import gpurender", tmp_path)["events"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_root")
def test_the_watch_sees_writes_and_sockets(tmp_path):
    found = watched("open('x', 'w').close(); import socket; socket.socket().close()", tmp_path)
    assert [event for event, _ in found["events"]] == ["open", "socket.__new__"]


def test_every_public_name_resolves():
    contract = {
        "DataLoader",
        "Dataset",
        "FractalDB",
        "OnePFrac",
        "Recipe",
        "Renderer",
        "VisualAtom",
        "augment",
        "presets",
        "recipe",
    }
    assert contract <= set(gr.__all__)
    for name in gr.__all__:
        assert getattr(gr, name) is not None
        assert name in dir(gr)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = gr.nonesuch


def test_kernels_is_no_regular_package(root, tmp_path):
    """A library of that name wins over the folder, even where the checkout is the working directory."""
    assert not (root / "kernels" / "__init__.py").exists()
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("owner = 'another library'\n")
    code = "import sys; sys.path.append(sys.argv[1]); import kernels; print(kernels.owner)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "another library\n"
