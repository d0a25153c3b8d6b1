"""Wheel and sdist: built from a copy of the tree, complete, and at work in an empty directory outside the checkout."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import gpurender as gr

NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "first_light", "results")
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image"}  # import name -> name on PyPI, where they differ


def run(command, folder, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """Folder with an sdist and the wheel that was built from it; one kernel had a .cu and a .cuh."""
    pytest.importorskip("build", reason="needs the package build, of the extra 'test'")
    copy = tmp_path_factory.mktemp("checkout") / "gpurender"
    shutil.copytree(root, copy, symlinks=True, ignore=NOT_SOURCE)
    (copy / "kernels/chaos_game/packaged.cu").write_text("// a kernel\n")
    (copy / "kernels/chaos_game/packaged.cuh").write_text("// a header\n")
    dist = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist], copy)
    return dist


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel's contents as pip lays them out."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    run([*pip, "--target", target, next(built.glob("*.whl"))], built)
    return target


def library_files(root):
    """Every Python file of the library, as the wheel names it."""
    return {path.relative_to(root).as_posix() for path in files_below(root / "gpurender") if path.suffix == ".py"}


def files_below(folder):
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (type(folder)(parent) / name for name in names)


def test_wheel_holds_the_library_and_nothing_else(root, built):
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    sources = {
        "gpurender/py.typed",
        "gpurender/kernels/chaos_game/packaged.cu",
        "gpurender/kernels/chaos_game/packaged.cuh",
    }
    assert inside == library_files(root) | sources
    assert "gpurender/kernels/__init__.py" not in inside


def test_wheel_metadata(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Name"] == "gpurender"
    assert metadata["Version"] == gr.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert {"cuda12", "cuda13", "dali-cuda12", "dali-cuda13", "train", "test", "dev"} <= set(
        metadata.get_all("Provides-Extra")
    )
    assert any(member.endswith("/licenses/LICENSE") for member in wheel.namelist())


def test_sdist_builds_without_links(built):
    """The wheel above came from this sdist; it holds the kernels once, as files, so it unpacks anywhere."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert not any(member.issym() or member.islnk() for member in members)
    assert {"LICENSE", "README.md", "CHANGELOG.md", "setup.py", "pyproject.toml"} <= names
    assert "gpurender/kernels/chaos_game/packaged.cu" in names


def test_wheel_draws_in_an_empty_directory(installed, tmp_path):
    code = """
        import gpurender as gr
        assert gr.__file__.startswith({site!r}), gr.__file__
        recipe = gr.OnePFrac(classes=2, image_size=32, points=500, fill_rate=0.0)
        canvas = gr.Renderer(recipe)(1)
        print(tuple(canvas.shape), canvas.dtype, int(canvas.max()) > 0)
    """
    code = re.sub(r"^ {8}", "", code, flags=re.MULTILINE).format(site=str(installed))
    output = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(installed))
    assert output == "(1, 1, 32, 32) torch.uint8 True\n"


def test_console_command(installed, tmp_path):
    output = run([installed / "bin/gpurender", "--version"], tmp_path, PYTHONPATH=str(installed))
    assert output == f"gpurender {gr.__version__}\n"


def imports(paths):
    """Top-level names of other libraries that these files import."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {name.partition(".")[0] for name in names}
    siblings = {path.stem for path in paths} | {"gpurender"}
    return {DISTRIBUTIONS.get(name, name) for name in found - sys.stdlib_module_names - siblings}


def declared(built, extra):
    """Names of the distributions that ``pip install gpurender[extra]`` asks for."""
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    needs = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist")
    return {re.match(r"[\w-]+", need)[0] for need in needs if "extra ==" not in need or f'extra == "{extra}"' in need}


OPTIONAL = {"cupy", "triton", "nvidia"}  # imported only where found
"""Libraries that the library itself imports only when they are there."""


@pytest.mark.parametrize(("folder", "extra"), [("gpurender", ""), ("examples", "train"), ("tests", "test")])
def test_what_is_imported_is_declared(root, built, folder, extra):
    paths = [path for path in files_below(root / folder) if path.suffix == ".py"]
    assert imports(paths) - OPTIONAL - declared(built, extra) == set()
