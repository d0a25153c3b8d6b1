"""What ``loader.stats()`` costs: the same loader measured and not measured, in turn.

    python -m bench.loader_stats [--device D] [--rounds N] [--processes N] [--json FILE]

A round is one window of batches each of three series, in an order that turns from round to round: *off*, *on*
(``loader.measured = True``) and *again*, which is off once more. Windows of one round are neighbours in time, so their
ratio is what is compared: on with off, and again with off, which is the noise of the comparison. Where code and data
lie in memory differs from process to process, and moves the difference by half a percent, so the rounds are spread over
several processes; the interval is that of all windows, the medians of the processes stand beside it. What the loader
does when it is off cannot be taken out of it, so that is counted: the stages of a batch, times the nanoseconds of one
that is not measured; and the same of one that is. On a CPU everything runs on one thread, and seconds are those of its
CPU time, which other processes do not stretch.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
import timeit
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

import gpurender as gr
from bench import result_file
from gpurender.benchmark.timing import paired_percent, spread
from gpurender.loading.watch import Watch, stage
from gpurender.runtime import devices
from gpurender.util.atomic_files import check_writable
from gpurender.util.progress import progress

SERIES = ("off", "on", "again")
SETTINGS: dict[str, tuple[Any, int, int, str, int]] = {  # name: recipe, batch size, side, policy, batches of a window
    "usual": ("onepfrac-1k", 256, 224, "deit", 1),
    "small": (
        "onepfrac-1k",
        8,
        32,
        "crop",
        25,
    ),  # as little work per batch as anyone asks for; short windows, for speed drifts
}


def endless(loader: Any) -> Iterator[Any]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def window(loader: Any, batches: Iterator[Any], count: int, device: torch.device) -> float:
    """Return the seconds of ``count`` batches."""
    clock = time.perf_counter if devices.on_gpu(device) else time.process_time
    begin = clock()
    for _ in range(count):
        next(batches)
    if devices.on_gpu(device):
        torch.cuda.synchronize(device)
    return clock() - begin


def seconds_of(loader: Any, count: int, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of the windows of each series, round by round."""
    batches = endless(loader)
    found: dict[str, list[float]] = {name: [] for name in SERIES}
    window(loader, batches, len(loader) + 1, device)  # compiled, and what repeats is kept
    with progress(total=rounds, desc="rounds", unit="round") as bar:
        for number in range(rounds):
            turn = number % len(SERIES)
            for name in SERIES[turn:] + SERIES[:turn]:
                loader.measured = name == "on"
                found[name].append(window(loader, batches, count, device))
            bar.update()
    return found


def of_process(setting: tuple[Any, int, int, str, int], rounds: int, device_name: str) -> dict[str, Any]:
    """Measure a setting in this process; return the seconds, the stages and their costs."""
    torch.set_num_threads(1)
    device = devices.resolve(device_name)
    recipe, batch_size, side, policy, count = setting
    loader = gr.DataLoader(
        recipe, batch_size, shuffle=True, drop_last=True, image_size=side, augment=policy, device=device
    )
    found = seconds_of(loader, count, rounds, device)
    loader.measured = True
    next(iter(loader))
    return {
        "seconds": found,
        "stages": 1 + len(loader.stats()["stage_ms"]),  # with that of waiting
        "ns_per_stage": {"off": nanoseconds(None), "on": nanoseconds(Watch(device))},
    }


def measured(name: str, rounds: int, processes: int, device_name: str) -> dict[str, Any]:
    """Return the figures of a setting, whose rounds several processes share one after the other."""
    _, batch_size, side, policy, count = SETTINGS[name]
    runs = []
    for _ in range(processes):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
            runs.append(one.submit(of_process, SETTINGS[name], rounds, device_name).result())
    found = {who: [seconds for run in runs for seconds in run["seconds"][who]] for who in SERIES}
    costs = {who: statistics.median(run["ns_per_stage"][who] for run in runs) for who in SERIES[:2]}
    stages, batch = runs[0]["stages"], statistics.median(found["off"]) / count
    return {
        "setting": name, "batch_size": batch_size, "image_size": side, "augment": policy, "batches_per_window": count,
        "processes": processes, "rounds_per_process": rounds,
        "images_per_second": {who: spread([count * batch_size / s for s in some], 1) for who, some in found.items()},
        "on_percent": percent(found["on"], found["off"]),
        "again_percent": percent(found["again"], found["off"]),
        "on_percent_of_processes": [percent(run["seconds"]["on"], run["seconds"]["off"])["median"] for run in runs],
        "stages": stages, "ns_per_stage": {who: round(cost, 1) for who, cost in costs.items()},
        "counted_percent": {who: round(1e2 * stages * cost / 1e9 / batch, 4) for who, cost in costs.items()},
    }  # fmt: skip


def nanoseconds(watch: Watch | None) -> float:
    """Return the nanoseconds that a stage takes which holds nothing."""

    def empty() -> None:
        with stage(watch, "batch"):
            pass

    return 1e9 * min(timeit.repeat(empty, number=1000, repeat=20)) / 1000


def percent(some: list[float], others: list[float]) -> dict[str, Any]:
    """Return by how many percent windows take longer than those beside them: the median, and its 95 % interval."""
    middle = statistics.median(one / other for one, other in zip(some, others, strict=True))
    low, high = paired_percent(some, others)
    return {"median": round(1e2 * (middle - 1.0), 2), "interval": [round(low, 2), round(high, 2)]}


def main() -> int:
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--rounds", type=int, default=200, help="of each process, at least 5 (default 200)")
    parser.add_argument("--processes", type=int, default=4, help="of each setting (default 4)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    options = parser.parse_args()
    if options.json:
        check_writable(options.json)
    devices.resolve(options.device)  # refused before anything is measured
    found = []
    for name in SETTINGS:
        row = measured(name, options.rounds, options.processes, options.device)
        found.append(row)
        rates = ", ".join(f"{who} {each['median']:,.0f}" for who, each in row["images_per_second"].items())
        on, again = (
            f"{each['median']:+.2f} % ({each['interval'][0]:+.2f} to {each['interval'][1]:+.2f})"
            for each in (row["on_percent"], row["again_percent"])
        )
        print(f"{name}: images/s {rates}; on {on}, noise {again}; counted {row['counted_percent']} %")
    if options.json:
        result_file.write(options.json, loader_stats=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
