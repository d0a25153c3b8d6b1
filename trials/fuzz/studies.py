"""What is fuzzed of searches: spaces, and the files of a study."""

import contextlib
import functools
import json
import math
import shutil
import socket
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import gpurender as gr
from gpurender.search import analysis, leases
from gpurender.search.config import TRAINING
from gpurender.search.dispatcher import Dispatcher
from trials.fuzz.kinds import FAMILIES, Kind, anything
from trials.fuzz.targets import Target, must, scratch
from trials.fuzz.values import HostileError

RECIPE = {"family": "onepfrac", "classes": 4, "points": {"log": [500, 4000]}, "image_size": 32}
SPACE: dict[str, Any] = {
    "recipe": {"choice": [RECIPE, {"preset": "ofdb-1k"}]},
    "model": {"choice": ["test_vit", "test_resnet"]},
    "training": {"image_size": 32, "batch_size": 16, "lr": {"log": [1e-4, 1e-2]}},
    "seed": {"range": [0, 5]},
}
CONFIGS = 3
FILES = ("study", "config", "result", "failure", "lease", "exhausted")  # those of a study, as arguments of a target


def check_space(space: gr.search.Space, arguments: dict[str, Any], rng: Random) -> None:
    """Its JSON gives it back, and its random configs are configs."""
    again = gr.search.Space.from_json(space.to_json())
    must(again == space and again.fingerprint == space.fingerprint, "its JSON gives another space")
    config = space.random(3, rng.randrange(2**40))
    values = json.loads(config.to_json())
    must(gr.search.Config.from_data(values).key == config.key, "its config's JSON gives another config")
    must(config.choices.keys() <= {parameter.name for parameter in space.parameters}, "choices of no parameter")


def _space() -> Target:
    starts = (SPACE, {"recipe": "onepfrac-1k", "model": "test_vit"}, {**SPACE, "recipe": RECIPE, "preset": None})
    kinds: dict[str, Kind] = dict.fromkeys((*SPACE, *TRAINING, "preset", "choice", "range", "log"), anything)
    kinds |= {name: anything for family in FAMILIES.values() for name in family}
    kinds |= {"space": anything, "family": anything, "config": anything}
    return Target(starts, kinds, lambda arguments: gr.search.Space(arguments), check_space)


# --------------------------------------------------------------------------------------------------------- the folder


@functools.cache
def whole() -> dict[str, bytes]:
    """The files of a study under way, by their paths: two results, one of a failure, and a lease."""
    root = scratch() / "study-whole"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    labels = np.arange(12) % 3
    pixels = np.zeros((12, 8, 8), np.uint8) + labels[:, None, None].astype(np.uint8)
    data = scratch() / "task.npz"
    np.savez(data, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    study = gr.search.create(
        root / "s", gr.search.Space({**SPACE, "recipe": RECIPE}), {"a": gr.tasks.Task(data)}, configs=CONFIGS
    )  # fmt: skip
    keys = []
    for number in range(CONFIGS):
        config = study.space.random(study.seed, number)
        study.desk.folder.make()
        study.desk.folder.add_config(number, config)
        keys.append(config.key)
    figures = {"accuracy": 0.5, "score": 0.25, "ridge": 0.5, "knn": 0.25, "classes": 3}
    seconds = {"training": 1.5}
    study.desk.publish(keys[0], 0, {"rung": 0, "score": 0.25, "tasks": {"a": figures}, "seconds": seconds})
    study.desk.publish(keys[1], 0, {"rung": 0, "score": None, "error": "the loss is nan at step 3"})
    lease = study.root / "leases" / f"{keys[2]}.0"
    lease.write_text(json.dumps({**leases._identity(), "host": socket.gethostname(), "began": "1"}))
    (study.root / "exhausted.json").write_text(json.dumps({"configs": CONFIGS}))
    paths = [path for path in study.root.rglob("*") if path.is_file()]
    return {str(path.relative_to(study.root)): path.read_bytes() for path in paths}


def places() -> dict[str, str]:
    """The paths of the files that are spoiled, by the names of :data:`FILES`."""
    by_kind: dict[str, str] = {"study": "study.json", "exhausted": "exhausted.json"}
    for path, data in sorted(whole().items()):
        folder = path.partition("/")[0]
        if folder == "results":
            by_kind["failure" if b'"error"' in data else "result"] = path
        elif folder == "leases":
            by_kind["lease"] = path
    by_kind["config"] = "configs/" + by_kind["result"].partition("/")[2].replace(".0.json", ".json")
    return by_kind


def written(files: dict[str, bytes]) -> Path:
    """A folder of these files and no others."""
    root = scratch() / "study"
    shutil.rmtree(root, ignore_errors=True)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def looked_at(files: dict[str, bytes]) -> Path:
    """Do with a study what its commands do, short of training and drawing; its other files must stay as they are."""
    root = written(files)
    try:
        study = gr.search.Study(root)
        status = study.status()
        rows = study.table()
        json.dumps([status, rows], allow_nan=False)
        must(0 <= status["finished"] <= status["configs"], "more configs are finished than there are")
        must(0 <= status["running"] + status["stuck"] <= status["configs"] * study.ladder.rungs, "jobs of no config")
        analysis.calibration(rows)
        shares = [share for _, share, _ in analysis.importances(rows, study.space)]
        must(all(math.isfinite(share) for share in shares), "a share is not finite")
        points = [(row["score"], row["training_seconds"]) for row in study.front()]
        must(points == sorted(points), "the front is not in order")
        desk = Dispatcher(str(root))
        for key, rung, _ in desk.take("w", "1"):
            must(desk.touch("1", key, rung), "a worker does not hold what it was given")
            desk.drop("1", key, rung)
        must(not desk.touch("1", "0", 0), "a worker holds what there is not")
    finally:
        for path, data in files.items():
            if not path.startswith("leases/"):
                must((root / path).read_bytes() == data, f"{path} has been changed")
    return root


def _texts() -> Target:
    """The files of a study as spoiled texts."""
    start = {name: whole()[path].decode() for name, path in places().items()}

    def call(arguments: dict[str, Any]) -> Any:
        files = dict(whole())
        for name, path in places().items():
            text = arguments.get(name)
            del files[path]
            if isinstance(text, str):
                text = text.encode("utf-8", "surrogatepass")
            if isinstance(text, bytes):  # else the file is not there
                files[path] = text
        return looked_at(files)

    return Target((start,), dict.fromkeys(FILES, anything), call, fixed=True)


def _values(name: str) -> Target:
    """The entries of one file of a study as spoiled values, as far as these can be written."""
    path = places()[name]
    start = json.loads(whole()[path])

    def call(arguments: dict[str, Any]) -> Any:
        try:
            text = json.dumps(arguments)
        except (TypeError, ValueError, HostileError, RecursionError):
            text = json.dumps({str(entry): str(type(value)) for entry, value in arguments.items()})
        return looked_at({**whole(), path: text.encode()})

    kinds: dict[str, Kind] = {**dict.fromkeys(start, anything), "study": anything, Path(path).name: anything}
    return Target((start,), kinds, call, share=0.3, fixed=True)  # other entries are of later versions


def study_targets() -> dict[str, Target]:
    """All that is fuzzed of searches, by name; nothing without timm, which knows the models."""
    with contextlib.suppress(ImportError):
        import timm  # noqa: F401

        return {
            "space": _space(),
            "study-text": _texts(),
            **{f"study-{name}": _values(name) for name in FILES},
        }
    return {}
