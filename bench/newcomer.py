"""How long a newcomer waits on a CPU, from `gpurender explore` to a replayed step, without installing.

    python -m bench.newcomer [--python PYTHON] [--json FILE]

The steps: the page's server prints its address; the first picture; a parameter is changed; the recipe is copied as JSON
and trained on, three steps of a small model; one of these steps is replayed. First with an empty cache folder, in which
kernels are compiled, then with the folder that the first walk left. PYTHON is one that has gpurender with the extras
`serve` and `train`, such as a fresh virtual environment's; by default this one.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from bench import result_file
from gpurender.util.atomic_files import check_writable

ROOT = Path(__file__).parents[1]
CHANGED = {"orbits": "[1, 60]"}
TRAINING = "--model test_vit --steps 3 --batch-size 8 --image-size 64 --device cpu --output run"


def drawn(address: str, settings: dict[str, str]) -> dict[str, Any]:
    """Return the server's answer for the recipe that the page opens with, some parameters changed."""
    body = json.dumps({"slot": "newcomer", "recipe": "visualatom-1k", "set": settings}).encode()
    headers = {"Content-Type": "application/json"}
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{address}api/draw", body, headers)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:  # kernels are being compiled: the page asks again, too
                raise


def explored(python: str, folder: Path, surroundings: dict[str, str], seconds: dict[str, float]) -> None:
    """Open the page, change a parameter, keep the recipe as JSON, and note the seconds of each."""
    words = [python, "-m", "gpurender", "explore", "--port", "0", "--no-browser"]
    since = time.perf_counter()

    def noted(name: str) -> None:
        nonlocal since
        seconds[name] = round(time.perf_counter() - since, 2)
        since = time.perf_counter()

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=surroundings, cwd=folder) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            noted("address")
            drawn(address, {})
            noted("first picture")
            recipe = drawn(address, CHANGED)["json"]
            noted("changed picture")
            (folder / "mine.json").write_text(recipe, encoding="utf-8")
        finally:
            server.send_signal(signal.SIGINT)


def walked(python: str, folder: Path, cache: Path) -> dict[str, float]:
    """Walk the whole path in a folder, and return the seconds of its steps."""
    surroundings = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
    surroundings["GPURENDER_CACHE_DIR"] = str(cache)
    if python == sys.executable:  # of this checkout
        surroundings["PYTHONPATH"] = str(ROOT)
    seconds: dict[str, float] = {}
    explored(python, folder, surroundings, seconds)
    for words in (f"pretrain mine.json {TRAINING}", "replay run --steps 1 -o seen.png --json seen.json"):
        since = time.perf_counter()
        command = [python, "-m", "gpurender", *words.split()]
        subprocess.run(command, env=surroundings, cwd=folder, check=True, capture_output=True)
        seconds[words.partition(" ")[0]] = round(time.perf_counter() - since, 2)
    return seconds


def environment_of(python: str) -> dict[str, Any]:
    """Return what a Python runs on, with its own versions; the commit is that of this checkout."""
    code = "import json; from gpurender.util.environment import environment; print(json.dumps(environment()))"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(found.stdout)


def main() -> None:
    """Walk twice, print the seconds, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.json is not None:
        check_writable(options.json)
    walks = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            with tempfile.TemporaryDirectory() as folder:
                walks[name] = walked(options.python, Path(folder), Path(cache))
            print(name, ", ".join(f"{step} {seconds:.2f} s" for step, seconds in walks[name].items()), flush=True)
    if options.json is not None:
        result_file.write(options.json, environment=environment_of(options.python), seconds=walks)


if __name__ == "__main__":
    main()
