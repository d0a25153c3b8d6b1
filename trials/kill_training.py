"""Kills of ``gpurender pretrain`` and ``finetune`` at random moments: is the end that of a training nobody disturbed?

    python -m trials.kill_training --json FILE    # --trials 50, --seed S

A trial is one training with a checkpoint at every third step. Its process is killed by SIGKILL one to three times, each
at a random step that it has yet to take, and up to 50 ms after it, so also while files are written; then the command
runs to its end. The weights and the reported losses must equal, bit for bit, those of the same command left alone. A
kill must lose at most two steps and what is under way: the state must be of the last third step that was reported, and
never of an earlier one than before; the checkpoint must be readable and of that step, or of the one saved before it.
The rows count the kills that left an unfinished file. Needs the extra ``train``. Exit status 1 if a trial fails.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import gpurender as gr
from gpurender.util.atomic_files import TEMPORARY, replacing
from gpurender.util.environment import environment

RECIPE = gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(2, 4), radius=(4, 8))
STEPS = 20
COMMON = ["--batch-size", "8", "--device", "cpu", "--log-every", "1", "--save-every", "3"]
PATIENCE = 600.0  # seconds that a training may take


def prepare(folder: Path) -> dict[str, list[str]]:
    """Write recipe, pictures and a checkpoint; return the two commands, without their output."""
    (folder / "recipe.json").write_text(RECIPE.to_json())
    generator = np.random.default_rng(0)
    for part, label, number in np.ndindex(2, 2, 40):
        place = folder / "pictures" / ("train", "val")[part] / f"c{label}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 128, (24, 24, 3)) + 100 * label
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    pretrain = ["pretrain", str(folder / "recipe.json"), "--model", "test_vit", "--image-size", "32", *COMMON]
    start(folder, [*pretrain, "--steps", "1"], "first").wait()
    checkpoint = str(folder / "first" / "checkpoint.safetensors")
    finetune = ["finetune", checkpoint, "--data", str(folder / "pictures"), "--epochs", "2", *COMMON]
    return {"pretrain": [*pretrain, "--steps", str(STEPS)], "finetune": finetune}


def start(folder: Path, command: list[str], output: str) -> subprocess.Popen[bytes]:
    """Start a command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-m", "gpurender", *command, "--output", str(folder / output)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps_done(output: Path) -> int:
    """Return how many whole lines of reports there are."""
    path = output / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill_at(process: subprocess.Popen[bytes], output: Path, step: int, delay: float) -> bool:
    """Kill a training some time after a step; return whether it was still running."""
    begin = time.monotonic()
    while process.poll() is None and steps_done(output) < step:
        if time.monotonic() - begin > PATIENCE:
            process.kill()
            raise TimeoutError(f"{output} did not reach step {step}")
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def outcome(output: Path) -> tuple[dict[str, torch.Tensor], list[tuple[int, float]]]:
    """Return the weights and the losses of a training that has ended."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    weights = gr.training.load(output / "checkpoint.safetensors").state_dict()
    return weights, [(line["step"], line["loss"]) for line in lines]


def same(a: Any, b: Any) -> bool:
    """Return whether two outcomes are equal, bit for bit."""
    return a[1] == b[1] and a[0].keys() == b[0].keys() and all(torch.equal(a[0][name], b[0][name]) for name in a[0])


def found(output: Path, before: int) -> dict[str, Any]:
    """Return what a kill has left: the steps of state and checkpoint, and whether nothing was lost."""
    state, path = 0, output / "checkpoint.safetensors"
    if (output / "state.pt").exists():
        state = torch.load(output / "state.pt", weights_only=True)["step"]
    saved = 0
    if path.exists():
        saved = gr.training.describe(path)["step"]
        gr.training.load(path)
    least = max(before, (steps_done(output) - 1) // 3 * 3)  # a step is reported before it is saved
    whole = state >= least and state - 3 <= saved <= state
    return {"state": state, "checkpoint": saved, "whole": whole, "torn": any(output.glob(f"{TEMPORARY}*"))}


def trial(folder: Path, command: list[str], number: int, chance: random.Random, expected: Any) -> dict[str, Any]:
    """Run one training with its kills; return what became of it."""
    output, kills, state = folder / f"trial{number}", [], 0
    for _ in range(chance.randint(1, 3)):
        begun = steps_done(output)
        if begun >= STEPS - 1:
            break
        process = start(folder, command, output.name)
        if not kill_at(process, output, chance.randint(begun + 1, STEPS - 1), chance.uniform(0.0, 0.05)):
            break
        try:
            kills.append(found(output, state))
        except Exception as error:  # whatever a damaged file raises is the outcome
            kills.append({"state": state, "whole": False, "error": str(error)})
        state = kills[-1]["state"]
    ended = start(folder, command, output.name).wait(PATIENCE)
    equal = ended == 0 and same(outcome(output), expected)
    return {"trial": number, "command": command[0], "kills": kills, "equal": equal}


def main() -> int:
    """Run the trials of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="trainings, pretrain and finetune in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the outcome of each trial")
    options = parser.parse_args()
    chance, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands, expected = prepare(folder), {}
        for kind, command in commands.items():
            start(folder, command, f"calm-{kind}").wait(PATIENCE)
            expected[kind] = outcome(folder / f"calm-{kind}")
        for number in tqdm(range(options.trials), unit="trial"):
            kind = ("pretrain", "finetune")[number % 2]
            rows.append(trial(folder, commands[kind], number, chance, expected[kind]))
    kills = [kill for row in rows for kill in row["kills"]]
    failed = [row for row in rows if not (row["equal"] and all(kill["whole"] for kill in row["kills"]))]
    torn = sum(kill.get("torn", False) for kill in kills)
    print(f"{len(rows)} trainings, {len(kills)} kills ({torn} while a file was written), {len(failed)} wrong")
    for row in failed:
        print(row)
    if options.json:
        with replacing(options.json) as temporary, open(temporary, "w", encoding="utf-8") as file:
            summary = {
                "trials": len(rows), "kills": len(kills), "torn": torn, "wrong": len(failed), "seed": options.seed,
            }  # fmt: skip
            json.dump({"environment": environment(), "kill_training": summary, "trials": rows}, file, indent=1)
            file.write("\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
