"""Workers of a made-up study under kills, in processes forked from one without threads.

python -m tests.search.storm FOLDER    # makes FOLDER/calm and FOLDER/stormy; prints the status of the latter
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import gpurender as gr
from gpurender.search import study
from tests.search.support import TEMPLATE, score_of, task

CONFIGS = 16
KILLS = 12
WORKERS = 3
LONGEST = 120.0  # seconds
LADDER = gr.search.Ladder((32, 64, 128), eta=2, finetune_steps=2, seeds=2)


def make(folder, name):
    tasks = {"a": task(folder, "a"), "b": task(folder, "b", shift=1)}
    space = gr.search.Space(TEMPLATE)
    return gr.search.create(folder / name, space, tasks, ladder=LADDER, configs=CONFIGS, patience=5.0)


def trained(config, tasks, ladder, rung, checkpoints, room, device):
    """Stands for a training: takes a moment, and has a score that only config and rung decide."""
    time.sleep(0.15)
    score = score_of(config.key, rung)
    figures = {name: {"score": score, "accuracy": 0.5} for name in tasks}
    return {"rung": rung, "score": score, "tasks": figures, "seconds": {"training": time.time()}}


def work(root):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    gr.search.Study(root).work(device="cpu")


def main(folder):
    study.trained = trained
    make(folder, "calm").work(device="cpu")
    stormy, running, kills = make(folder, "stormy"), [], 0
    context, end = multiprocessing.get_context("fork"), time.monotonic() + LONGEST
    while time.monotonic() < end and not stormy.status()["done"]:
        running = [process for process in running if process.is_alive()]
        if kills < KILLS and len(running) == WORKERS:
            os.kill(running[0].pid, signal.SIGKILL)
            running.pop(0).join()
            kills += 1
        while len(running) < WORKERS:
            running.append(context.Process(target=work, args=(stormy.root,)))
            running[-1].start()
        time.sleep(0.2)
    for process in running:
        process.join(30)
        process.kill()
    print(json.dumps({"kills": kills, **gr.search.Study(stormy.root).status()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
