"""Kills of ``gpurender search work`` at random moments: does a study lose, repeat or change anything?

    python -m trials.kill_search --json FILE    # --kills 200, --workers 4, --every 2.0, --configs 40, --seed S

Two studies of the same configs: one is left alone, the workers of the other are killed by SIGKILL at random moments,
one every ``--every`` seconds on average, and replaced. A study begins again with other configs until the kills are
reached. Then nothing may be stuck; every config, promotion and result must be that of the undisturbed study, bit for
bit; and no worker may have ended in another way than by a kill or at its end. The row says how many jobs were published
by two workers (0: none), and the throughput beside that of the undisturbed workers. Workers are forked from a process
that has imported everything, so a kill costs what is under way and not an import. Needs the extra ``train``. Exit
status 1 if anything differs.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import gpurender as gr
from gpurender.util.atomic_files import replacing
from gpurender.util.environment import environment

LADDER = gr.search.Ladder((256, 512, 1024), eta=2, finetune_steps=4, seeds=2)
PATIENCE = 10.0  # seconds
LONGEST = 1800.0  # seconds of a study
SPACE = {
    "recipe": {"choice": [
        {"family": "visualatom", "classes": 4, "instances": {"range": [4, 16]}, "image_size": 32, "orbits": [2, 4],
         "radius": [4, 8]},
        {"family": "onepfrac", "classes": 4, "points": {"log": [500, 4000]}, "image_size": 32},
    ]},
    "model": "test_vit",
    "training": {"image_size": 32, "batch_size": 16, "lr": {"log": [1e-4, 1e-2]}},
}  # fmt: skip


def make(folder: Path, name: str, configs: int, seed: int) -> gr.search.Study:
    """Make a study of two small tasks."""
    tasks = {}
    for number, task in enumerate(("a", "b")):
        generator = np.random.default_rng(number)
        labels = np.arange(60) % 3
        pixels = (generator.integers(0, 200, (60, 16, 16)) + 25 * labels[:, None, None]).astype(np.uint8)
        np.savez(folder / f"{task}.npz", x_train=pixels, y_train=labels, x_test=pixels[::-1], y_test=labels[::-1])
        tasks[task] = gr.tasks.Task(folder / f"{task}.npz")
    space = gr.search.Space(SPACE)
    return gr.search.create(folder / name, space, tasks, ladder=LADDER, configs=configs, seed=seed, patience=PATIENCE)


def work(root: Path) -> None:
    """Work on a study, silently; the body of a process."""
    torch.set_num_threads(1)
    log = os.open(root / f"worker-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 2)
    gr.search.Study(root).work(device="cpu")


def warm(folder: Path) -> None:
    """Do a small study in this process, so that the workers that are forked from it have imported everything."""
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    make(folder, "warm", 2, 0).work(device="cpu")


def start(root: Path) -> BaseProcess:
    """Start a worker."""
    process = multiprocessing.get_context("fork").Process(target=work, args=(root,))
    process.start()
    return process


def calm(root: Path, workers: int) -> float:
    """Let workers do a study undisturbed; return the seconds."""
    begun = time.monotonic()
    running = [start(root) for _ in range(workers)]
    for process in running:
        process.join()
    return time.monotonic() - begun


def storm(root: Path, workers: int, every: float, chance: random.Random, kills: int) -> tuple[float, int, int]:
    """Let workers do a study while they are killed, at most ``kills`` times; return seconds, kills and crashes."""
    begun, done, crashes = time.monotonic(), 0, 0
    due = begun + chance.expovariate(1.0 / every)
    running: list[BaseProcess] = []
    while True:
        ended = [process for process in running if not process.is_alive()]
        running = [process for process in running if process.is_alive()]
        crashes += sum(process.exitcode not in (0, -signal.SIGKILL) for process in ended)
        if crashes > workers or time.monotonic() - begun > LONGEST:
            break
        if any(process.exitcode == 0 for process in ended) and gr.search.Study(root).status()["done"]:
            break
        running += [start(root) for _ in range(workers - len(running))]
        if done < kills and time.monotonic() >= due:
            victim = chance.choice(running)
            os.kill(victim.pid or 0, signal.SIGKILL)
            victim.join()
            running.remove(victim)
            done += victim.exitcode == -signal.SIGKILL
            due = time.monotonic() + chance.expovariate(1.0 / every)
        time.sleep(0.01)
    for process in running:
        process.join(PATIENCE)
        process.kill()
    return time.monotonic() - begun, done, crashes


def outcome(root: Path) -> dict[str, Any]:
    """Return all configs and results of a study, without the times."""
    found = {}
    for kind in ("configs", "results"):
        for path in sorted((root / kind).glob("*.json")):
            values = json.loads(path.read_text())
            values.pop("seconds", None)
            found[f"{kind}/{path.name}"] = values
    return found


def trial(folder: Path, number: int, options: argparse.Namespace, kills: int) -> dict[str, Any]:
    """Run the two studies of a trial; return what became of them."""
    seed = options.seed + number
    studies = [make(folder, f"{name}{number}", options.configs, seed) for name in ("calm", "storm")]
    seconds = calm(studies[0].root, options.workers)
    longer, done, crashes = storm(studies[1].root, options.workers, options.every, random.Random(seed), kills)
    status = gr.search.Study(studies[1].root).status()
    expected, found = (outcome(study.root) for study in studies)
    different = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    texts = [path.read_text(errors="replace") for path in studies[1].root.glob("worker-*.log")]
    said = [line for text in texts for line in text.splitlines() if line.startswith("config ")]
    jobs = [line.split(":")[0] for line in said if "score" in line]
    return {
        "trial": number, "kills": done, "results": sum(status["results"]), "seconds_calm": round(seconds, 1),
        "seconds_storm": round(longer, 1), "stuck": status["stuck"], "running": status["running"], "crashes": crashes,
        "twice": len(jobs) - len(set(jobs)), "different": different,
        "good": status["done"] and not (different or crashes or status["stuck"] or status["running"]),
    }  # fmt: skip


def main() -> int:
    """Run the trials of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills, on average (default 2)")
    parser.add_argument("--configs", type=int, default=40, help="of a study (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the outcome of each trial")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, tqdm(total=options.kills, unit="kill") as bar:
        warm(Path(name))
        while (done := sum(row["kills"] for row in rows)) < options.kills:
            rows.append(trial(Path(name), len(rows), options, options.kills - done))
            bar.update(rows[-1]["kills"])
    failed = [row for row in rows if not row["good"]]
    throughput = sum(row["seconds_calm"] for row in rows) / sum(row["seconds_storm"] for row in rows)
    kills = sum(row["kills"] for row in rows)
    print(f"{len(rows)} studies, {kills} kills, {len(failed)} wrong, {100 * throughput:.0f} % of the calm throughput")
    for row in failed:
        print(row)
    if options.json:
        summary = {
            "studies": len(rows), "kills": kills, "wrong": len(failed), "throughput": round(throughput, 3),
            "workers": options.workers, "every": options.every, "seed": options.seed,
        }  # fmt: skip
        with replacing(options.json) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump({"environment": environment(), "kill_search": summary, "trials": rows}, file, indent=1)
            file.write("\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
