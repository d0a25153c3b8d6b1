"""The manifest of a folder of tar files: the recipe, the selection and the images per file decide what each has."""

import hashlib
import json
from pathlib import Path
from typing import Any

from gpurender.commands.image_folder.claims import Manifest, check_fingerprint
from gpurender.commands.image_folder.selection import Selection
from gpurender.commands.web_dataset.tars import Tars
from gpurender.recipes.base import from_data
from gpurender.util.texts import read_text

NAME = "webdataset.json"


def tars_manifest(tars: Tars) -> Manifest:
    """Return the manifest of a folder of these tar files."""
    recipe = tars.renderer.recipe
    data = {
        "images": len(tars.selection),
        "per_tar": tars.per_tar,
        "selection": _digest(tars.selection),
        "recipe": json.loads(recipe.to_json()),
    }

    def check(path: Path) -> None:
        there = _read(path)
        check_fingerprint(path.parent, there["recipe"], recipe)
        for name, what in (("per_tar", "images per tar file"), ("images", "images")):
            if there[name] != data[name]:
                raise ValueError(f"folder {str(path.parent)!r} has {there[name]} {what}, not {data[name]}: {ADVICE}")
        if there["selection"] != data["selection"]:
            raise ValueError(f"folder {str(path.parent)!r} has other images of the recipe: {ADVICE}")

    return Manifest(NAME, json.dumps(data), check)


ADVICE = "give limit, per_class, classes and per_tar as in its first export, or another folder"


def _digest(selection: Selection) -> str:
    """Return 64 hex digits that change with the number of samples of any class."""
    return hashlib.sha256(selection.counts.astype("<i8").tobytes()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """Return the contents of a manifest, its recipe as a :class:`Recipe`, or raise ``ValueError``."""
    try:
        data = json.loads(read_text(path))
        if {"images", "per_tar", "selection", "recipe"} <= data.keys():
            return data | {"recipe": from_data(data["recipe"])}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no manifest of an export: {error}") from None
    raise ValueError(f"{path}: no manifest of an export")
