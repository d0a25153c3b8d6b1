"""What decided each image of a batch, as JSON values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gpurender.kernels.image_ops import Operation
from gpurender.kernels.resized_crop import BICUBIC, BILINEAR, NEAREST
from gpurender.loading.lookup import StepParameters
from gpurender.recipes.base import Recipe
from gpurender.recipes.mixture import Mixture
from gpurender.recipes.schedule import Schedule

FILTERS = {NEAREST: "nearest", BILINEAR: "bilinear", BICUBIC: "bicubic"}


def facts(recipe: Recipe, found: StepParameters, fresh: bool) -> list[dict[str, Any]]:
    """Return what decided each image of a batch.

    Args:
        recipe: of the loader.
        found: what ``loader.parameters_at`` returned.
        fresh: whether every epoch has new instances.

    Returns:
        One dictionary an image: ``position`` in the epoch, ``sample``, ``class``, ``instance``, ``label``,
        ``draw_id`` (the address of the canvas's randomness under the recipe's seed) and ``augment_id`` (that of the
        augmentation's under the loader's seed); ``stage``, of a schedule, from 0;
        ``class_parameters`` (:meth:`gpurender.Recipe.class_parameters`);
        ``augmentation``, every parameter that the policy drew, by the policy's own names; ``partner``, the image of the
        batch that it is mixed with, or ``None``.
    """
    classes, instances = _classes(recipe, found.indices)
    labels = found.labels.tolist()
    count = len(found.indices)
    stages, owners = _owners(recipe, found.indices, classes, instances)
    stated = _class_parameters(owners)
    return [
        {
            **({} if stages is None else {"stage": stages[n]}),
            "position": found.first + n,
            "sample": int(found.indices[n]),
            "class": int(classes[n]),
            "instance": int(instances[n]),
            "label": labels[n],
            "draw_id": int(found.draw_ids[n]) if fresh else _own_id(*owners[n]),
            "augment_id": int(found.augment_ids[n]),
            **stated[n],
            "augmentation": _augmentation(found.parameters, n),
            "partner": _partner(found, classes, n, count),
        }
        for n in range(count)
    ]


def _owners(
    recipe: Recipe, indices: np.ndarray, classes: np.ndarray, instances: np.ndarray
) -> tuple[list[int] | None, list[tuple[Recipe, int, int]]]:
    """Return the stages of samples, ``None`` unless the recipe is a schedule; and for each sample the recipe that it is
    of, with its class and instance there.
    """
    if not isinstance(recipe, Schedule):
        return None, [(recipe, *pair) for pair in zip(classes.tolist(), instances.tolist(), strict=True)]
    stages, local = recipe.located(indices)
    owners = []
    for stage, sample in zip(stages, local, strict=True):
        own = recipe.recipes[stage]
        [number], [instance] = _classes(own, np.array([sample]))
        owners.append((own, int(number), int(instance)))
    return stages.tolist(), owners


def _class_parameters(owners: list[tuple[Recipe, int, int]]) -> list[dict[str, Any]]:
    """Return for each image ``{"class_parameters": …}``, or ``{}`` if its family states none; each class is asked for
    once.
    """
    known: dict[tuple[int, int], dict[str, Any]] = {}
    for key, recipe in {id(recipe): recipe for recipe, _, _ in owners}.items():
        numbers = np.unique(np.array([number for own, number, _ in owners if own is recipe], np.int64))
        for number, each in zip(numbers.tolist(), recipe.class_parameters(numbers), strict=True):
            known[key, number] = {"class_parameters": each} if each else {}
    return [known[id(recipe), number] for recipe, number, _ in owners]


def _part(recipe: Recipe, number: int) -> tuple[Recipe, int]:
    """Return the recipe of a mixture that a class is of, and the number of the class there."""
    while isinstance(recipe, Mixture):
        for part in recipe.recipes:
            if number < part.classes:
                recipe = part
                break
            number -= part.classes
    return recipe, number


def _own_id(recipe: Recipe, number: int, instance: int) -> int:
    """Return the draw id of an image of the dataset itself: its number in the untrimmed dataset of its own recipe."""
    part, own = _part(recipe, number)
    return own * part.instances + instance


def _classes(recipe: Recipe, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return class and instance of samples, int64 ``[B]`` each."""
    begins, counts = recipe.first_samples(), recipe.class_counts()
    there = np.flatnonzero(counts)
    classes = there[np.searchsorted(begins[there], indices, side="right") - 1]
    return classes, indices - begins[classes]


def _augmentation(parameters: Mapping[str, torch.Tensor], n: int) -> dict[str, Any]:
    """Return the parameters of image n by name; operations and filters by their names."""
    found: dict[str, Any] = {}
    for name, tensor in parameters.items():
        kind = name.rpartition(".")[2]  # those of view v are named "v.name"
        if kind == "sizes":  # which holds no numbers
            continue
        value: Any = tensor[n].tolist()
        if kind == "operations":
            value = [Operation(code).name for code in value]
        elif kind == "operation_interpolations":
            value = [FILTERS[code] for code in value]
        elif kind == "interpolations":
            value = FILTERS[value]
        found[name] = value
    return found


def _partner(found: StepParameters, classes: np.ndarray, n: int, count: int) -> dict[str, Any] | None:
    """Return what image n is mixed with, by the rule of ``gr.augment.DeiT``; ``None`` if its pixels are its own."""
    if not {"mix_weights", "cutmix", "cutmix_patches"} <= set(found.parameters):
        return None
    weight, cut = found.parameters["mix_weights"][n].item(), found.parameters["cutmix"][n].item()
    patch = found.parameters["cutmix_patches"][n].tolist()
    other = count - 1 - n
    mixed = patch[2] * patch[3] > 0 if cut else weight < 1.0
    if other == n or not mixed:
        return None
    how = {"how": "cutmix", "patch": patch} if cut else {"how": "mixup"}
    return {
        "number": other,
        "sample": int(found.indices[other]),
        "class": int(classes[other]),
        "weight": 1.0 - weight,
        **how,
    }
