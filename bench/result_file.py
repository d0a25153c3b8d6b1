"""The file of a result: what was measured, and on what."""

import json
from pathlib import Path
from typing import Any

from gpurender.util.atomic_files import replacing
from gpurender.util.environment import environment


def write(path: str | Path, **values: Any) -> None:
    """Write JSON with ``environment`` (machine, versions, commit) and the values by name.

    Args:
        path: of the file, whole or not there.
        values: JSON values; ``environment`` where another Python than this one was measured.
    """
    text = json.dumps({"environment": environment(), **values}, indent=1)
    with replacing(path) as temporary:
        Path(temporary).write_text(text + "\n", encoding="utf-8")
