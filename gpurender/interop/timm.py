"""timm: its ``create_loader`` for recipes, and its own ``train.py`` and ``validate.py``, unmodified.

In your own script only the import line changes; timm still loads every other dataset::

    from gpurender.interop.timm import create_loader

With this launcher timm's scripts take a recipe as a dataset, ``gpurender/`` followed by an argument of ``gr.recipe``::

    python -m gpurender.interop.timm train.py --dataset gpurender/onepfrac-1k --model vit_tiny_patch16_224 --mixup 0.8
    torchrun --nproc-per-node 8 -m gpurender.interop.timm train.py --dataset gpurender/path/to/recipe.json

This module needs the extra ``train``. Keywords and their meanings are those of timm 1.0.31 (``timm/data/loader.py``,
``timm/data/transforms_factory.py``).
"""

import contextlib
import inspect
import logging
import math
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.augment import DeiT, Policy, Resize
from gpurender.augment.parameters import Parameters
from gpurender.dataset import Dataset
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.loading import ranks
from gpurender.loading.data_loader import MAX_BATCH_SIZE, MAX_STEPS, DataLoader
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime.image_formats import ImageFormat
from gpurender.util import checks
from gpurender.util.keywords import refuse_unknown

try:
    import timm.data
    from timm.data.constants import DEFAULT_CROP_PCT
    from timm.data.dataset_factory import create_dataset as timm_create_dataset
    from timm.data.loader import create_loader as timm_create_loader
    from timm.data.naflex_loader import create_naflex_loader as timm_create_naflex_loader
except ImportError as error:
    raise ImportError(f"gpurender.interop.timm needs timm, pip install 'gpurender[train]' ({error})") from error

__all__ = ["create_dataset", "create_loader", "main"]

log = logging.getLogger("gpurender")

PREFIX = "gpurender"  # prefix of a dataset's name
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # timm's values for None
# fmt: off
DRAWN = {  # keywords of create_loader that decide what is rendered
    "dataset", "input_size", "batch_size", "is_training", "no_aug", "re_prob", "re_mode", "re_count", "re_split",
    "train_crop_mode", "scale", "ratio", "hflip", "vflip", "color_jitter", "color_jitter_prob", "grayscale_prob",
    "gaussian_blur_prob", "auto_augment", "num_aug_repeats", "interpolation", "mean", "std", "distributed", "crop_pct",
    "crop_mode", "crop_border_pixels", "collate_fn", "img_dtype", "device", "use_prefetcher",
}
IDLE = {  # keywords about workers, which do not exist, and about a schedule that another keyword would switch on
    "num_workers", "pin_memory", "persistent_workers", "worker_seeding", "use_multi_epochs_loader",
    "batch_choice_seed", "batch_schedule_spread", "batch_schedule_random_mix",
}
MAX_REPEATS = 1e9  # times the samples of a recipe in a training epoch
IDLE_OF_DATASETS = {  # keywords of create_dataset that are understood, or have no effect on a recipe's one split
    "name", "split", "search_split", "is_training", "download", "batch_size", "trust_remote_code", "seed", "repeats",
}
# fmt: on


# ---------------------------------------------------------------------------------------------------------- the loader


def create_loader(
    dataset: Any,
    input_size: Any,
    batch_size: int,
    *args: Any,
    seed: int | None = None,
    fresh: bool = False,
    steps_per_epoch: int | None = None,
    **keywords: Any,
) -> Any:
    """Create a loader with timm's parameters in timm's order: recipes are rendered, other datasets loaded by timm.

    >>> loader = create_loader("onepfrac-1k", 224, 256, is_training=True, auto_augment="rand-m9-mstd0.5-inc1",
    ...                        re_prob=0.25, collate_fn=FastCollateMixup(mixup_alpha=0.8, num_classes=1000))

    **Training** batches are shuffled, the incomplete last one is left out, and :class:`gpurender.augment.DeiT` does
    what timm's transforms, ``FastCollateMixup`` and prefetcher would, with the same distributions. (timm normalises in
    ``img_dtype``; gpurender normalises in float32 and casts.) With ``no_aug`` the canvas is only resized; a
    ``collate_fn`` still mixes. **Evaluation** batches are byte for byte timm's: resized, cropped at the centre, in the
    order of the indices. They show the samples of epoch 0, the dataset as published. On a square canvas all
    ``crop_mode`` are the same.

    **Without the prefetcher** timm's scripts mix the batch themselves. The images are then not mixed, normalised in
    float32, erased with probability ``re_prob``, and have integer labels. They still are on ``device`` (on the CPU if
    ``device`` is a GPU on a machine without one), so a later ``.to(device)`` moves nothing.

    With ``num_aug_repeats`` the copies of a sample are consecutive, also without ``distributed``
    (:class:`gpurender.DataLoader`). ``distributed=False`` means that this process has all samples, whatever its rank.
    Accepted without effect: ``num_workers``, ``pin_memory``, ``persistent_workers``, ``worker_seeding``,
    ``use_multi_epochs_loader``.

    Args:
        dataset: a :class:`gpurender.Dataset` or any argument of ``gr.recipe``; any other object is passed to timm with
            all other arguments unchanged. timm sets a dataset's transform, so a transform that the dataset already has
            is not used.
        input_size: side of the images, or ``(side, side)`` or ``(3, side, side)``.
        batch_size: samples per batch on each rank.
        seed: unsigned 64-bit key of order and augmentation, the same on every rank; ``None``: that of
            :func:`create_dataset`, else 0.
        fresh: render new instances of the classes in every training epoch, so that no image is seen twice.
        steps_per_epoch: number of steps of a training epoch; ``None``: those of the recipe, times the ``repeats`` of
            :func:`create_dataset` (``--epoch-repeats`` of timm's ``train.py``).

    Returns:
        A :class:`gpurender.DataLoader` of ``(images, targets)``: ``img_dtype [B, 3, side, side]`` and int64 ``[B]``,
        or with ``FastCollateMixup`` float32 ``[B, num_classes]``. For other datasets, timm's loader.

    Raises:
        TypeError, ValueError: naming the keyword, its value and what is allowed. Refused are ``num_aug_splits``
            (AugMix), ``tf_preprocessing``, ``fp16`` (pass ``img_dtype``), ``train_crop_mode`` other than ``"rrc"``,
            scheduled sizes, a ``collate_fn`` other than ``FastCollateMixup``, and its mode ``"half"``.
    """
    recipe = _drawn_recipe(dataset)
    if recipe is None:
        for name, value in (("seed", seed), ("fresh", fresh or None), ("steps_per_epoch", steps_per_epoch)):
            if value is not None:
                raise ValueError(
                    f"{name} must be left out, got {checks.shown(value)}: {type(dataset).__name__} is loaded by timm"
                )
        return timm_create_loader(dataset, input_size, batch_size, *args, **keywords)
    given = _bound(dataset, input_size, batch_size, *args, **keywords)
    is_training = checks.boolean("is_training", given["is_training"])
    checks.integer("batch_size", given["batch_size"], 1, MAX_BATCH_SIZE)
    if steps_per_epoch is not None:
        checks.integer("steps_per_epoch", steps_per_epoch, 1, MAX_STEPS)
    augment = _training(given, recipe) if is_training else _evaluation(given, recipe)
    prefetcher = checks.boolean("use_prefetcher", given["use_prefetcher"])
    alone: dict[str, Any] = {} if checks.boolean("distributed", given["distributed"]) else {"rank": 0, "world_size": 1}
    if is_training and steps_per_epoch is None:
        world_size = alone.get("world_size") or ranks.current().world_size
        steps_per_epoch = _repeated_steps(dataset, len(recipe), given["batch_size"] * world_size)
    loader = DataLoader(
        recipe,
        given["batch_size"],
        image_size=_side(given["input_size"]),
        augment=augment,
        shuffle=is_training,
        drop_last=is_training,
        device=_device(given["device"], prefetcher),
        dtype=given["img_dtype"] if prefetcher and given["img_dtype"] is not None else torch.float32,
        seed=getattr(dataset, "seed", 0) if seed is None else seed,
        fresh=checks.boolean("fresh", fresh) and is_training,
        steps_per_epoch=steps_per_epoch if is_training else None,
        **alone,
    )
    loader.mixup_enabled = bool(getattr(given["collate_fn"], "mixup_enabled", False))
    return loader


def _repeated_steps(dataset: Any, length: int, step: int) -> int | None:
    """Return the number of steps of an epoch that has ``dataset.repeats`` times the samples; ``None``: no repeats."""
    repeats = getattr(dataset, "repeats", 0.0)
    return max(1, int(repeats * length) // step) if repeats else None


def _bound(*args: Any, **keywords: Any) -> dict[str, Any]:
    """Return all of timm's parameters by name, with timm's defaults for those that were not given.

    Raises:
        ValueError: a parameter that recipes do not support has another value than timm's default.
    """
    signature = inspect.signature(timm_create_loader)
    refuse_unknown("create_loader", keywords, list(signature.parameters))
    bound = signature.bind(*args, **keywords)
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        default = signature.parameters[name].default
        if name not in (DRAWN | IDLE) and value is not default and value != default:
            instead = ": timm has deprecated it, pass img_dtype=torch.float16" if name == "fp16" else ""
            raise ValueError(f"{name} must be {default!r} for a recipe, got {checks.shown(value)}{instead}")
    return bound.arguments


def _drawn_recipe(dataset: Any) -> Recipe | None:
    """Return the recipe of a dataset, or ``None`` for a dataset that timm loads."""
    if isinstance(dataset, timm.data.AugMixDataset) and isinstance(dataset.dataset, Dataset):
        raise ValueError(f"num_aug_splits must be 0 for a recipe, got an AugMixDataset of {dataset.num_splits} splits")
    if isinstance(dataset, Dataset):
        return dataset.recipe
    is_recipe = isinstance(dataset, (Recipe, str, os.PathLike)) or (isinstance(dataset, dict) and "family" in dataset)
    return as_recipe(dataset) if is_recipe else None


def _side(input_size: Any) -> int:
    """Return the side of the images, which are square and have three channels."""
    sizes = tuple(input_size) if isinstance(input_size, (tuple, list)) else (input_size, input_size)
    if len(sizes) not in (2, 3) or sizes[-1] != sizes[-2] or (len(sizes) == 3 and sizes[0] != 3):
        raise ValueError(f"input_size must be a side, (side, side) or (3, side, side), got {checks.shown(input_size)}")
    return checks.integer("input_size", sizes[-1], 1, MAX_SIDE)


def _device(device: Any, prefetcher: bool) -> Any:
    """Return the device to render on. Without the prefetcher timm ignores ``device``, which is a GPU by default."""
    if not prefetcher and torch.device(device).type == "cuda" and not torch.cuda.is_available():
        return "cpu"
    return device


# -------------------------------------------------------------------------------------------------------- the policies


@dataclass(frozen=True, kw_only=True)
class Training(DeiT):
    """DeiT's policy with two more of timm's parameters.

    Args:
        re_split: erase only in the second half of a batch.
        num_classes: width of soft targets, where the model has more classes than the recipe; ``None``: the recipe's.
    """

    capturable = True

    re_split: bool = False
    num_classes: int | None = None

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Draw DeiT's parameters; with ``re_split`` the first half of a batch has empty erasing boxes."""
        parameters = super().draw(numbers, seed=seed, canvas_size=canvas_size, image_size=image_size)
        if self.re_split and "erasing_boxes" in parameters:
            boxes = parameters["erasing_boxes"]  # [N, K, 4]
            boxes[: len(boxes) // 2].zero_()
        return parameters

    def targets(self, labels: torch.Tensor, parameters: Parameters, classes: int) -> torch.Tensor:
        """Return DeiT's targets of the labels; soft targets are float32 ``[N, num_classes]``."""
        return super().targets(labels, parameters, self.num_classes or classes)


def _training(given: dict[str, Any], recipe: Recipe) -> Policy:
    """Return one policy that does what timm's training transforms, collate function and prefetcher do together."""
    if given["train_crop_mode"] is not None:
        checks.choice("train_crop_mode", given["train_crop_mode"], ("rrc",))
    policy = {"mean": given["mean"], "std": given["std"], "num_aug_repeats": _whole(given["num_aug_repeats"])}
    policy |= _mixing(given["collate_fn"], given["use_prefetcher"], recipe)
    if checks.boolean("no_aug", given["no_aug"]):
        interpolation = "bilinear" if given["interpolation"] == "random" else given["interpolation"]
        off: dict[str, Any] = {"hflip": 0.0, "color_jitter": None, "auto_augment": None, "re_prob": 0.0}
        return Training(scale=(1.0, 1.0), ratio=(1.0, 1.0), interpolation=interpolation, **policy, **off)
    for name in ("interpolation", "hflip", "vflip", "color_jitter", "color_jitter_prob", "re_prob", "re_mode"):
        policy[name] = given[name]
    for name in ("grayscale_prob", "gaussian_blur_prob"):  # timm's script passes None for 0
        policy[name] = given[name] or 0.0
    return Training(
        scale=given["scale"] or SCALE,
        ratio=given["ratio"] or RATIO,
        auto_augment=given["auto_augment"] or None,
        re_count=given["re_count"] or 1,
        re_split=bool(given["re_split"]) and given["use_prefetcher"],  # without the prefetcher timm erases per image
        **policy,
    )


def _whole(num_aug_repeats: Any) -> Any:
    """Return the number of repeats as an int; timm's script reads it as a float."""
    if isinstance(num_aug_repeats, float):
        if not num_aug_repeats.is_integer():
            raise ValueError(f"num_aug_repeats must be an integer for a recipe, got {checks.shown(num_aug_repeats)}")
        return int(num_aug_repeats)
    return num_aug_repeats


def _mixing(collate_fn: Any, prefetcher: bool, recipe: Recipe) -> dict[str, Any]:
    """Return DeiT's parameters of mixing and smoothing."""
    if collate_fn is None:
        return {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "label_smoothing": 0.0}
    if type(collate_fn) is not timm.data.FastCollateMixup:  # a subclass may collate otherwise
        raise ValueError(
            f"collate_fn must be None or timm's FastCollateMixup for a recipe, got {checks.shown(collate_fn)}"
        )
    if not prefetcher:
        raise ValueError("collate_fn must be None where use_prefetcher is False: FastCollateMixup mixes bytes")
    if collate_fn.multi_label:
        raise ValueError("collate_fn.multi_label must be False for a recipe, got True")
    if not (collate_fn.mixup_alpha or collate_fn.cutmix_alpha):
        raise ValueError("collate_fn must have a mixup_alpha or a cutmix_alpha above 0, got 0 and 0")
    if collate_fn.num_classes < recipe.classes:
        raise ValueError(
            f"collate_fn.num_classes must be at least {recipe.classes}, the recipe's, "
            f"got {checks.shown(collate_fn.num_classes)}"
        )
    same = ("mixup_alpha", "cutmix_alpha", "cutmix_minmax", "correct_lam", "label_smoothing", "num_classes")
    policy = {name: getattr(collate_fn, name) for name in same}
    policy["mixup_mode"] = collate_fn.mode
    policy["mixup_prob"], policy["mixup_switch_prob"] = collate_fn.mix_prob, collate_fn.switch_prob
    return policy


@dataclass(frozen=True, kw_only=True)
class CenterCrop(Resize):
    """timm's evaluation transform: resize the canvas, keep the centre, normalise.

    Args:
        crop_pct: side of the image as a fraction of the resized canvas's side, in (0, 1].
        border: pixels that are cut off each side of the canvas before it is resized.
    """

    capturable = True

    crop_pct: float = DEFAULT_CROP_PCT
    border: int = 0

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Return the box of the canvas within the border, for every draw id."""
        parameters = super().draw(numbers, seed=seed, canvas_size=canvas_size, image_size=image_size)
        parameters["boxes"][:, :2] = self.border
        parameters["boxes"][:, 2:] = canvas_size - 2 * self.border
        return parameters

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> torch.Tensor:
        """Resize, normalise and keep the centre."""
        side = math.floor(image.size / self.crop_pct)
        first = round((side - image.size) / 2)  # rounds halves to even, as torchvision does
        within = slice(first, first + image.size)
        whole = image._replace(size=side, memory_format=torch.contiguous_format)
        resized = super()._apply(canvases, parameters, whole)  # [N, 3, side, side]
        return resized[:, :, within, within].contiguous(memory_format=image.memory_format)


def _evaluation(given: dict[str, Any], recipe: Recipe) -> Policy:
    if given["collate_fn"] is not None:
        raise ValueError(f"collate_fn must be None where is_training is False, got {checks.shown(given['collate_fn'])}")
    if given["crop_mode"] is not None:
        checks.choice("crop_mode", given["crop_mode"], ("center", "squash", "border"))
    least = _side(given["input_size"]) / MAX_SIDE
    border = checks.integer("crop_border_pixels", given["crop_border_pixels"] or 0, 0, (recipe.image_size - 1) // 2)
    return CenterCrop(
        interpolation=given["interpolation"],
        mean=given["mean"],
        std=given["std"],
        crop_pct=checks.real("crop_pct", given["crop_pct"] or DEFAULT_CROP_PCT, least, 1.0),
        border=border,
    )


# --------------------------------------------------------------------------------------------------------- the scripts


class NamedDataset(Dataset):
    """A dataset that was created by name, with the seed and the repeats per epoch for its loaders."""

    def __init__(self, recipe: Recipe, seed: int, repeats: float) -> None:
        super().__init__(recipe)
        self.seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
        self.repeats = checks.real("repeats", repeats, 0.0, MAX_REPEATS)


def create_dataset(name: str, *args: Any, **keywords: Any) -> Any:
    """Create a dataset as timm does, or one named ``gpurender/`` followed by a preset's name or a JSON file's path.

    >>> dataset = create_dataset("gpurender/onepfrac-1k", split="train", is_training=True, seed=42)

    A recipe has one split, whatever its name: training and evaluation use the same samples. ``seed`` becomes that of
    :func:`create_loader`: timm's ``train.py`` passes its ``--seed`` to this function, the same on all ranks. With
    ``repeats`` (``--epoch-repeats``) a training epoch has so many times the recipe's samples; 0: as they are.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; ``root`` (``--data-dir``),
            ``class_map``, ``num_samples`` and all other arguments about files are refused for a recipe.
    """
    prefix, _, wanted = name.partition("/")
    if prefix.lower() != PREFIX:
        return timm_create_dataset(name, *args, **keywords)
    signature = inspect.signature(timm_create_dataset)
    bound = signature.bind(name, *args, **keywords)
    bound.apply_defaults()
    given = bound.arguments | bound.arguments.pop("kwargs", {})
    for key, value in given.items():
        default = signature.parameters[key].default if key in signature.parameters else None
        if key not in IDLE_OF_DATASETS and value and value != default:
            raise ValueError(
                f"{key} must be left out for the dataset {name!r}, which is a recipe, got {checks.shown(value)}"
            )
    if not given["is_training"]:
        log.info("%s: evaluation is on the samples of the recipe, those that training uses", name)
    return NamedDataset(as_recipe(wanted), given["seed"], given.get("repeats") or 0.0)


def create_naflex_loader(dataset: Any, *args: Any, **keywords: Any) -> Any:
    """Create timm's NaFlex loader; refuse a recipe, because its batches are images, not sequences of patches."""
    if isinstance(dataset, Dataset):
        raise ValueError("dataset must not be a recipe for create_naflex_loader (--naflex-loader): it renders images")
    return timm_create_naflex_loader(dataset, *args, **keywords)


USAGE = """\
usage: python -m gpurender.interop.timm SCRIPT [ARGUMENT ...]

Runs timm's train.py or validate.py, or any script that imports create_dataset and create_loader from timm.data, with
these two knowing recipes: --dataset gpurender/NAME or --dataset gpurender/PATH.json, without a data directory.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a script with its arguments as ``python SCRIPT ARGUMENT ...`` would; return 2 if there is no such script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    if problem := _problem(words):
        print(f"{USAGE}\ngpurender.interop.timm: error: {problem}", file=sys.stderr)
        return 2
    with _recipes_known(words):
        runpy.run_path(words[0], run_name="__main__")
    return 0


def _problem(words: list[str]) -> str:
    """Return what is wrong with the script's path, or an empty string."""
    if not words:
        return "SCRIPT is missing"
    try:
        with open(words[0], "rb"):
            return ""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return f"SCRIPT must be a file that can be read, got {checks.shown(words[0])}: {reason}"


@contextlib.contextmanager
def _recipes_known(words: list[str]) -> Iterator[None]:
    """Give timm our functions, and Python the script's arguments and folder; restore both afterwards."""
    ours = (create_dataset, create_loader, create_naflex_loader)
    theirs = {function.__name__: getattr(timm.data, function.__name__) for function in ours}
    arguments, path = sys.argv, sys.path
    try:
        for function in ours:
            setattr(timm.data, function.__name__, function)
        sys.argv, sys.path = words, [os.path.dirname(os.path.abspath(words[0])), *path]
        yield
    finally:
        sys.argv, sys.path = arguments, path
        for name, function in theirs.items():
            setattr(timm.data, name, function)


if __name__ == "__main__":
    from gpurender.interop import timm as module  # as others import it, so that its classes exist only once

    sys.exit(module.main())
