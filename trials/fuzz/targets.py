"""What is fuzzed: calls that take arguments, valid arguments to begin with, and checks of what was accepted."""

import dataclasses
import functools
import inspect
import itertools
import json
import math
import numbers
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

import gpurender as gr
from gpurender.augment.named import policy as policy_of_name
from trials.fuzz.kinds import (
    BIT64,
    CROP,
    DEIT,
    DRAW,
    DRAWN,
    FAMILIES,
    FRACTALDB,
    LOADER,
    MIXTURE,
    RESIZE,
    Kind,
    anything,
    either,
    flag,
    instance,
    items,
    scalar,
    whole,
    word,
)
from trials.fuzz.values import HostileError

TRIANGLE = ((0.5, 0.0, 0.0, 0.5, 0.0, 0.0), (0.5, 0.0, 0.0, 0.5, 0.5, 0.0), (0.5, 0.0, 0.0, 0.5, 0.25, 0.5))
CATEGORIES = tuple(tuple((*row, p) for row, p in zip(TRIANGLE, (0.25, 0.25, 0.5), strict=True)) for _ in range(2))
SPACE_CATEGORIES = tuple(tuple((*(0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5), x, x * x, k) for x in (0, 0.5, 1)) for k in (0, 1))
STRIPES = np.kron(np.array([[0, 90], [250, 20]], np.uint8), np.ones((8, 8), np.uint8))
TABLE = "\n".join(",".join(map(str, row)) for row in CATEGORIES[0]) + "\n"
WEIGHTS = "1,1,1,1,1,1\n0.5,1,1,1,1,1\n"


class UnsoundError(Exception):
    """What was accepted is not what was asked for."""


def must(condition: bool, what: str) -> None:
    """An assertion that is not switched off and is told from those of the code under test."""
    if not condition:
        raise UnsoundError(what)


@dataclasses.dataclass
class Target:
    """Something that takes arguments.

    Attributes:
        starts: valid arguments.
        kinds: of the parameters.
        call: takes the arguments; what it returns was accepted.
        check: raises if what was accepted is not sound.
        defaults: of the parameters; a default is always allowed.
        share: of the cases, relatively.
        fixed: whether no argument can be added.
    """

    starts: tuple[dict[str, Any], ...]
    kinds: Mapping[str, Kind]
    call: Callable[[dict[str, Any]], Any]
    check: Callable[[Any, dict[str, Any], Random], None] = lambda result, arguments, rng: None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    share: float = 1.0
    fixed: bool = False


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _plain(value: Any, path: str) -> None:
    """A recipe's value must be made of exact, finite builtins: JSON and equality then mean what they say."""
    must(type(value) in (int, float, bool, str, tuple, type(None)), f"{path} is stored as {type(value).__name__}")
    if isinstance(value, float):
        must(math.isfinite(value), f"{path} is stored as {value}")
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            _plain(item, f"{path}[{i}]")


def _fields_plain(value: Any) -> None:
    for field in dataclasses.fields(value):
        _plain(getattr(value, field.name), field.name)


def _cheap(recipe: gr.Recipe) -> bool:
    """Whether an image takes a millisecond or so, and the catalog, too."""
    if isinstance(recipe, gr.Mixture):
        return all(_cheap(part) for part in recipe.recipes)
    if recipe.classes > 10_000 or recipe.image_size > 128:
        return False
    if isinstance(recipe, gr.VisualAtom | gr.RCDB) and recipe.categories is not None:
        return all(row[0] * row[1] <= 20_000 for row in recipe.categories)
    if isinstance(recipe, gr.VisualAtom):
        return recipe.orbits[1] * recipe.quantization[1] <= 20_000
    if isinstance(recipe, gr.RCDB):
        return recipe.polygons[1] * recipe.vertices[1] <= 20_000
    if isinstance(recipe, gr.Noise | gr.SingleImage):
        return recipe.classes <= 1_000
    if isinstance(recipe, gr.ColorFractal | gr.MultiFractal) and recipe.classes * recipe.systems > 1_000:
        return False
    searched = isinstance(recipe, gr.FractalDB | gr.OFDB | gr.ExFractalDB) and recipe.categories is None
    return recipe.points <= 2_000 and not searched


def check_recipe(recipe: gr.Recipe, arguments: Any, rng: Random) -> None:
    """JSON gives it back, the fingerprint is stable, and a tiny one is drawn."""
    if not isinstance(recipe, gr.Mixture):
        _fields_plain(recipe)
    text = recipe.to_json()
    again = gr.Recipe.from_json(text)
    must(again == recipe, "its JSON gives another recipe")
    must(again.to_json() == text, "its JSON gives another text")
    must(re.fullmatch("[0-9a-f]{64}", recipe.fingerprint) is not None, "the fingerprint is not 64 hex digits")
    must(again.fingerprint == recipe.fingerprint, "the fingerprint is not stable")
    must(hash(again) == hash(recipe), "equal recipes have different hashes")
    counts = recipe.class_counts()
    must(len(counts) == recipe.classes and counts.min() >= 0, "class_counts are not one a class")
    must(len(recipe) == counts.sum() > 0, "len is not the sum of class_counts")
    if rng.random() < 0.2 and _cheap(recipe):
        samples = [0, len(recipe) - 1]
        try:
            canvases = gr.Renderer(recipe)(samples)
        except ValueError as error:  # no class covers so much, or nothing can be perturbed: only rendering can tell
            must("fill_rate" in str(error) or "perturb" in str(error), f"drawing raised {error}")
            return
        must(canvases.shape == (2, recipe.channels, recipe.image_size, recipe.image_size), "canvas of another shape")
        labels = gr.Renderer(recipe).labels(samples)
        if recipe.label_noise is None and not isinstance(recipe, gr.Mixture):
            first, last = np.flatnonzero(recipe.class_counts())[[0, -1]]
            if recipe.multi_hot:
                must(labels.shape == (2, recipe.classes), "labels of another width")
                must(labels[[0, 1], [first, last]].tolist() == [1.0, 1.0], "other labels")
            else:
                must(labels.tolist() == [first, last], "other labels")


ATOMS = ((2, 7, 3, 0, 0.5, 0.25, 1.5, 0.05, 4, 1.0, 1.5), (3, 5, 0, 9, -0.5, 0.5, 0.0, 0.0, 2, 2.0, 1.0))


def tiny_recipes() -> dict[str, list[gr.Recipe]]:
    """Small recipes by family."""
    small = {"classes": 2, "image_size": 16, "seed": 3}
    return {
        "onepfrac": [
            gr.OnePFrac(**small, instances=3, points=200, fill_rate=0.0, base=TRIANGLE),
            gr.OnePFrac(**small, instances=2, points=100, fill_rate=0.0, sigma=2.5, maps=3, draw_type="point_color"),
            gr.OnePFrac(**small, instances=9, points=9, fill_rate=0.0, base=TRIANGLE, class_prior=3, label_noise=0.25),
        ],
        "fractaldb": [
            gr.FractalDB(**small, points=200, categories=CATEGORIES, weights="small"),
            gr.FractalDB(**small, points=100, categories=CATEGORIES, weights=((1.0,) * 6,), patches=2, variant="paper"),
        ],
        "visualatom": [
            gr.VisualAtom(**small, instances=3, orbits=(1, 3), quantization=(3, 8), radius=(1, 5)),
            gr.VisualAtom(**small, instances=2, orbits=(1, 2), quantization=(3, 5), axes=(1, 8), variant="paper"),
            gr.VisualAtom(
                **small, instances=4, orbits=(1, 1), class_prior=(1, 0.5), label_noise=((0.75, 0.25), (0, 1))
            ),
            gr.VisualAtom(**small, instances=3, categories=ATOMS),
            gr.VisualAtom(**small, orbits=(2, 2), quantization=(5, 8), radius=(1, 5), perturb=0.25),
            gr.VisualAtom(**small, orbits=(2, 2), quantization=(5, 8), variant="paper", noise="independent"),
        ],
        "rcdb": [
            gr.RCDB(**small, instances=3, polygons=(1, 3), vertices=(3, 8), radius=(1, 5)),
            gr.RCDB(**small, instances=2, polygons=(1, 3), vertices=(3, 8), radius=(1, 5), variant="paper"),
            gr.RCDB(**small, instances=2, categories=((2, 7, 1.5, 0.05), (3, 5, 0.0, 1.0))),
            gr.RCDB(**small, polygons=(2, 2), vertices=(3, 8), radius=(1, 5), greys=(0, 128), perturb=0.25),
        ],
        "ofdb": [
            gr.OFDB(**small, points=200, categories=CATEGORIES),
            gr.OFDB(**small, instances=3, points=100, categories=CATEGORIES, variant="paper"),
        ],
        "exfractaldb": [
            gr.ExFractalDB(**small, points=200, categories=SPACE_CATEGORIES),
            gr.ExFractalDB(
                **small, points=200, categories=SPACE_CATEGORIES, weights=((0.5,) * 12,), viewpoints="fixed"
            ),
            gr.ExFractalDB(**small, categories=SPACE_CATEGORIES, weights="one", viewpoints="drawn", variant="paper"),
        ],
        "colorfractal": [
            gr.ColorFractal(**small, instances=3, points=200),
            gr.ColorFractal(**small, instances=4, points=100, systems=2, maps=(1, 3), jitter="svd", background=False),
            gr.ColorFractal(
                **small, instances=5, points=9, color=False, variant="paper", class_prior=3, label_noise=0.25
            ),
        ],
        "multifractal": [
            gr.MultiFractal(**small, instances=3, points=200),
            gr.MultiFractal(
                **small, instances=2, points=100, objects=(2, 2), sizes=(0.5, 1.0), jitter="sval", systems=2
            ),
        ],
        "noise": [gr.Noise(**small, instances=2), gr.Noise(**small, distribution="uniform", perturb=0.25)],
        "singleimage": [
            gr.SingleImage(STRIPES, **small, instances=2),
            gr.SingleImage(STRIPES, **small, edges=None, transform="elastic", perturb=0.25),
            gr.SingleImage(STRIPES, **small, edges=None, transform="polynomial", thresholds=(0.5, 0.5)),
        ],
    }


def mixture() -> gr.Mixture:
    """One of two families."""
    tiny = tiny_recipes()
    return gr.Mixture({tiny["onepfrac"][0]: 1, tiny["visualatom"][0]: 2.5})


def _mixture() -> Target:
    tiny = tiny_recipes()
    one, other = tiny["onepfrac"][0], tiny["visualatom"][2]
    starts = ({"recipes": {one: 1, other: 2.5}, "labels": "separate"}, {"recipes": {other: 0.125}})
    kinds = MIXTURE | {"weights": anything, "recipe": anything}  # as messages may say instead
    return Target(starts, kinds, lambda a: gr.Mixture(**a), check_recipe, _defaults(gr.Mixture))


def _family(name: str) -> Target:
    recipes = tiny_recipes()[name]
    cls = type(recipes[0])
    starts = tuple(
        {f.name: getattr(r, f.name) for f in dataclasses.fields(r) if getattr(r, f.name) is not None} for r in recipes
    )
    if name == "singleimage":
        starts += ({"image": STRIPES, "classes": 2, "image_size": 32},)  # the others have texts
    return Target(starts, FAMILIES[name], lambda a: cls(**a), check_recipe, _defaults(cls), share=2.0)


def check_json(text: str | bytes, rng: Random) -> str:
    """What must become of any text; ``"accepted"`` or ``"refused"``."""
    try:
        recipe = gr.Recipe.from_json(text)
    except ValueError as error:
        must(str(error).startswith("not a recipe: "), f"the message is {error}")
        return "refused"
    check_recipe(recipe, None, rng)
    return "accepted"


def _json_of_values() -> Target:
    """JSON of spoiled values, as far as these can be written."""
    starts = tuple(json.loads(r.to_json()) for rs in tiny_recipes().values() for r in rs)
    starts += (json.loads(mixture().to_json()),)
    kinds = {"gpurender": anything, "family": word(*FAMILIES, "mixture"), "weights": anything, "labels": anything}
    kinds["recipes"] = anything
    kinds |= {k: anything for f in FAMILIES.values() for k in f}

    def call(arguments: dict[str, Any]) -> Any:
        try:
            text = json.dumps(arguments)
        except (TypeError, ValueError, HostileError, RecursionError):
            text = json.dumps({name: str(type(value)) for name, value in arguments.items()})
        recipe = gr.Recipe.from_json(text)
        arguments.update(json.loads(text))
        return recipe

    def check(recipe: gr.Recipe, arguments: dict[str, Any], rng: Random) -> None:
        for name, kind in FAMILIES.get(recipe.family, {}).items():
            if arguments.get(name) is not None:
                must(kind(arguments[name]), f"{name} is accepted silently")
        check_recipe(recipe, arguments, rng)

    return Target(starts, kinds, call, check, share=2.0)


def _json_text() -> Target:
    starts = tuple({"text": text.decode()} for text in texts("json"))

    def call(arguments: dict[str, Any]) -> Any:
        text = arguments["text"]
        return gr.Recipe.from_json(text)

    return Target(starts, {"text": anything}, call, check_recipe, share=2.0, fixed=True)


def texts(kind: str) -> list[bytes]:
    """Valid texts of a kind, ``"json"``, ``"state"`` or ``"csv"``."""
    if kind == "csv":
        return [TABLE.encode(), TABLE.replace(",", " , ").replace("\n", "\r\n").encode("utf-8-sig")]
    if kind == "state":
        return [json.dumps(loader.state_dict()).encode() for loader in loaders()]
    recipes = [mixture(), *(recipe for some in tiny_recipes().values() for recipe in some)]
    return [recipe.to_json().encode() for recipe in recipes]


def csv_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of these files and no others."""
    folder = root / "categories"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def check_csv(root: Path, data: bytes, rng: Random) -> str:
    """What must become of any bytes as a category's file; ``"accepted"`` or ``"refused"``."""
    folder = csv_folder(root, {"a.csv": data, "b.csv": TABLE.encode()})
    try:
        recipe = gr.FractalDB.from_csv(folder, points=100, image_size=16)
    except ValueError as error:
        must("a.csv" in str(error), f"the message does not name the file: {error}")
        return "refused"
    must(recipe.classes == 2, f"two files make {recipe.classes} classes")
    must(recipe.categories[1] == CATEGORIES[1], "another file's category is changed")
    check_recipe(recipe, None, rng)
    return "accepted"


@functools.cache
def _scratch_root() -> tempfile.TemporaryDirectory:
    """In memory, where there is such a place; removed when the process that asked first ends."""
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def scratch() -> Path:
    """A folder of this process."""
    folder = Path(_scratch_root().name) / str(os.getpid())
    folder.mkdir(exist_ok=True)
    return folder


def _csv() -> Target:
    tables = TABLE.encode(), TABLE.replace(",", ", ").encode("utf-8-sig")
    starts = ({"a": tables[0], "b": tables[0]}, {"a": tables[1], "weights": WEIGHTS.encode()})

    def call(arguments: dict[str, Any]) -> Any:
        files = {f"{name}.csv": data for name, data in arguments.items() if name in "ab"}
        folder = csv_folder(scratch(), files)
        weights: Any = "small"
        if "weights" in arguments:
            weights = folder.parent / "weights.csv"
            weights.write_bytes(arguments["weights"])
        return gr.FractalDB.from_csv(folder, weights, points=100, image_size=16)

    def check(recipe: gr.FractalDB, arguments: dict[str, Any], rng: Random) -> None:
        for i, name in enumerate(n for n in "ab" if n in arguments):
            rows = [line for line in arguments[name].decode("utf-8-sig").splitlines() if line.strip()]
            given = [[float(cell) for cell in row.split(",")] for row in rows]
            must([list(row) for row in recipe.categories[i]] == given, f"{name}.csv says something else")
            must(abs(sum(row[6] for row in given) - 1) < 2e-5, f"{name}.csv: probabilities do not sum to 1")
        check_recipe(recipe, arguments, rng)

    return Target(starts, {"a": anything, "b": anything, "weights": anything}, call, check, share=2.0, fixed=True)


def _csv_arguments() -> Target:
    start = {"folder": "FOLDER", "weights": "base", "points": 100, "image_size": 16, "flips": 2}

    def call(arguments: dict[str, Any]) -> Any:
        folder = csv_folder(scratch(), {"a.csv": TABLE.encode()})
        if isinstance(arguments.get("folder"), str) and arguments["folder"] == "FOLDER":
            arguments["folder"] = folder
        return gr.FractalDB.from_csv(**arguments)

    kinds = FRACTALDB | {"folder": instance(str, Path), "categories": lambda v: False, "fill_rate": lambda v: False}
    return Target((start,), kinds, call, check_recipe, _defaults(gr.FractalDB))


# ------------------------------------------------------------------------------------------------------ the loader


@functools.cache
def loaders() -> tuple[gr.DataLoader, ...]:
    """Loaders whose states differ."""
    recipes = [r for rs in tiny_recipes().values() for r in rs]
    same = {"image_size": 16, "batch_size": 2, "device": "cpu"}
    return (
        gr.DataLoader(recipes[0], shuffle=True, seed=2**64 - 1, **same),
        gr.DataLoader(recipes[2], fresh=True, drop_last=True, augment=gr.augment.Crop(), **same),
        gr.DataLoader(recipes[4], augment=gr.augment.DeiT(num_aug_repeats=3), rank=1, world_size=3, **same),
        gr.DataLoader(recipes[0], sampler=[4, 2, 5, 0], rank=1, world_size=2, **same),
    )


def check_state(loader: gr.DataLoader, state: Any) -> str:
    """What must become of anything as a state; ``"accepted"`` or ``"refused"``."""
    loader.set_epoch(1)
    loader.set_epoch(0)
    before = loader.state_dict()
    try:
        loader.load_state_dict(state)
    except (TypeError, ValueError) as error:
        must(loader.state_dict() == before, "a refused state has moved the loader")
        must("state" in str(error), f"the message does not speak of the state: {error}")
        return "refused"
    after = loader.state_dict()
    must({type(value) for value in after.values()} <= {int, str}, "a state holds more than integers and strings")
    must(len(json.dumps(after)) < 1000, "a state is larger than 1,000 bytes")
    given = {**state}
    if given.get("version") != after["version"]:  # migrated
        given = {**after, **given, "version": after["version"]}
    own = {"rank", "mark"}  # of a rank that follows a sampler: it may load the state that another one saved
    must(all(after[name] == given[name] for name in {*after, *given} - own), "the loader is at another place")
    must(not any(isinstance(value, (bool, float)) for value in given.values()), "a bool or a fraction is accepted")
    return "accepted"


def _state() -> Target:
    starts = tuple(
        {"loader": i, **loader.state_dict(), "epoch": i, "position": p}
        for i, loader in enumerate(loaders())
        for p in (0, 2)
    )
    starts += ({"loader": 0, **{k: v for k, v in starts[0].items() if k != "repeats"}, "version": 1},)
    kinds = {name: anything for start in starts for name in start}

    def call(arguments: dict[str, Any]) -> Any:
        state = {name: value for name, value in arguments.items() if name != "loader"}
        which = arguments.get("loader")
        loader = loaders()[which if type(which) is int and 0 <= which < len(loaders()) else 0]
        if type(which) is not int:
            state = which  # not even a mapping, mostly
        before = loader.state_dict()
        try:
            loader.load_state_dict(state)
        except Exception:
            must(loader.state_dict() == before, "a refused state has moved the loader")
            raise
        return check_state(loader, state)

    return Target(starts, kinds, call, share=2.0)


def _policies() -> tuple[Any, ...]:
    return (
        None,
        gr.augment.Crop(),
        gr.augment.DeiT(),
        gr.augment.TwoViews(gr.augment.Crop()),
        gr.augment.DeiT(num_aug_repeats=2, mixup_alpha=0, cutmix_alpha=0, label_smoothing=0),
    )


def _loader() -> Target:
    recipes = [r for rs in tiny_recipes().values() for r in rs]
    taken = inspect.signature(gr.DataLoader).parameters
    small = {"image_size": 16, "device": "cpu"}
    starts: list[dict[str, Any]] = [
        {"recipe": recipe, "batch_size": 2, "shuffle": True, "seed": 5, "augment": policy, **small}
        for recipe, policy in zip([*recipes, mixture()], itertools.cycle(_policies()), strict=False)
    ]
    starts += [
        {"recipe": recipes[0], "batch_size": 2, "drop_last": True, "rank": 0, "world_size": 2, "fresh": True, **small},
        {"recipe": recipes[1], "dtype": torch.float16, "memory_format": torch.channels_last, **small},
        {"recipe": recipes[2], "batch_size": 3, "sampler": [3, 1, 2, 0, 5], **small},
        {"recipe": recipes[3], "batch_sampler": [[3, 1], [2, 0, 5]], **small},
        {
            "recipe": recipes[4],
            "generator": torch.Generator(),
            "shuffle": True,
            "num_workers": 2,
            "timeout": 3,
            **small,
        },
        {"recipe": recipes[5], "prefetch_factor": 2, "persistent_workers": True, "num_workers": 1, **small},
        {"recipe": recipes[0], "collate_fn": list, "pin_memory": True, "in_order": False, **small},
        {"recipe": recipes[0], "worker_init_fn": print, "multiprocessing_context": "fork", "num_workers": 1, **small},
    ]
    starts = [start for start in starts if set(start) <= set(taken)]
    kinds = {name: kind for name, kind in LOADER.items() if name in taken}
    return Target(tuple(starts), kinds, lambda a: gr.DataLoader(**a), check_loader, _defaults(gr.DataLoader), share=3.0)


def check_loader(loader: gr.DataLoader, arguments: dict[str, Any], rng: Random) -> None:
    """Its attributes are exact; its state is small and its own; a small one gives a batch."""
    must(loader.batch_size is None or type(loader.batch_size) is int, "batch_size is no int")
    must(type(loader.drop_last) is bool, "drop_last is no bool")
    followed = arguments.get("sampler", arguments.get("batch_sampler"))
    if followed is None or hasattr(followed, "__len__"):
        must(len(loader) >= 0, "len is negative")
    must(type(loader.prefetch_factor) in (int, type(None)), "prefetch_factor is no int")
    must(type(loader.timeout) is float, "timeout is no float")
    must(loader.num_workers == 0, "num_workers says that there are workers")
    check_state(loader, loader.state_dict())
    side = arguments.get("image_size", 224)
    if rng.random() < 0.2 and (loader.batch_size or 9) <= 8 and side <= 64 and _cheap(loader.dataset.recipe):
        if followed is not None or "collate_fn" in arguments or not len(loader):
            return
        images, targets = next(iter(loader))
        for view in images if isinstance(images, list) else [images]:
            must(view.shape[1:] == (3, side, side), f"images of shape {list(view.shape)}")
            must(bool(torch.isfinite(view).all()), "images are not finite")
            must(len(targets) == len(view) <= (loader.batch_size or 9), "targets and images differ in number")


def _epochs() -> Target:
    def call(arguments: dict[str, Any]) -> Any:
        loader = loaders()[0]
        loader.set_epoch(**arguments)
        must(loader.state_dict()["epoch"] == scalar(arguments["epoch"]), "another epoch")
        return loader

    last = loaders()[0].state_dict()["length"]
    return Target(({"epoch": 3},), {"epoch": whole(0, 2**63 // max(last, 10) - 1)}, call, share=0.3)


# -------------------------------------------------------------------------------------------- drawing and policies


def _renderer() -> Target:
    recipe = tiny_recipes()["onepfrac"][0]
    start = {"recipe": recipe, "device": "cpu", "cache_bytes": 1000}
    kinds = {"recipe": anything, "device": LOADER["device"], "cache_bytes": BIT64}
    return Target((start,), kinds, lambda a: gr.Renderer(**a), defaults=_defaults(gr.Renderer), share=0.5)


def _rendering() -> Target:
    renderers = [gr.Renderer(recipes[0]) for recipes in tiny_recipes().values()]
    starts = tuple(
        {"samples": samples, "epoch": 1, "fresh": True} for samples in ([0, 1, 3], np.array([2, 2]), 3, torch.arange(4))
    )
    one = whole(0, len(renderers[2].recipe) - 1)
    kinds = {"samples": either(one, items(one), DRAWN["numbers"]), "epoch": whole(0, 2**60), "fresh": flag}

    def check(canvases: torch.Tensor, arguments: dict[str, Any], rng: Random) -> None:
        must(canvases.dtype == torch.uint8 and canvases.shape[1:] == (1, 16, 16), "canvases of another kind")

    def call(arguments: dict[str, Any]) -> Any:
        return renderers[2](**arguments)

    return Target(starts, kinds, call, check, {"epoch": 0, "fresh": None})


def _dataset() -> Target:
    recipe = tiny_recipes()["visualatom"][0]
    kinds = {"recipe": anything, "transform": callable, "cache_bytes": BIT64}
    start = {"recipe": recipe, "transform": np.asarray, "cache_bytes": 1000}
    return Target((start,), kinds, lambda a: gr.Dataset(**a), defaults=_defaults(gr.Dataset), share=0.3)


def _sample() -> Target:
    dataset = gr.Dataset(tiny_recipes()["visualatom"][0])

    def call(arguments: dict[str, Any]) -> Any:
        try:
            return dataset[arguments["index"]]
        except IndexError as error:  # a sequence's own error of what is out of range
            raise ValueError(str(error)) from None

    kinds = {"index": whole(-len(dataset), len(dataset) - 1)}
    return Target(({"index": 3}, {"index": -1}), kinds, call, share=0.3, fixed=True)


def _named_recipe() -> Target:
    file = scratch() / "recipe.json"
    file.write_text(tiny_recipes()["onepfrac"][0].to_json(), encoding="utf-8")
    starts = ({"recipe": "onepfrac-1k"}, {"recipe": str(file)}, {"recipe": file})

    def call(arguments: dict[str, Any]) -> Any:
        return gr.recipe(*arguments.values())

    return Target(starts, {"recipe": instance(str, Path, gr.Recipe)}, call, share=0.5, fixed=True)


def check_policy(policy: Any, arguments: dict[str, Any], rng: Random) -> None:
    """Its fields are plain; it makes finite images and targets."""
    _fields_plain(policy)
    must(dataclasses.replace(policy) == policy, "it is not equal to its copy")
    if rng.random() < 0.2:
        check_drawing(policy, 12)


def check_drawing(policy: Any, side: int) -> None:
    """Images and targets of a policy are sound."""
    canvases = torch.arange(3 * 16 * 16, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 1, 16, 16)
    parameters = policy.draw([0, 5, 2**64 - 1], seed=7, canvas_size=16, image_size=side)
    images = policy.apply(canvases, parameters, image_size=side)
    for view in images if isinstance(images, list) else [images]:
        must(bool(torch.isfinite(view).all()), "images are not finite")
    targets = policy.targets(torch.tensor([0, 1, 2]), parameters, 3)
    must(bool(torch.isfinite(targets.double()).all()), "targets are not finite")
    if targets.dim() == 2:
        must(bool(((targets.sum(1) - 1).abs() < 1e-4).all()), "targets do not sum to 1")


def _policy(cls: Any, kinds: Mapping[str, Kind], *starts: dict[str, Any], share: float = 1.0) -> Target:
    whole_start = {
        f.name: getattr(cls(), f.name) for f in dataclasses.fields(cls) if getattr(cls(), f.name) is not None
    }
    return Target((whole_start, *starts), kinds, lambda a: cls(**a), check_policy, _defaults(cls), share)


def _views() -> Target:
    crop = gr.augment.Crop()
    starts = ({"0": (crop, 2), "1": (crop, 1, 8)}, {"0": (gr.augment.Resize(), 1)})

    def one(value: Any) -> bool:
        fits = isinstance(value, (list, tuple)) and len(value) in (2, 3) and hasattr(value[0], "draw")
        return fits and whole(1, 64)(value[1]) and (len(value) == 2 or value[2] is None or whole(1, 65535)(value[2]))

    def check(policy: Any, arguments: dict[str, Any], rng: Random) -> None:
        if max((size or 16) for _, _, size in policy.crops) <= 64 and rng.random() < 0.2:
            check_drawing(policy, 12)

    return Target(
        starts, {"0": one, "1": one}, lambda a: gr.augment.MultiCrop(*a.values()), check, share=0.5, fixed=True
    )


def _two_views() -> Target:
    starts = ({"policy": gr.augment.Crop(), "second": gr.augment.Resize()},)
    kinds = dict.fromkeys(starts[0], LOADER["augment"])
    return Target(starts, kinds, lambda a: gr.augment.TwoViews(**a), defaults={"second": None}, share=0.3)


def _draws() -> Target:
    policies = [p for p in _policies() if p is not None] + [gr.augment.Resize()]
    starts = tuple(
        {"which": i, "numbers": [0, 1, 2**64 - 1], "seed": 3, "canvas_size": 32, "image_size": 16}
        for i in range(len(policies))
    )

    def call(arguments: dict[str, Any]) -> Any:
        which = arguments.pop("which", 0)
        return policies[which if type(which) is int and 0 <= which < len(policies) else 0].draw(**arguments)

    def check(parameters: Any, arguments: dict[str, Any], rng: Random) -> None:
        n = {len(tensor) for tensor in parameters.values()}
        must(len(n) == 1, f"parameters of {n} samples")

    return Target(starts, DRAW | {"which": anything}, call, check, _defaults(gr.augment.Crop.draw))


def _crops() -> Target:
    start = {"images": torch.zeros((2, 1, 16, 16), dtype=torch.uint8), "boxes": [[0, 0, 8, 8]] * 2, "size": 8}
    kinds = {
        "images": instance(torch.Tensor),
        "boxes": anything,
        "size": either(whole(1, 65535), items(whole(1, 65535), 2)),
        "interpolation": RESIZE["interpolation"],
    }
    starts = ({**start, "interpolation": "bilinear"}, {**start, "size": (8, 9)})

    def call(arguments: dict[str, Any]) -> Any:
        size = scalar(arguments.get("size"))
        if isinstance(size, numbers.Integral) and size > 1000:
            raise ValueError("size: not tried, it would be drawn, in gigabytes")
        return gr.augment.resized_crop(**arguments)

    return Target(starts, kinds, call, defaults={"interpolation": "bicubic"}, share=0.5)


@functools.cache
def targets() -> dict[str, Target]:
    """All that is fuzzed, by name."""
    from trials.fuzz.studies import study_targets  # it needs Target

    auto = {"auto_augment": "rand-m9-mstd0.5-mmax15-inc1-n2-p0.5"}
    deit = ({**auto, "interpolation": "random"}, {"auto_augment": "3a"}, {"auto_augment": "rand-tweights-n3"})
    more = ({"color_jitter": (0.4, 0.4, 0.4, 0.1), "re_count": (1, 3), "cutmix_minmax": (0.2, 0.8)},)
    return {
        **{name: _family(name) for name in FAMILIES},
        "mixture": _mixture(),
        "json-values": _json_of_values(),
        "json-text": _json_text(),
        "csv-text": _csv(),
        "csv-arguments": _csv_arguments(),
        "state": _state(),
        "loader": _loader(),
        "set_epoch": _epochs(),
        "renderer": _renderer(),
        "renderer()": _rendering(),
        "dataset": _dataset(),
        "dataset[]": _sample(),
        "recipe": _named_recipe(),
        "Crop": _policy(gr.augment.Crop, CROP),
        "Resize": _policy(gr.augment.Resize, RESIZE, share=0.3),
        "DeiT": _policy(gr.augment.DeiT, DEIT, *deit, *more, share=2.0),
        "MultiCrop": _views(),
        "TwoViews": _two_views(),
        "draw": _draws(),
        "resized_crop": _crops(),
        "policy name": Target(
            ({"augment": "deit"},),
            {"augment": instance(str)},
            lambda a: policy_of_name(*a.values()),
            share=0.2,
            fixed=True,
        ),
        **study_targets(),
    }
