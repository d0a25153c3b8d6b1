"""Do the images teach? Small models pre-trained on formulas, fine-tuned on real images with few labels.

    python -m bench.fetch_tasks TASKS fashion mnist-5k emoji
    python -m bench.teach TASKS WORK --json bench/results/NAME.json      # --minutes 60, --study few-labels

A study is a list of cells, most valuable first. A cell is one pre-training (or none) and one fine-tuning; what it
found is a file in WORK, and a pre-training that several cells share is made once. So the program may be killed at any
moment and goes on where it was, in as many pieces as one likes; ``--minutes`` ends a piece after the cell under way.

Everything but the pre-training is equal for all cells of a model: task, labels, steps, augmentation. The learning rate
of the fine-tuning is chosen for random and for pre-trained weights apart, on held-out training images of other labels
(study ``rates``), never on test images. The seed of a cell decides pre-training, head, labels and order together.
Sizes are those that two cores can train: 64 x 64 pixels, ViT-Tiny (5.4 M weights) and ResNet-10-T (5.4 M).
"""

import argparse
import dataclasses
import hashlib
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpurender as gr
from bench.fetch_tasks import SETS
from gpurender.tasks import Task
from gpurender.util.atomic_files import replacing
from gpurender.util.environment import environment

VIT, RESNET = "vit_tiny_patch16_224", "resnet10t"
SIDE = 64  # pixels: 16 patches of a ViT
TASKS = ("fashion", "mnist-5k", "emoji")
LABELS = (10, 50)  # per class
SEEDS = (0, 1, 2)
RATES = (1e-4, 3e-4, 1e-3)
RATE_SEED = 100  # of the labels on which rates are chosen
PRETRAINING = {"image_size": SIDE, "batch_size": 128, "lr": 1e-3, "preset": "deit", "augment": "deit", "fresh": True}
FINETUNING = {"batch_size": 50, "optimizer": "adamw", "weight_decay": 0.05, "mixup": 0.0, "cutmix": 0.0}
STEPS = 200  # of a fine-tuning
QUIET = {"device": "cpu", "log_every": 50, "save_every": 500}

# Classes as many as a small net learns within 100,000 images; of Noise, which has nothing to learn, the paper's.
RECIPES: dict[str, gr.Recipe] = {
    "onepfrac": gr.recipe("onepfrac-1k"),
    "fractaldb": gr.FractalDB(classes=100, instances=1000),
    "visualatom": gr.VisualAtom(classes=100, instances=1000),
    "noise": gr.recipe("gaussian-lpce-1k"),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of a study.

    Attributes:
        model: timm's name.
        recipe: a name of :data:`RECIPES`, or ``"scratch"``.
        images: length of the pre-training.
        task: a name of :data:`TASKS`.
        labels: per class.
        seed: of pre-training, head, labels and order.
        lr: of the fine-tuning; ``None``: the one that was chosen.
        held_out: whether held-out training images are measured in place of the test images.
    """

    model: str
    recipe: str
    images: int
    task: str
    labels: int
    seed: int
    lr: float | None = None
    held_out: bool = False

    @property
    def key(self) -> str:
        """The name of the cell's file: a hash of all that decides its figure."""
        recipe = RECIPES[self.recipe].fingerprint if self.recipe in RECIPES else ""
        values = [dataclasses.asdict(self), recipe, PRETRAINING, FINETUNING, STEPS]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20]


def rates(model: str) -> list[Cell]:
    """Return the cells on which the learning rates are chosen."""
    return [
        Cell(model=model, recipe=recipe, images=images, task=task, labels=10, seed=RATE_SEED, lr=lr, held_out=True)
        for recipe, images in (("scratch", 0), ("onepfrac", 50_000))
        for task in TASKS
        for lr in RATES
    ]


def few_labels(model: str) -> list[Cell]:
    """Return scratch and all recipes at equal lengths, by seed."""
    return [
        Cell(model=model, recipe=recipe, images=100_000 * (recipe != "scratch"), task=task, labels=labels, seed=seed)
        for seed in SEEDS
        for recipe in ("scratch", *RECIPES)
        for task in TASKS
        for labels in LABELS
    ]


def lengths(model: str) -> list[Cell]:
    """Return longer and shorter pre-trainings of one seed: accuracy against the number of images."""
    return [
        Cell(model=model, recipe=recipe, images=images, task=task, labels=10, seed=0)
        for images in (12_500, 25_000, 50_000, 200_000, 400_000)
        for recipe in ("onepfrac", "visualatom", "fractaldb")
        for task in TASKS
    ]


STUDIES = {"rates": rates, "few-labels": few_labels, "lengths": lengths}


# ------------------------------------------------------------------------------------------------------------- running


def checkpoint(work: Path, cell: Cell) -> Path:
    """Return the checkpoint that a cell begins with, trained as far as it is not yet."""
    images = max(cell.images, 1)
    recipe = RECIPES.get(cell.recipe, RECIPES["onepfrac"])
    values = [cell.model, recipe.fingerprint, images, cell.seed, PRETRAINING]
    name = f"{cell.recipe}-{cell.images}-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]}"
    folder = work / "pretrained" / name
    done = folder / "done"
    if not done.exists():
        gr.training.pretrain(recipe, cell.model, folder, images=images, seed=cell.seed, **PRETRAINING, **QUIET)
        done.touch()
    return folder / "checkpoint.safetensors"


def measure(tasks: Path, work: Path, cell: Cell, lr: float) -> dict[str, Any]:
    """Fine-tune a cell's model on its task; return the row of the results."""
    began = time.monotonic()
    source = checkpoint(work, cell)
    trained = time.monotonic()
    task = Task(
        tasks / SETS[cell.task].result, labels_per_class=cell.labels, validation=0.1 * cell.held_out, seed=cell.seed
    )
    epochs = -(-STEPS * FINETUNING["batch_size"] // len(task.samples("train")))
    output = work / "finetuned" / cell.key
    found = gr.training.finetune(
        source, task, output, from_scratch=cell.recipe == "scratch", epochs=epochs, image_size=SIDE, lr=lr,
        seed=cell.seed, **FINETUNING, **QUIET,
    )  # fmt: skip
    row = dataclasses.asdict(cell) | {"lr": lr, "steps": found["steps"], "accuracy": found["accuracy"]}
    row |= {name: found[name] for name in ("classes", "train_images", "test_images")}
    return row | {"pretrain_s": round(trained - began, 1), "finetune_s": round(time.monotonic() - trained, 1)}


def chosen_rate(work: Path, cell: Cell) -> float:
    """Return the best learning rate for a cell's kind of weights: the mean over tasks of held-out images decides."""
    if cell.lr is not None:
        return cell.lr
    known = [
        read(work, other) for other in rates(cell.model) if (other.recipe == "scratch") == (cell.recipe == "scratch")
    ]
    if None in known:
        raise ValueError(f"the study 'rates' of {cell.model} must be complete first")
    rows = [row for row in known if row is not None]
    return max(RATES, key=lambda lr: statistics.mean(row["accuracy"] for row in rows if row["lr"] == lr))


def read(work: Path, cell: Cell) -> dict[str, Any] | None:
    """Return the row of a cell that is done."""
    path = work / "rows" / f"{cell.key}.json"
    return json.loads(path.read_text()) if path.exists() else None


def run(tasks: Path, work: Path, cells: list[Cell], minutes: float) -> None:
    """Measure the cells that are not done, in order, until the time is over."""
    end = time.monotonic() + 60.0 * minutes
    for number, cell in enumerate(cells, 1):
        if time.monotonic() > end:
            return
        if read(work, cell) is None:
            row = measure(tasks, work, cell, chosen_rate(work, cell))
            path = work / "rows" / f"{cell.key}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                Path(temporary).write_text(json.dumps(row))
            print(f"{number}/{len(cells)} {label(cell)}: {row['accuracy']:.4f} at {row['lr']:g}", flush=True)


def label(cell: Cell) -> str:
    """Return a cell in short."""
    return f"{cell.model} {cell.recipe} {cell.images:,} {cell.task} {cell.labels} labels seed {cell.seed}"


def main() -> int:
    """Run the studies of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, help="folder of bench.fetch_tasks")
    parser.add_argument("work", type=Path, help="folder of checkpoints and rows; resumed if it is there")
    parser.add_argument("--study", action="append", choices=STUDIES, help="only these (default: all)")
    parser.add_argument("--model", action="append", choices=(VIT, RESNET), help="only these (default: both)")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so long (default: at the end)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows that are done")
    options = parser.parse_args()
    begun = time.monotonic()
    for model in options.model or (VIT, RESNET):
        for study in options.study or STUDIES:
            left = options.minutes - (time.monotonic() - begun) / 60.0
            run(options.tasks, options.work, STUDIES[study](model), left)
    if options.json is not None:
        write(options.json, options.work)
    return 0


def write(path: Path, work: Path) -> None:
    """Write the rows of all cells that are done, with the settings that they share."""
    found = {
        f"{study} {model}": [row for cell in make(model) if (row := read(work, cell)) is not None]
        for study, make in STUDIES.items()
        for model in (VIT, RESNET)
    }
    shared = {
        "recipes": {name: json.loads(recipe.to_json()) for name, recipe in RECIPES.items()},
        "pretraining": PRETRAINING,
        "finetuning": {**FINETUNING, "steps": STEPS},
    }
    result = {
        "environment": environment(),
        "teach": shared,
        "studies": {name: rows for name, rows in found.items() if rows},
    }
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
