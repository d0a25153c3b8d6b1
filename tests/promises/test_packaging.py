"""Wheel and sdist: built from a copy of the tree, complete, and at work in an empty directory outside the checkout."""

import ast
import email
import os
import re
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

import gpurender as gr
from tests.support.fresh_venv import copied_project, fresh_venv, run
from trials.versions import lower_bounds

SOURCES = {".py", ".cu", ".cuh", ".json", ".typed", ".html", ".css", ".js", ".svg"}
OPTIONAL = {  # what the library imports only when asked, or where found
    "cupy",
    "matplotlib",
    "nvidia",
    "timm",
    "triton",
    "typing_extensions",  # torch and type checkers bring it
}
DISTRIBUTIONS = {  # import name to name on PyPI, where they differ
    "PIL": "pillow", "cosmic_ray": "cosmic-ray", "sklearn": "scikit-learn",
}  # fmt: skip


def files_below(folder):
    """Paths relative to a folder, through links."""
    parents = os.walk(folder, followlinks=True)
    return {Path(parent, name).relative_to(folder) for parent, _, names in parents for name in names}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the tree in which one kernel has CUDA sources."""
    copy = copied_project(tmp_path_factory.mktemp("checkout") / "gpurender")
    (copy / "kernels/chaos_game/packaged.cu").write_text("// a kernel\n")
    (copy / "kernels/chaos_game/packaged.cuh").write_text("// a header\n")
    return copy


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory):
    """Folder with an sdist and the wheel that was built from that sdist."""
    pytest.importorskip("build", reason="needs the package build, of the extra 'test'")
    dist = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist], checkout)
    return dist


STACKS = {
    "accelerate", "dali-cuda12", "dali-cuda13", "jax", "lightning", "ray", "search", "serve", "torchdata", "train",
    "transformers",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel as pip lays it out."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    run([*pip, "--target", target, next(built.glob("*.whl"))], built)
    return target


def test_wheel_holds_the_library_and_nothing_else(checkout, wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    library = files_below(checkout / "gpurender")
    assert inside == {f"gpurender/{path}" for path in library if path.suffix in SOURCES}
    assert "gpurender/kernels/chaos_game/packaged.cu" in inside
    assert "gpurender/kernels/__init__.py" not in inside
    page = {"index.html", "main.js", "style.css", "icon.svg"}
    assert {f"gpurender/commands/explorer/static/{name}" for name in page} <= inside


def test_wheel_metadata(wheel, metadata):
    assert metadata["Name"] == "gpurender"
    assert metadata["Version"] == gr.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    extras = {*STACKS, "cuda12", "cuda13", "plot", "docs", "fuzz", "test", "dev"}
    assert set(metadata.get_all("Provides-Extra")) == extras
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())
    oldest = metadata["Requires-Python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in metadata.get_all("Classifier")


def test_every_requirement_of_a_user_has_a_lower_bound(metadata):
    bounds = lower_bounds(metadata.get_all("Requires-Dist"), {"cuda12", "cuda13", "train"})
    assert set(bounds) >= {
        "cupy-cuda12x",
        "cupy-cuda13x",
        "numba",
        "numpy",
        "pillow",
        "timm",
        "torch",
        "tqdm",
        "triton",
    }


def test_sdist_unpacks_without_links(root, built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert all(member.isreg() or member.isdir() for member in members)
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "setup.py", "pyproject.toml"} <= names
    folders = [root / name for name in ("bench", "docs", "examples", "trials")]
    written = {path for folder in folders for path in folder.iterdir() if path.is_file()}
    assert {str(path.relative_to(root)) for path in written if path.suffix in (".md", ".png", ".py", ".sh")} <= names
    assert "gpurender/kernels/chaos_game/packaged.cu" in names


def test_wheel_draws_in_an_empty_directory(installed, tmp_path):
    code = f"""
        import gpurender as gr
        assert gr.__file__.startswith({str(installed)!r}), gr.__file__
        recipe = gr.OnePFrac(classes=2, image_size=32, points=500, fill_rate=0.0)
        canvas = gr.Renderer(recipe)(1)
        print(tuple(canvas.shape), canvas.dtype, int(canvas.max()) > 0)
    """
    output = run([sys.executable, "-c", textwrap.dedent(code)], tmp_path, PYTHONPATH=str(installed))
    assert output == "(1, 1, 32, 32) torch.uint8 True\n"


def test_console_command_of_the_wheel(installed, tmp_path):
    output = run([installed / "bin/gpurender", "--version"], tmp_path, PYTHONPATH=str(installed))
    assert output == f"gpurender {gr.__version__}\n"


def imported(folder):
    """Distributions that the Python files of a folder import, besides the standard library and each other."""
    found = set()
    for path in files_below(folder):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse((folder / path).read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add(node.module.partition(".")[0])
    siblings = {path.stem for path in folder.iterdir()} | {"gpurender", "tests", "trials", "bench"}
    return {DISTRIBUTIONS.get(name, name) for name in found - sys.stdlib_module_names - siblings}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("gpurender", STACKS),
        ("examples", STACKS),
        ("tests", {"test"}),
        ("trials", {"test", "fuzz"}),
        ("bench", {"test"}),
    ],
)
def test_what_is_imported_is_declared(root, metadata, folder, extras):
    needs = [need.partition(";") for need in metadata.get_all("Requires-Dist")]
    declared = {
        re.match(r"[\w-]+", need)[0]
        for need, _, when in needs
        if not when or any(f'"{extra}"' in when for extra in extras)
    }
    assert imported(root / folder) <= declared | OPTIONAL


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return fresh_venv(tmp_path_factory.mktemp("venv"))


def test_readme_s_commands_follow_each_other_in_one_folder(fresh, tmp_path, monkeypatch):
    """Train, test, train, a picture drawn after each, then uninstall: what pip leaves would be an empty package."""
    binaries, site = fresh
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    copied_project(project)
    elsewhere.mkdir()
    kept = os.path.join(os.environ["NUMBA_CACHE_DIR"], "gpurender")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("GPURENDER_CACHE_DIR", kept)
    monkeypatch.setenv("HOME", str(tmp_path))  # setuptools does not build for a user without one
    pip = [binaries / "python", "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    draw = (
        "import gpurender as gr; gr.Renderer(gr.OnePFrac(classes=1, points=500, image_size=32))(0); print(gr.__file__)"
    )
    use = [binaries / "python", "-c", f"{draw}; gr.DataLoader"]
    for how, home in (([project], site), (["-e", project], project), ([project], site)):
        run([*install, *how], project)
        for folder in (elsewhere, project) if home is project else (elsewhere,):
            assert run([binaries / "gpurender", "--version"], folder) == f"gpurender {gr.__version__}\n"
            assert run(use, folder) == f"{home / 'gpurender/__init__.py'}\n"
    run([*pip, "uninstall", "-y", "-q", "gpurender"], elsewhere)
    found = "import importlib.util; print(importlib.util.find_spec('gpurender'))"
    assert run([binaries / "python", "-c", found], elsewhere) == "None\n"
    assert [entry.name for entry in site.iterdir() if "gpurender" in entry.name] == []
    assert not (binaries / "gpurender").exists()
