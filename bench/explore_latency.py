"""How long `gpurender explore` takes from a changed parameter to its answer, for every preset, at 512 x 512 pixels.

    python -m bench.explore_latency [--repeats N] [--json FILE]

Each request changes a parameter, so no renderer or catalog is kept from the request before: the seed; where another
seed means another search, the number of points; of a picture of one's own the thresholds of its edges, which takes
longer than a seed. The time is that of the whole answer (picture as PNG in JSON, values, bounds of all parameters,
fingerprint, Python) through Starlette's test client, without a network: on the clock, and of the process's CPU time,
which other programs on the same core lengthen less. Needs the extra `test`.
"""

import argparse
import statistics
import time
from typing import Any

from starlette.testclient import TestClient

from bench import result_file
from gpurender.commands.explorer.application import Page, application
from gpurender.recipes.base import presets, recipe
from gpurender.util.atomic_files import check_writable

SIDE = 512
OTHERS = ("moire", "mixture", "schedule", "singleimage")  # families without presets


def changed(base: str, number: int) -> dict[str, str]:
    """Return settings of a base that no other request has."""
    if base in ("mixture", "schedule"):
        return {"weights": f"[1, {number + 1}]"} if base == "mixture" else {"knots": f'{{"delta": [[0, 0.{number}1]]}}'}
    if base == "singleimage":
        return {"image_size": str(SIDE), "thresholds": f"[0.1, {0.2 + number / 1000}]"}
    searched = base in presets() and "categories" in recipe(base).to_json()
    return {"image_size": str(SIDE)} | ({"points": str(100_000 + number)} if searched else {"seed": str(number + 1)})


def measured(client: TestClient, base: str, repeats: int) -> list[tuple[float, float]]:
    """Return the milliseconds of some requests, on the clock and of the CPU, after one that compiles and searches."""
    times = []
    for number in range(repeats + 1):
        body: dict[str, Any] = {"slot": "bench", "recipe": base, "set": changed(base, number)}
        begin, busy = time.perf_counter(), time.process_time()
        while (answer := client.post("/api/draw", json=body)).status_code == 503:
            pass  # kernels are being compiled: the page asks again, too
        times.append((1000.0 * (time.perf_counter() - begin), 1000.0 * (time.process_time() - busy)))
        if answer.status_code != 200:
            raise RuntimeError(f"{base}: {answer.text}")
    return times[1:]


def row(base: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    """Return the times of a recipe as the file states them."""
    clock, busy = zip(*times, strict=True)
    medians = {"median_ms": statistics.median(clock), "slowest_ms": max(clock), "cpu_ms": statistics.median(busy)}
    return {"recipe": base, **{name: round(value, 1) for name, value in medians.items()}}


def main() -> None:
    """Measure and print every preset, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.json is not None:
        check_writable(options.json)
    client, rows = TestClient(application(Page()), base_url="http://127.0.0.1"), []
    for base in (*presets(), *OTHERS):
        rows.append(found := row(base, measured(client, base, options.repeats)))
        print(
            f"{base:20} {found['median_ms']:8.1f} ms   slowest {found['slowest_ms']:8.1f} ms   CPU "
            f"{found['cpu_ms']:8.1f} ms",
            flush=True,
        )
    if options.json is not None:
        result_file.write(options.json, repeats=options.repeats, answers=rows)


if __name__ == "__main__":
    main()
