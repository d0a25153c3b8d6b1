"""Do the images that a data server selects teach more than as many random ones? Table 4 of the paper, at small scale.

    python -m bench.fetch_tasks TASKS fashion mnist-5k digits emoji emoji-nature emoji-food emoji-people emoji-symbols
    python -m bench.selection TASKS WORK --json FILE      # --minutes 60: end after the cell under way

The server's images (Neural Data Server, Yan, Acuna, Fidler, CVPR 2020, has ImageNet) are the *pool*: 6,000 of
Fashion-MNIST and MNIST-5k and the emoji of five groups by two hands. The clients are tasks that it has no image of: the
emoji of the other four groups, and digits of another source. Four servers part the pool into superclasses (SP) or
clusters of images (UP), with experts on classes (TS) or on rotations (SS). A small ResNet is trained on the classes
of 20 or 40 % of the pool, selected for a client or uniformly, or of all of it, always for as many steps, and fine-tuned
on the client's task with ten labels per class. The seed decides draw of files, all training, and the client's labels.

``planted`` says how often a server of superclasses finds the part that images are of: a client has images of one part
that the pool does not have, and the expert of the part should have a weight of at least 0.9 (``sure``), or the greatest
one (``first``). What is done is kept in WORK, so that the program goes on after a kill.
"""

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gpurender as gr
from bench import result_file
from bench.fetch_tasks import SETS
from gpurender.server.sources import samples_of
from gpurender.server.weighting import weights
from gpurender.tasks import Task
from gpurender.util.atomic_files import replacing

MODEL, SIDE = "resnet10t", 32
PER_CLASS, HELD = 300, 100  # images of a class of Fashion-MNIST or MNIST-5k: in the pool, and held out of it
GROUPS = ("activities", "flags", "objects", "smileys-emotion", "travel-places")  # of emoji: no client's
CLIENTS = ("emoji-nature", "emoji-food", "emoji-people", "emoji-symbols", "digits")
SERVERS = {
    f"{short}+{by}": {"partition": partition, "task": task}
    for short, partition in (("SP", "superclass"), ("UP", "unsupervised"))
    for by, task in (("TS", "classify"), ("SS", "rotation"))
}
EXPERTS = {"k": 6, "model": MODEL, "image_size": SIDE, "images": 10_000, "batch_size": 128, "device": "cpu"}
SHARES = (0.2, 0.4)
SEEDS = (0, 1, 2)
LABELS = 10  # per class
OPTIMISER = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "mixup": 0.0, "cutmix": 0.0, "image_size": SIDE}
TRAINING = {**OPTIMISER, "steps": 300, "batch_size": 64}
FINETUNING = {**OPTIMISER, "steps": 100, "batch_size": 50}
COMMON = {"device": "cpu", "amp": "bf16", "log_every": 50, "save_every": 10_000}
PLANTED, SURE, SHOWN = 50, 0.9, 128  # clients; weight; images of a client at most


@dataclass(frozen=True)
class Cell:
    """One figure: the accuracy on a client's test images.

    Attributes:
        selection: a name of :data:`SERVERS`, ``"uniform"``, ``"all"`` or ``"none"`` (random weights).
        share: of the pool's images.
        client: a name of :data:`CLIENTS`.
        seed: of draw, training and labels.
    """

    selection: str
    share: float
    client: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.selection}-{self.share:g}-{self.client}-{self.seed}"

    @property
    def trained(self) -> str:
        """The name of the training that the cell begins with: of a selection that knows no client, one for all."""
        own = f"-{self.client}" if self.selection in SERVERS else ""
        return f"{self.selection}-{self.share:g}{own}-{self.seed}"


def cells() -> list[Cell]:
    """Return all cells, whole seeds first."""
    ways = [("none", 0.0), ("all", 1.0), *((name, share) for share in SHARES for name in ("uniform", *SERVERS))]
    return [Cell(name, share, client, seed) for seed in SEEDS for name, share in ways for client in CLIENTS]


# ---------------------------------------------------------------------------------------------------- pool and servers


def make_pool(tasks: Path, work: Path) -> Path:
    """Write the pool's images and those held out of it, as ``pool/CLASS`` and ``held/CLASS``; return their folder."""
    folder = work / "images"
    if folder.exists():
        return folder
    begun = work / "images.begun"
    shutil.rmtree(begun, ignore_errors=True)
    generator = np.random.default_rng(0)

    def put(name: str, images: list[Any], kept: int) -> None:
        order = generator.permutation(len(images))
        for place, index in enumerate(order[: kept + HELD]):
            path = begun / ("pool" if place < kept else "held") / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            images[index].save(path)

    for name in ("fashion", "mnist-5k"):
        samples = Task(tasks / SETS[name].result, labels_per_class=PER_CLASS + HELD).samples("train")
        for label, kind in enumerate(samples.classes):
            put(f"{name}-{kind}", [samples[i][0] for i in np.flatnonzero(samples.labels == label)], PER_CLASS)
    parts = [Task(tasks / "emoji").samples(part) for part in ("train", "test")]
    for group in GROUPS:
        images = [
            part[i][0] for part in parts for i in np.flatnonzero(part.labels == part.classes.index(group)).tolist()
        ]
        put(f"emoji-{group}", images, round(0.75 * len(images)))
    begun.rename(folder)
    return folder


def server(work: Path, name: str) -> gr.DataServer:
    """Build what is missing of a server over the pool, and return it."""
    return gr.server.build(work / "images" / "pool", work / "servers" / name, **SERVERS[name], **EXPERTS)


def scores(tasks: Path, work: Path, cell: Cell) -> dict[str, float]:
    """Return a client's scores under the experts of its cell's server."""
    path = work / "scores" / f"{cell.selection}-{cell.client}-{cell.seed}.json"
    if not path.exists():
        task = Task(tasks / SETS[cell.client].result, labels_per_class=LABELS, seed=cell.seed)
        keep(path, server(work, cell.selection).adapt(task, device="cpu"))
    return json.loads(path.read_text())


def planted(work: Path, name: str) -> dict[str, Any]:
    """Return how many clients with images of one part of a server of superclasses were known by its expert."""
    path = work / "planted" / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    found = server(work, name)
    parts = [
        sorted({file.partition("/")[0] for file in found.files(entry.name).names}) for entry in found.catalogue.sources
    ]
    # images of one class are right under every expert on classes
    told = [part for part, kinds in enumerate(parts) if len(kinds) > 1 or SERVERS[name]["task"] == "rotation"]
    held, own, first, asked = work / "images" / "held", [], 0, []
    for number in range(PLANTED):
        right = told[number % len(told)]
        files = [f"{kind}/{path.name}" for kind in parts[right] for path in sorted((held / kind).glob("*.png"))]
        chosen = np.random.default_rng(number).permutation(len(files))[:SHOWN]
        given = found.scores(samples_of(held, [files[i] for i in sorted(chosen)]), torch.device("cpu"))
        shares = weights(np.array(list(given.values())))
        own.append(float(shares[right]))
        first += int(shares.argmax() == right)
        asked.append(right)
    row = {
        "server": name, "parts": parts, "clients": PLANTED, "sure": sum(weight >= SURE for weight in own),
        "first": first, "mean_weight": round(statistics.mean(own), 4),
        "mean_weight_by_part": {
            part: round(statistics.mean(w for w, right in zip(own, asked, strict=True) if right == part), 4)
            for part in told
        },
    }  # fmt: skip
    keep(path, row)
    return row


# --------------------------------------------------------------------------------------------------------------- cells


def selected(tasks: Path, work: Path, cell: Cell) -> list[str]:
    """Return the files of the pool on which a cell's model is trained, ``CLASS/NAME``."""
    pool = work / "images" / "pool"
    files = sorted(f"{path.parent.name}/{path.name}" for path in pool.glob("*/*.png"))
    budget = round(cell.share * len(files))
    if cell.selection in SERVERS:
        given = scores(tasks, work, cell)
        found = server(work, cell.selection).recommend(given, budget=budget, seed=cell.seed)
        return list(found.files or ())
    return [files[i] for i in np.random.default_rng(cell.seed).permutation(len(files))[:budget]]


def trained(tasks: Path, work: Path, cell: Cell) -> Path:
    """Train what is missing of the checkpoint that a cell is fine-tuned from, and return its path."""
    base = work / "trained" / "none"
    if not (base / "checkpoint.safetensors").exists():
        gr.training.pretrain("onepfrac-1k", MODEL, base, images=1, batch_size=64, image_size=SIDE, **COMMON)
    if cell.selection == "none":
        return base / "checkpoint.safetensors"
    folder = work / "trained" / cell.trained
    done = folder / "done"
    if not done.exists():
        data = folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        for name in selected(tasks, work, cell):
            for part in ("train", "val"):
                link = data / part / name
                if part == "train" or not link.parent.exists():  # one test image per class: the accuracy is not used
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to((work / "images" / "pool" / name).resolve())
        gr.training.finetune(
            base / "checkpoint.safetensors", data, folder, from_scratch=True, seed=cell.seed, **TRAINING, **COMMON
        )
        shutil.rmtree(data)
        done.touch()
    return folder / "checkpoint.safetensors"


def measure(tasks: Path, work: Path, cell: Cell) -> dict[str, Any]:
    """Return the row of a cell."""
    path = work / "rows" / f"{cell.key}.json"
    if path.exists():
        return json.loads(path.read_text())
    begun = trained(tasks, work, cell)
    task = Task(tasks / SETS[cell.client].result, labels_per_class=LABELS, seed=cell.seed)
    output = work / "finetuned" / cell.key
    found = gr.training.finetune(
        begun, task, output, from_scratch=cell.selection == "none", seed=cell.seed, **FINETUNING, **COMMON
    )
    row = dataclasses.asdict(cell) | {"accuracy": found["accuracy"], "classes": found["classes"]}
    keep(path, row)
    shutil.rmtree(output)
    if cell.selection in SERVERS:
        shutil.rmtree(begun.parent)  # no other cell begins with it
    print(f"{cell.key}: {row['accuracy']:.4f}", flush=True)
    return row


def keep(path: Path, values: Any) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(values))


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean accuracy of each selection in percent, over the seeds that are complete, by client."""
    ways = list(dict.fromkeys((row["selection"], row["share"]) for row in rows))
    whole = [seed for seed in SEEDS if sum(row["seed"] == seed for row in rows) == len(cells()) // len(SEEDS)]
    found = []
    for name, share in ways:
        own = [row for row in rows if (row["selection"], row["share"]) == (name, share) and row["seed"] in whole]
        by_client = {
            client: round(100.0 * statistics.mean(row["accuracy"] for row in own if row["client"] == client), 2)
            for client in CLIENTS
            if own
        }
        found.append({"selection": name, "share": share, "seeds": len(whole), **by_client})
    return found


def main() -> int:
    """Run what is not done; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, help="folder of bench.fetch_tasks")
    parser.add_argument("work", type=Path, help="folder of what is done; resumed if it is there")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so long (default: at the end)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is done")
    options = parser.parse_args()
    end = time.monotonic() + 60.0 * options.minutes
    make_pool(options.tasks, options.work)
    known = [planted(options.work, name) for name in SERVERS if name.startswith("SP")]
    rows = []
    for cell in cells():
        if time.monotonic() > end and not (options.work / "rows" / f"{cell.key}.json").exists():
            continue
        rows.append(measure(options.tasks, options.work, cell))
    for row in [*known, *table(rows)]:
        print(row)
    if options.json is not None:
        settings = {"servers": SERVERS, "experts": EXPERTS, "training": TRAINING, "finetuning": FINETUNING}
        result_file.write(options.json, settings=settings, planted=known, table=table(rows), cells=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
