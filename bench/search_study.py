"""Does a search find a better recipe than a preset? A study of ``gpurender search``, judged on images it has not seen.

    python -m bench.fetch_tasks TASKS
    python -m bench.search_study TASKS WORK --json bench/results/NAME.json    # --minutes 60

The study tries 26 random recipes of six families with one small net. A share of the training images of five tasks
judges them. Then the winner, the presets and the first random recipes of the study are trained from the beginning, all
of them with the same settings for as many images as the highest rung has, and fine-tuned with few labels: figures are
accuracies on test images, which have chosen nothing. Four more tasks are not of the study: finer classes of the emoji,
whose training images have judged it as those of one of the five. Whatever is done is a file in WORK, so the program may
be killed at any moment and goes on where it was.

The gain of the found recipe over a preset, and over the median of the random ones, is the mean over tasks and seeds of
the difference in accuracy. Its interval is a bootstrap over tasks (5th to 95th percentile): the seeds of a task are not
independent of each other.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import gpurender as gr
from bench import result_file
from bench.fetch_tasks import SETS
from gpurender.search.analysis import calibration
from gpurender.util.atomic_files import replacing

MODEL = "levit_128s"
SETTINGS = {"image_size": 64, "batch_size": 128, "lr": 2e-3, "weight_decay": 0.05, "augment": "crop"}
CLASSES = {"choice": [20, 100, 500]}
SPACE = {
    "recipe": {
        "choice": [
            {"preset": "onepfrac-1k", "classes": CLASSES, "delta": {"log": [0.02, 1]}, "sigma": {"range": [3.5, 6.0]}},
            {"preset": "fractaldb-1k", "classes": {"choice": [20, 100]}, "points": {"log": [10_000, 200_000]}},
            {"preset": "visualatom-1k", "classes": CLASSES, "orbits": {"choice": [[1, 20], [1, 200]]}},
            {"preset": "rcdb-1k", "classes": CLASSES, "polygons": {"choice": [[1, 20], [1, 200]]},
             "vertices": {"choice": [[3, 20], [3, 60], [3, 200]]}},
            {"preset": "colorfractal-1k", "classes": CLASSES, "background": {"choice": [True, False]}},
            {"family": "moire", "classes": CLASSES, "image_size": 128,
             "frequencies": {"choice": [[1, 30], [1, 100]]}, "margin": {"range": [0.0, 0.3]}},
        ]
    },
    "model": MODEL,
    "preset": "deit",
    "training": SETTINGS,
}  # fmt: skip
VALIDATION = {
    "fashion": 0.02,
    "mnist-5k": 0.2,
    "emoji": 0.3,
    "digits": 0.3,
    "stamps": 0.3,
}  # about 1,000 images at most
FINER = ("emoji-nature", "emoji-food", "emoji-people", "emoji-symbols")  # finer classes of images of `emoji`
LABELS = 10
LADDER = gr.search.Ladder(images=(12_800, 38_400, 115_200), eta=3, finetune_steps=100, seeds=3)
CONFIGS = 26
PRESETS = {"onepfrac": 100, "fractaldb": 20, "visualatom": 100}  # classes, as many as the net learns (bench.teach)
RANDOM = 5  # of the study's configs, those with the lowest numbers
SEEDS = (1000, 1001, 1002)  # of labels, head and order; those of the study begin at 0
RESAMPLES = 2000


def tasks_of(folder: Path, *, judging: bool) -> dict[str, gr.tasks.Task]:
    """Return the tasks by name: those that judge configs, on held-out training images, or all, on test images."""
    shares = VALIDATION if judging else dict.fromkeys([*VALIDATION, *FINER], 0.0)
    return {
        name: gr.tasks.Task(folder / SETS[name].result, labels_per_class=LABELS, validation=share)
        for name, share in shares.items()
    }


def source_of(task: str) -> str:
    """Return the first set whose images come from where those of a task do."""
    return next(name for name, source in SETS.items() if source.about == SETS[task].about)


def rivals(study: gr.search.Study) -> dict[str, gr.Recipe]:
    """Return what is compared, by name: the study's best recipe, the presets, and its first configs."""
    rows = {row["number"]: row for row in study.table()}
    found = {"found": study.best()}
    found |= {name: gr.recipe(f"{name}-1k", classes=classes) for name, classes in PRESETS.items()}
    return found | {f"random {n}": gr.recipe(rows[n]["recipe"]) for n in range(RANDOM)}


def compare(tasks: Path, study: gr.search.Study, work: Path, end: float) -> list[dict[str, Any]]:
    """Train and fine-tune the rivals; return the rows that are done, with accuracies on test images."""
    rows = []
    for name, recipe in rivals(study).items():
        folder = work / "rivals" / recipe.fingerprint[:16]
        checkpoint = folder / "checkpoint.safetensors"
        if not (folder / "done").exists():
            if time.monotonic() > end:
                return rows
            gr.training.pretrain(
                recipe, MODEL, folder, preset="deit", images=LADDER.images[-1], amp="bf16", device="cpu", **SETTINGS
            )
            (folder / "done").touch()
        for task_name, task in tasks_of(tasks, judging=False).items():
            for seed in SEEDS:
                path = folder / f"{task_name}-{seed}.json"
                if not path.exists():
                    if time.monotonic() > end:
                        return rows
                    tune(checkpoint, task, seed, folder / "tuned" / f"{task_name}-{seed}", path)
                rows.append({
                    "rival": name, "fingerprint": recipe.fingerprint, "task": task_name, "source": source_of(task_name),
                    "seed": seed, **json.loads(path.read_text()),
                })  # fmt: skip
    return rows


def tune(checkpoint: Path, task: gr.tasks.Task, seed: int, folder: Path, path: Path) -> None:
    """Fine-tune a checkpoint on a task with the labels of a seed, and write its accuracy."""
    own = gr.tasks.Task(task.data, labels_per_class=task.labels_per_class, seed=seed)
    found = gr.training.finetune(
        checkpoint, own, folder, steps=LADDER.finetune_steps, batch_size=min(50, len(own.samples("train"))), lr=1e-3,
        optimizer="adamw", weight_decay=0.05, mixup=0.0, cutmix=0.0, amp="bf16", seed=seed, device="cpu",
    )  # fmt: skip
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps({"accuracy": found["accuracy"], "classes": found["classes"]}))
    shutil.rmtree(folder)  # checkpoint and state, 110 MB


def gains(rows: list[dict[str, Any]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Return the gain of the found recipe over every rival that is complete, in points of accuracy, with intervals."""
    names = list(dict.fromkeys(row["rival"] for row in rows))
    table = {
        name: {
            (row["task"], row["seed"]): 100.0 * row["accuracy"]
            for row in rows
            if row["rival"] == name and row["task"] in tasks
        }
        for name in names
    }
    whole = {name: own for name, own in table.items() if len(own) == len(tasks) * len(SEEDS)}
    others = {name: own for name, own in whole.items() if name != "found" and not name.startswith("random")}
    random = [own for name, own in whole.items() if name.startswith("random")]
    if len(random) == RANDOM:
        others["median of random"] = {cell: statistics.median(own[cell] for own in random) for cell in random[0]}
    if "found" not in whole:
        return []
    return [{"over": name, **interval(whole["found"], own, tasks)} for name, own in others.items()]


def interval(
    ours: Mapping[tuple[str, int], float], theirs: Mapping[tuple[str, int], float], tasks: Sequence[str]
) -> dict[str, float]:
    """Return the mean difference and its bootstrap percentiles over tasks."""
    of_tasks = np.array([np.mean([ours[task, seed] - theirs[task, seed] for seed in SEEDS]) for task in tasks])
    drawn = np.random.default_rng(0).integers(0, len(of_tasks), (RESAMPLES, len(of_tasks)))
    low, high = np.percentile(of_tasks[drawn].mean(1), (5, 95))
    return {"gain": float(of_tasks.mean()), "p5": float(low), "p95": float(high)}


def main() -> int:
    """Work on the study, compare its winner, print the gains; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, help="folder of bench.fetch_tasks")
    parser.add_argument("work", type=Path, help="folder of the study and of the rivals; resumed if it is there")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing after so long (default: no limit)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is done")
    options = parser.parse_args()
    end = time.monotonic() + 60.0 * options.minutes
    for task in tasks_of(options.tasks, judging=False).values():
        task.samples("train")  # what is not there is named before anything is trained
    study = gr.search.create(
        options.work / "study", gr.search.Space(SPACE), tasks_of(options.tasks, judging=True), ladder=LADDER,
        configs=CONFIGS,
    )  # fmt: skip
    study.work(minutes=options.minutes, device="cpu")
    done = study.status()["done"]
    rows = compare(options.tasks, study, options.work, end) if done else []
    found = {"tasks of the study": gains(rows, tuple(VALIDATION)), "finer classes of the emoji": gains(rows, FINER)}
    for kind, some in found.items():
        for row in some:
            limits = f"({row['p5']:+.1f} to {row['p95']:+.1f})"
            print(f"{kind}: found recipe over {row['over']}: {row['gain']:+.1f} points {limits}")
    if options.json is not None:
        result = {
            "space": SPACE, "validation": VALIDATION, "finer": FINER, "labels": LABELS, "done": done,
            "table": study.table(), "calibration": calibration(study.table()), "comparison": rows, "gains": found,
        }  # fmt: skip
        result_file.write(options.json, search_study=result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
