"""Do the images teach? Small models pre-trained on formulas, fine-tuned on real images with few labels.

    python -m bench.fetch_tasks TASKS fashion mnist-5k emoji
    python -m bench.teach TASKS WORK --json bench/results/NAME.json      # --minutes 60, --study few-labels

A study is a list of cells, most valuable first. A cell is one pre-training (or none) and one fine-tuning; what it
found is a file in WORK, and a pre-training that several cells share is made once. So the program may be killed at any
moment and goes on where it was, in as many pieces as one likes; ``--minutes`` ends a piece after the cell under way.
The rows of an earlier ``--json FILE`` count as done, so that a study goes on where WORK is gone, on another machine.

Everything but the pre-training is equal for all cells of a model: task, labels, steps, augmentation. The learning rate
of the fine-tuning is chosen for random and for pre-trained weights apart, on held-out training images of other labels
(study ``rates``), never on test images. The seed of a cell decides pre-training, head, labels and order together.
Sizes are those that two cores can train: 64 x 64 pixels, LeViT-128S (a vision transformer behind four convolutions,
7.0 M weights) and ResNet-10-T (5.4 M); ResNet-18 (11.7 M) stands for the larger net of the studies of structure.

Pre-training crops and flips and does nothing else. Under DeiT's whole policy (mixup, CutMix, RandAugment), and with the
16 patches of a ViT-Tiny at this size, 100,000 images left the loss at chance, and accuracies fell below those of random
weights: ``results/2026-11-28-epyc-2core-teach-deit.json``.
"""

import argparse
import dataclasses
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpurender as gr
from bench import result_file
from bench.fetch_tasks import SETS
from gpurender.tasks import Task
from gpurender.training.presets import PRESETS
from gpurender.util.atomic_files import replacing

TRANSFORMER, RESNET, LARGER = "levit_128s", "resnet10t", "resnet18"
SIDE = 64  # pixels
TASKS = ("fashion", "mnist-5k", "emoji")
LABELS = (10, 50)  # per class
SEEDS = (0, 1, 2)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
RATE_SEED = 100  # of the labels on which rates are chosen
IMAGES = 100_000  # of a pre-training, where a study does not vary it
STEPS = 200  # of a fine-tuning
OPTIMISER = {"image_size": SIDE, "batch_size": 128, "lr": 2e-3, "weight_decay": 0.05}
PRETRAINING = {**OPTIMISER, "preset": "deit"}
FINETUNING = {
    "image_size": SIDE,
    "batch_size": 50,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "mixup": 0.0,
    "cutmix": 0.0,
}
COMMON = {"device": "cpu", "amp": "bf16", "log_every": 50, "save_every": 500}

# Classes as many as a small net learns within 100,000 images; of Noise, which has nothing to learn, the paper's.
RECIPES: dict[str, gr.Recipe] = {
    "onepfrac": gr.recipe("onepfrac-1k", classes=100),
    "fractaldb": gr.FractalDB(classes=20, instances=1000),
    "visualatom": gr.VisualAtom(classes=100, instances=1000),
    "noise": gr.recipe("gaussian-lpce-1k"),
    "onepfrac delta 0.001": gr.recipe("onepfrac-1k", classes=100, delta=0.001),
    "onepfrac delta 1": gr.recipe("onepfrac-1k", classes=100, delta=1.0),
    "onepfrac sigma 6": gr.recipe("onepfrac-1k", classes=100, sigma=6.0),
    "fractaldb 20 x 100": gr.FractalDB(classes=20, instances=100),
    "fractaldb 20 x 250": gr.FractalDB(classes=20, instances=250),
    "fractaldb 5": gr.FractalDB(classes=5, instances=1000),
    "fractaldb 80": gr.FractalDB(classes=80, instances=1000),
    "fractaldb small": gr.FractalDB(classes=20, instances=1000, weights="small"),
    "fractaldb large": gr.FractalDB(classes=20, instances=1000, weights="large"),
    "fractaldb 256": gr.FractalDB(classes=20, instances=1000, image_size=256),
    "fractaldb 512": gr.FractalDB(classes=20, instances=1000, image_size=512),
}
MAIN = ("onepfrac", "fractaldb", "visualatom", "noise")
POLICIES = {
    "crop": gr.augment.Crop(),
    "no crop": gr.augment.Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0)),
    "no mixing": gr.augment.DeiT(mixup_alpha=0.0, cutmix_alpha=0.0),
    "deit": gr.augment.DeiT(),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of a study.

    Attributes:
        model: timm's name.
        recipe: a name of :data:`RECIPES`, or ``"scratch"``.
        images: length of the pre-training.
        policy: a name of :data:`POLICIES`, of the pre-training.
        fed: ``"fresh"``: new instances in every epoch; ``"streamed"``: the same ones; ``"stored"``: the same ones,
            exported as PNG files and read by torch's loader with timm's transforms.
        task: a name of :data:`TASKS`.
        labels: per class.
        seed: of pre-training, head, labels and order.
        lr: of the fine-tuning; ``None``: the one that was chosen.
        held_out: whether held-out training images are measured in place of the test images.
    """

    model: str
    recipe: str
    images: int
    policy: str = "crop"
    fed: str = "fresh"
    task: str
    labels: int
    seed: int
    lr: float | None = None
    held_out: bool = False

    @property
    def key(self) -> str:
        """The name of the cell's file: a hash of all that decides its figure."""
        return digest([dataclasses.asdict(self), self.trained, FINETUNING, COMMON["amp"], STEPS])

    @property
    def trained(self) -> str:
        """The name of the folder of the cell's pre-training."""
        recipe = RECIPES[self.recipe].fingerprint if self.recipe in RECIPES else ""
        policy = repr(POLICIES[self.policy])
        values = [self.model, recipe, self.images, policy, self.fed, self.seed, PRETRAINING, COMMON["amp"]]
        return f"{self.recipe.replace(' ', '-')}-{self.images}-{digest(values)[:12]}"


def digest(values: Any) -> str:
    """Return a hash of JSON values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20]


# ------------------------------------------------------------------------------------------------------------- studies


def rates(model: str) -> list[Cell]:
    """Return the cells on which the learning rates are chosen."""
    return [
        Cell(model=model, recipe=recipe, images=images, task=task, labels=10, seed=RATE_SEED, lr=lr, held_out=True)
        for recipe, images in (("scratch", 0), ("onepfrac", 50_000))
        for task in TASKS
        for lr in RATES
    ]


def few_labels(model: str) -> list[Cell]:
    """Return scratch and the families at equal lengths, by seed."""
    return [
        Cell(model=model, recipe=recipe, images=IMAGES * (recipe != "scratch"), task=task, labels=labels, seed=seed)
        for seed in SEEDS
        for recipe in ("scratch", *MAIN)
        for task in TASKS
        for labels in LABELS
    ]


def lengths(model: str) -> list[Cell]:
    """Return longer and shorter pre-trainings of one seed: accuracy against the number of images."""
    return [
        Cell(model=model, recipe=recipe, images=images, task=task, labels=10, seed=0)
        for images in (25_000, 50_000, 200_000, 400_000)
        for recipe in ("onepfrac", "visualatom")
        for task in TASKS
    ]


def order(model: str) -> list[Cell]:
    """Return what tables 5, 6 and 9 of the 1p-frac paper compare: delta, sigma, no crop, and all of DeiT's policy."""
    recipes = ("onepfrac delta 0.001", "onepfrac delta 1", "onepfrac sigma 6")
    ways = [("onepfrac", policy) for policy in POLICIES] + [(recipe, "crop") for recipe in recipes]
    return [
        Cell(model=model, recipe=recipe, policy=policy, images=IMAGES // 2, task=task, labels=10, seed=seed)
        for seed in SEEDS
        for recipe, policy in ways
        for task in TASKS
    ]


def stored(model: str) -> list[Cell]:
    """Return the same images streamed, with our transforms, and read from files, with timm's.

    The learning rate ends at 1e-5 in the first case and at 0 in the second.
    """
    return [
        Cell(
            model=model, recipe="fractaldb 20 x 250", policy="no mixing", fed=fed, images=IMAGES, task=task,
            labels=10, seed=seed,
        )
        for seed in SEEDS
        for fed in ("streamed", "stored")
        for task in TASKS
    ]  # fmt: skip


def representation(model: str) -> list[Cell]:
    """Return what tables 2 and 3 of the paper on Neural Dataset Search compare: weights and canvas of FractalDB."""
    recipes = ("fractaldb", "fractaldb small", "fractaldb large", "fractaldb 256", "fractaldb 512")
    return variants(model, recipes)


def structure(model: str) -> list[Cell]:
    """Return what its figures 2 and 3 compare: categories and instances of FractalDB, for a small and a larger net."""
    recipes = ("fractaldb", "fractaldb 5", "fractaldb 80", "fractaldb 20 x 100", "fractaldb 20 x 250")
    return variants(model, recipes)


def variants(model: str, recipes: tuple[str, ...]) -> list[Cell]:
    """Return a cell per recipe, seed and task, with 50 labels per class."""
    return [
        Cell(model=model, recipe=recipe, images=IMAGES // 2, task=task, labels=50, seed=seed)
        for seed in SEEDS
        for recipe in recipes
        for task in TASKS
    ]


STUDIES = {
    "rates": rates, "few-labels": few_labels, "lengths": lengths, "order": order, "stored": stored,
    "representation": representation, "structure": structure,
}  # fmt: skip
NETS = dict.fromkeys(STUDIES, (TRANSFORMER, RESNET)) | {"representation": (RESNET,), "structure": (RESNET, LARGER)}


# ------------------------------------------------------------------------------------------------------------- running


def checkpoint(work: Path, cell: Cell) -> Path:
    """Return the checkpoint that a cell begins with, trained as far as it is not yet."""
    folder = work / "pretrained" / cell.trained
    done = folder / "done"
    if not done.exists():
        recipe = RECIPES.get(cell.recipe, RECIPES["onepfrac"])
        if cell.fed == "stored":
            from_files(work, folder, cell)
        else:
            gr.training.pretrain(
                recipe, cell.model, folder, images=max(cell.images, 1), seed=cell.seed, fresh=cell.fed == "fresh",
                augment=POLICIES[cell.policy], **PRETRAINING, **COMMON,
            )  # fmt: skip
        done.touch()
    return folder / "checkpoint.safetensors"


def from_files(work: Path, folder: Path, cell: Cell) -> None:
    """Pre-train on exported files: a fine-tuning from random weights whose task is the recipe. It mixes nothing."""
    recipe = RECIPES[cell.recipe]
    images = work / "stored" / recipe.fingerprint[:12]
    images.mkdir(parents=True, exist_ok=True)
    (images / "recipe.json").write_text(recipe.to_json())
    words = ["-m", "gpurender", "export", str(images / "recipe.json"), str(images / "train")]
    subprocess.run([sys.executable, *words], check=True)
    if not (images / "val").exists():
        (images / "val").symlink_to("train")  # the accuracy on it is not used
    begun = checkpoint(work, dataclasses.replace(cell, recipe="scratch", fed="fresh", images=0))
    gr.training.finetune(
        begun, images, folder, from_scratch=True, epochs=cell.images // len(recipe), seed=cell.seed,
        optimizer="adamw", mixup=0.0, cutmix=0.0,
        drop_path=PRESETS["deit"].drop_path, **OPTIMISER, **COMMON,
    )  # fmt: skip


def measure(tasks: Path, work: Path, cell: Cell, lr: float) -> dict[str, Any]:
    """Fine-tune a cell's model on its task; return the row of the results."""
    began = time.monotonic()
    source = checkpoint(work, cell)
    trained = time.monotonic()
    task = Task(
        tasks / SETS[cell.task].result, labels_per_class=cell.labels, validation=0.1 * cell.held_out, seed=cell.seed
    )
    epochs = -(-STEPS * FINETUNING["batch_size"] // len(task.samples("train")))
    found = gr.training.finetune(
        source, task, work / "finetuned" / cell.key, from_scratch=cell.recipe == "scratch", epochs=epochs, lr=lr,
        seed=cell.seed, **FINETUNING, **COMMON,
    )  # fmt: skip
    row = dataclasses.asdict(cell) | {"lr": lr, "steps": found["steps"], "accuracy": found["accuracy"]}
    row |= {name: found[name] for name in ("classes", "train_images", "test_images")}
    return row | {"pretrain_s": round(trained - began, 1), "finetune_s": round(time.monotonic() - trained, 1)}


def chosen_rate(work: Path, cell: Cell) -> float:
    """Return the best learning rate for a cell's kind of weights: the mean over tasks of held-out images decides."""
    if cell.lr is not None:
        return cell.lr
    model = RESNET if cell.model == LARGER else cell.model  # two nets that are compared have the same rate
    known = [read(work, other) for other in rates(model) if (other.recipe == "scratch") == (cell.recipe == "scratch")]
    if None in known:
        raise ValueError(f"the study 'rates' of {model} must be complete first")
    rows = [row for row in known if row is not None]
    return max(RATES, key=lambda lr: statistics.mean(row["accuracy"] for row in rows if row["lr"] == lr))


def read(work: Path, cell: Cell) -> dict[str, Any] | None:
    """Return the row of a cell that is done."""
    path = work / "rows" / f"{cell.key}.json"
    return json.loads(path.read_text()) if path.exists() else None


def keep(work: Path, cell: Cell, row: dict[str, Any]) -> None:
    """Write the row of a cell."""
    path = work / "rows" / f"{cell.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(row))


def run(tasks: Path, work: Path, cells: list[Cell], minutes: float) -> None:
    """Measure the cells that are not done, in order, until the time is over."""
    end = time.monotonic() + 60.0 * minutes
    for number, cell in enumerate(cells, 1):
        if time.monotonic() > end:
            return
        if read(work, cell) is None:
            row = measure(tasks, work, cell, chosen_rate(work, cell))
            keep(work, cell, row)
            shutil.rmtree(work / "finetuned" / cell.key, ignore_errors=True)  # checkpoint and state, 110 MB
            print(f"{number}/{len(cells)} {label(cell)}: {row['accuracy']:.4f} at {row['lr']:g}", flush=True)


def label(cell: Cell) -> str:
    """Return a cell in short."""
    begun = f"{cell.recipe} {cell.images:,} {cell.policy} {cell.fed}"
    return f"{cell.model} {begun} {cell.task} {cell.labels} labels seed {cell.seed}"


def main() -> int:
    """Run the studies of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, help="folder of bench.fetch_tasks")
    parser.add_argument("work", type=Path, help="folder of checkpoints and rows; resumed if it is there")
    parser.add_argument("--study", action="append", choices=STUDIES, help="only these (default: all)")
    parser.add_argument(
        "--model", action="append", choices=(TRANSFORMER, RESNET, LARGER), help="only these (default: all)"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so long (default: at the end)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows that are done")
    options = parser.parse_args()
    if options.json is not None and options.json.exists():
        restore(options.json, options.work)
    begun = time.monotonic()
    for study in options.study or ():
        for model in options.model or ():
            if model not in NETS[study]:
                parser.error(f"--study {study} is of {' and '.join(NETS[study])}, not of {model}")
    for model in options.model or (TRANSFORMER, RESNET, LARGER):
        for study in options.study or STUDIES:
            left = options.minutes - (time.monotonic() - begun) / 60.0
            if model in NETS[study]:
                run(options.tasks, options.work, STUDIES[study](model), left)
    if options.json is not None:
        write(options.json, options.work)
    return 0


def shared() -> dict[str, Any]:
    """Return the settings that all cells share, as JSON values."""
    return {
        "recipes": {name: json.loads(recipe.to_json()) for name, recipe in RECIPES.items()},
        "policies": {name: repr(policy) for name, policy in POLICIES.items()},
        "pretraining": {**PRETRAINING, "amp": COMMON["amp"]},
        "finetuning": {**FINETUNING, "steps": STEPS},
    }


def restore(path: Path, work: Path) -> None:
    """Take over the rows of an earlier result file.

    Raises:
        ValueError: its settings are others, so its figures cannot stand beside new ones.
    """
    result = json.loads(path.read_text(encoding="utf-8"))
    settings, earlier = shared(), result["teach"]
    recipes = {name: settings["recipes"].get(name) for name in earlier["recipes"]}  # a later study may have more
    if earlier != settings | {"recipes": recipes}:
        raise ValueError(f"{path} was made with other settings: give another file")
    for name, rows in result["studies"].items():
        study, model = name.split()
        for cell in STUDIES[study](model):
            own = {name: value for name, value in dataclasses.asdict(cell).items() if value is not None}  # lr: chosen
            for row in rows:
                if read(work, cell) is None and own.items() <= row.items():
                    keep(work, cell, row)


def write(path: Path, work: Path) -> None:
    """Write the rows of all cells that are done, with the settings that they share."""
    found = {
        f"{study} {model}": [row for cell in make(model) if (row := read(work, cell)) is not None]
        for study, make in STUDIES.items()
        for model in NETS[study]
    }
    result_file.write(path, teach=shared(), studies={name: rows for name, rows in found.items() if rows})


if __name__ == "__main__":
    sys.exit(main())
