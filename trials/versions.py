"""Versions: does the suite's core pass on the oldest versions that the metadata allow, and on the newest?

    python -m trials.versions python3.10 python3.13 --json FILE
    python -m trials.versions python3.10 --sets oldest oldest-cuda --folder /scratch --keep

For each interpreter and each set a virtual environment is made, the project is installed there from this checkout, and
the core is run. The lower bounds of the metadata (``setup.py``) are the oldest versions, and nothing else states them.

    oldest       each package at its lower bound, torch included: the core on a CPU. On the oldest Python alone, because
                 newer ones have no such wheels.
    oldest-cuda  the extra ``cuda12`` at its lower bounds, with the torch that brings this Triton: the kernels of GPUs,
                 interpreted and compiled. On the oldest Python as well.
    newest       what pip chooses today: the core, on every interpreter.

An environment has up to 7 GB and is deleted after its run. The package ``build`` must be installed here.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from gpurender.util.atomic_files import check_writable, replacing

ROOT = Path(__file__).resolve().parents[1]
CORE = (
    *("tests/recipes", "tests/test_renderer.py", "tests/test_dataset.py", "tests/loading", "tests/augment"),
    "tests/numerics",
)
KERNELS = ("tests/kernels/test_triton.py", "tests/kernels/test_launchers.py", "tests/promises/test_gpu_path.py")
LIMIT = 3600  # seconds for the tests of a set
TOOLS = ("hypothesis", "psutil", "pytest", "scikit-image", "scipy")  # the tests'; in the versions that fit
REPORTED = ("cupy", "numba", "numpy", "pillow", "timm", "torch", "torchvision", "tqdm", "triton")


class Set(NamedTuple):
    """A set of versions.

    Attributes:
        extras: of the project, that are installed.
        pinned: whether the packages are taken at their lower bounds.
        free: packages that are not pinned although the others are.
        tests: arguments of pytest.
    """

    extras: tuple[str, ...]
    pinned: bool
    free: tuple[str, ...]
    tests: tuple[str, ...]


SETS = {
    "oldest": Set(("train",), True, (), CORE),
    "oldest-cuda": Set(("train", "cuda12"), True, ("torch",), KERNELS),
    "newest": Set(("train",), False, (), CORE),
}


def lower_bounds(requirements: Iterable[str], extras: Iterable[str]) -> dict[str, str]:
    """Return the lower bound of each package that the project or one of the extras requires.

    Args:
        requirements: ``Requires-Dist`` of the metadata.
        extras: names of extras.

    Raises:
        ValueError: a requirement has no lower bound, naming it. torchvision may lack one: each has one torch.
    """
    bounds = {}
    for requirement in requirements:
        said, _, marker = requirement.partition(";")
        extra = re.search(r"extra == [\"'](.+?)[\"']", marker)
        if extra and extra[1] not in extras:
            continue
        found = re.fullmatch(r"([\w.-]+)\s*>=\s*([\d.]+)", said.strip())
        if found:
            bounds[found[1].lower()] = found[2]
        elif said.strip() != "torchvision":
            raise ValueError(f"the requirement {said.strip()!r} must have one lower bound, such as 'numpy>=1.24.4'")
    return bounds


def requirements() -> list[str]:
    """Return ``Requires-Dist`` of this checkout."""
    from build.util import project_wheel_metadata

    return project_wheel_metadata(ROOT, isolated=False).get_all("Requires-Dist") or []


def constraints(chosen: Set) -> list[str]:
    """Return the lines of pip's file of constraints for a set."""
    if not chosen.pinned:
        return []
    bounds = lower_bounds(requirements(), chosen.extras)
    return [f"{name}=={version}" for name, version in sorted(bounds.items()) if name not in chosen.free]


def install(interpreter: str, folder: Path, chosen: Set) -> Path:
    """Make an environment with the project and what the tests need; return its Python.

    Raises:
        subprocess.CalledProcessError: a version cannot be installed, for instance as this Python has no wheel of it.
    """
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    pinned = folder / "constraints.txt"
    pinned.write_text("".join(f"{line}\n" for line in constraints(chosen)))
    project = f"{ROOT}[{','.join(chosen.extras)}]"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-cache-dir", "-c", pinned]
    subprocess.run([*pip, "-e", project, *TOOLS], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the installed versions of an environment, by package, and Python's."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True)
    found = {
        re.sub(r"^cupy-cuda\w+$", "cupy", each["name"].lower()): each["version"] for each in json.loads(listed.stdout)
    }
    said = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout
    return {"python": said.split()[1], **{name: found[name] for name in REPORTED if name in found}}


def run_tests(python: Path, tests: Iterable[str], folder: Path) -> dict[str, Any]:
    """Run tests in an environment; return the numbers of those that passed, failed and were skipped, and their names.

    An error outside the tests, for instance in a module that cannot be imported, counts as a failure; so does a run
    in which no test passes, or that takes longer than ``LIMIT``.
    """
    report = folder / "report.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    try:
        code = subprocess.run(command, cwd=ROOT, check=False, timeout=LIMIT).returncode
    except subprocess.TimeoutExpired:
        return {"passed": 0, "skipped": 0, "failed": [f"pytest took longer than {LIMIT} s"]}
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if _has(case, "failure", "error")]
    skipped = sum(_has(case, "skipped") for case in cases)
    if code and not failed:
        failed = [f"pytest ended with exit status {code}"]
    passed = max(0, len(cases) - len(failed) - skipped)
    return {"passed": passed, "skipped": skipped, "failed": failed or ([] if passed else ["no test passed"])}


def _has(case: ElementTree.Element, *outcomes: str) -> bool:
    return any(case.find(outcome) is not None for outcome in outcomes)


def trial(interpreter: str, name: str, folder: Path) -> dict[str, Any]:
    """Install a set and run its tests; return a row of the result."""
    began = time.monotonic()
    row: dict[str, Any] = {"interpreter": Path(interpreter).name, "set": name}
    try:
        python = install(interpreter, folder, SETS[name])
    except (OSError, subprocess.CalledProcessError) as error:
        return row | {"failed": [f"not installed: {error}"], "seconds": round(time.monotonic() - began)}
    row |= {"versions": versions(python), "environment_gb": round(_bytes(folder) / 1e9, 2)}
    row |= run_tests(python, SETS[name].tests, folder)
    return row | {"seconds": round(time.monotonic() - began)}


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of text."""
    found = " ".join(f"{name} {version}" for name, version in row.get("versions", {}).items())
    counts = f"{row.get('passed', 0)} passed, {len(row['failed'])} failed, {row.get('skipped', 0)} skipped"
    return f"{row['set']}: {counts}, {row['seconds']} s, {row.get('environment_gb', 0):.1f} GB; {found}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreters", nargs="+", metavar="PYTHON", help="interpreters, the oldest first")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where environments are made")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    parser.add_argument("--json", metavar="FILE", help="write the result there")
    options = parser.parse_args()
    if options.json:
        check_writable(options.json)
    rows = []
    for i, interpreter in enumerate(options.interpreters):
        for name in options.sets:
            if SETS[name].pinned and i > 0:
                continue
            folder = Path(tempfile.mkdtemp(prefix=f"gpurender-{name}-", dir=options.folder))
            try:
                rows.append(trial(interpreter, name, folder))
            finally:
                if not options.keep:
                    shutil.rmtree(folder, ignore_errors=True)
            print(line(rows[-1]), flush=True)
            if options.json:
                with replacing(options.json) as temporary:
                    Path(temporary).write_text(json.dumps({"versions": rows}, indent=1) + "\n")
    sys.exit(any(row["failed"] for row in rows))


if __name__ == "__main__":
    main()
