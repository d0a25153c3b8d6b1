"""What tests of several commands share."""

import sys

import pytest

SBATCH = """#!{python}
import json, sys
open({out!r}, "a").write(json.dumps(sys.argv[1:]) + chr(10))
if "refuse" in open({mode!r}).read():
    print("sbatch: error: Invalid\\naccount", file=sys.stderr)
    sys.exit(1)
print("4711;cluster")
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A program of this name that notes its arguments; what it noted, and how it is told to refuse."""
    program, out, mode = tmp_path / "bin" / "sbatch", tmp_path / "noted", tmp_path / "mode"
    program.parent.mkdir()
    mode.touch()
    program.write_text(SBATCH.format(python=sys.executable, out=str(out), mode=str(mode)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return out, mode
