"""A virtual environment as a user would have it, but for the time that an installation takes."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "first_light", "results")


class FreshVenv(NamedTuple):
    """Folders of a virtual environment."""

    binaries: Path
    site: Path


def run(command, folder, **environment):
    """Return the standard output of a command that succeeds."""
    words = [str(word) for word in command]
    environment = {**os.environ, **environment}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fresh_venv(folder):
    """Make a virtual environment with pip and all that this one has, through links, except this project."""
    run([sys.executable, "-m", "venv", folder], folder)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run([folder / "bin/python", "-c", code], folder)[:-1])
    links = folder / "links"
    links.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not re.search("gpurender|^pip", entry.name) and not (links / entry.name).exists():
                (links / entry.name).symlink_to(entry)
    (site / "links.pth").write_text(f"{links}\n")
    return FreshVenv(folder / "bin", site)


def copied_project(folder):
    """Copy the sources of the project."""
    return Path(shutil.copytree(ROOT, folder, symlinks=True, ignore=NOT_SOURCE))
