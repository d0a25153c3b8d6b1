"""Data cards: what a model was trained on, as Markdown for a model card, with hashes by which anyone can check it."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from gpurender.recipes.base import Recipe, RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.sheet import contact_sheet
from gpurender.training import checkpoint
from gpurender.training.loop import CHECKPOINT
from gpurender.util import checks
from gpurender.util.atomic_files import check_writable, replacing
from gpurender.util.file_hash import sha256_of
from gpurender.util.progress import progress
from gpurender.util.texts import read_text
from gpurender.util.version import __version__

FORMAT = 1
KEY = "gpurender_card"  # of the JSON block, with the version
HASHED = 32  # canvases whose hashes are in a card
ROWS, COLS, CELL = 3, 8, 128  # of the pictures
FENCE = "```"

LICENCE = """The images are computed from the recipe below; no photograph, no scraped file and no person is in them, and
nothing was labelled by hand. The program that draws them, gpurender, is under Apache-2.0. A recipe is a list of numbers
after the paper named above, which should be cited. This describes the data; it is no legal advice."""
GIVEN = """The recipe holds `categories` that were given to it, not searched by gpurender; whoever published them may
ask for attribution."""
PICTURE = "The recipe is built on a picture that was given to it, whose own licence holds for everything drawn from it."


class CardError(RuntimeError):
    """A card does not hold: the message says what differs."""


class Subject(NamedTuple):
    """What a card is about: a recipe, and the description of the checkpoint that was trained on it, or ``None``."""

    recipe: Recipe
    about: Mapping[str, Any] | None = None
    path: Path | None = None

    @property
    def epochs(self) -> list[int]:
        """The epochs of which canvases are hashed: 0, and the last one seen where every epoch has new instances."""
        fresh = self.about is not None and self.about["data"]["fresh"]
        return sorted({0, self.about["stream"]["epoch"]}) if self.about is not None and fresh else [0]


def write_card(of: Any, output: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Path:
    """Write the data card of a checkpoint or a recipe, and its pictures beside it; return the card's path.

    Args:
        of: the path of a ``checkpoint.safetensors`` of ``gpurender pretrain`` or of its folder, or any argument of
            ``gr.recipe``.
        output: the card, ``NAME.md``; the pictures are ``NAME.png``.
        device: that renders.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    path = checks.path("output", output)
    if path.suffix.lower() != ".md":
        raise ValueError(f"output must end in .md, got {str(path)!r}")
    subject = subject_of(of)
    pictures = path.with_suffix(".png")
    for file in (path, pictures):
        check_writable(str(file))
    renderer = Renderer(subject.recipe, device)
    hashes = list(hashed(renderer, samples_of(subject.recipe), subject.epochs))
    sheet: Image.Image = contact_sheet(renderer, ROWS, COLS, cell=CELL)
    with replacing(pictures) as temporary:
        sheet.save(temporary, format="PNG")
    with replacing(path) as temporary:
        Path(temporary).write_text(card(subject, pictures.name, hashes), encoding="utf-8")
    return path


def subject_of(of: Any) -> Subject:
    """Return what a card is about.

    Raises:
        ValueError: this is neither a checkpoint of a pre-training nor a recipe.
    """
    if isinstance(of, (str, os.PathLike)):
        path = Path(os.fspath(of))
        path = path / CHECKPOINT if path.is_dir() else path
        if path.suffix == ".safetensors":
            about = checkpoint.describe(path)
            if about["kind"] != "pretrain":
                raise ValueError(
                    f"CHECKPOINT must be one of gpurender pretrain, {str(path)!r} is one of {about['kind']}"
                )
            return Subject(as_recipe(about["data"]["recipe"]), about, path)
    chosen: RecipeLike = of
    return Subject(as_recipe(chosen))


def samples_of(recipe: Recipe) -> list[int]:
    """Return the samples whose canvases are hashed: at most 32, spread over all."""
    return np.unique(np.linspace(0, len(recipe) - 1, HASHED).astype(np.int64)).tolist()


def hashed(renderer: Renderer, samples: list[int], epochs: list[int]) -> Iterator[tuple[int, int, str]]:
    """Yield sample, epoch and SHA-256 of the bytes of its canvas (uint8 ``[C, S, S]``), one canvas at a time."""
    with progress(total=len(samples) * len(epochs), desc="hashes", unit="image") as bar:
        for epoch in epochs:
            for sample in samples:
                canvas = renderer([sample], epoch)[0].cpu().contiguous().numpy()
                yield sample, epoch, hashlib.sha256(canvas.tobytes()).hexdigest()
                bar.update()


def card(subject: Subject, pictures: str, hashes: list[tuple[int, int, str]]) -> str:
    """Return the text of a card.

    Args:
        subject: what it is about.
        pictures: name of the file with the pictures.
        hashes: of canvases, as :func:`hashed` yields them.
    """
    parts = [
        f"# Training data: {subject.recipe.family}", _sizes(subject.recipe), f"![images of the recipe]({pictures})",
        *(_training(subject) if subject.about is not None else []),
        "## Licence position", LICENCE, *_given(subject.recipe),
        "## Recipe, and how to check it",
        "`pip install gpurender` and `gpurender verify` with the name of this file draw the canvases below again and "
        "compare their SHA-256; `gr.recipe` takes the recipe.",
        f"{FENCE}json\n{_block(subject, hashes)}\n{FENCE}",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _sizes(recipe: Recipe) -> str:
    """Return the table of what a recipe is."""
    rows = {
        "family": f"{recipe.family}, variant {recipe.variant}",
        "paper": recipe.source or "-",
        "classes": f"{recipe.classes:,}",
        "images": f"{len(recipe):,} of {recipe.image_size} x {recipe.image_size} pixels, "
        + ("grey" if recipe.channels == 1 else "colour"),
        **({} if hasattr(recipe, "recipes") else {"seed": str(recipe.seed)}),  # else each of them has its own
        "fingerprint": f"`{recipe.fingerprint}`",
        "drawn by": f"gpurender {__version__}; the same bytes on every machine",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _training(subject: Subject) -> list[str]:
    """Return the paragraphs about a training: model, length, exact samples, augmentation."""
    about = subject.about or {}
    settings, data = about["settings"], about["data"]
    assert subject.path is not None
    rows = {
        "model": f"{about['model']['name']}, {about['model']['image_size']} pixels",
        "checkpoint": f"`{subject.path.name}`, SHA-256 `{sha256_of(subject.path)}`",
        "length": f"{about['step']:,} steps of {settings['batch_size']:,} images: {about['images']:,} images",
        "samples": samples_seen(about),
        "order": f"shuffled by Philox4x32-10, seed {data['loader_seed']}; `gpurender replay` shows any step again",
        "augmentation": f"`{data['augment']}`",
        "versions": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])
    return ["## Training", table]


def samples_seen(about: Mapping[str, Any]) -> str:
    """Return exactly which samples a checkpoint of a pre-training has seen, in words."""
    stream, settings = about["stream"], about["settings"]
    length, epoch, position = stream["length"], stream["epoch"], stream["position"]
    step = settings["batch_size"] // settings["accumulate"]
    whole = length // step * step or length  # an epoch of less than a step is one step
    if whole * epoch + position != about["images"] and step <= length:
        return f"up to position {position:,} of epoch {epoch:,}; --accumulate was changed on the way"
    parts = []
    if epoch:
        ends = "epoch 0" if epoch == 1 else f"epochs 0 to {epoch - 1:,}"
        parts.append(f"positions 0 to {whole - 1:,} of {ends}")
    if position:
        parts.append(f"positions 0 to {position - 1:,} of epoch {epoch:,}")
    said = f"{', then '.join(parts) or 'none'}; an epoch is {length:,} positions, {_order(about)}"
    return said + (", new instances in every epoch" if stream["fresh"] else "")


def _order(about: Mapping[str, Any]) -> str:
    """Return which samples the positions of an epoch have, in words."""
    if about["stream"]["repeats"] > 1:
        return f"{about['stream']['repeats']} in a row with the same sample"
    family = about["data"]["recipe"]["family"]  # of one epoch, these have some samples twice and others not at all
    words = {"mixture": "shared among the recipes by their weights", "schedule": "each with a sample of its stage"}
    return words.get(family, "each with another sample")


def _given(recipe: Recipe) -> list[str]:
    """Return the paragraphs about what was given to a recipe by its user."""
    parts = getattr(recipe, "recipes", None)
    if parts is not None:  # a mixture, or a schedule, whose stages may be mixtures
        return list(dict.fromkeys(text for part in parts for text in _given(part)))
    found = [GIVEN] if getattr(recipe, "categories", None) is not None else []
    return found + [PICTURE] * (recipe.family == "singleimage")


def _block(subject: Subject, hashes: list[tuple[int, int, str]]) -> str:
    """Return the JSON of a card, one canvas a line."""
    values: dict[str, Any] = {
        KEY: FORMAT, "recipe": json.loads(subject.recipe.to_json()), "fingerprint": subject.recipe.fingerprint,
    }  # fmt: skip
    if subject.about is not None:
        kept = ("model", "data", "settings", "step", "images", "stream", "processes", "versions")
        values["training"] = {name: subject.about[name] for name in kept if name in subject.about}
        data = values["training"]["data"]
        values["training"]["data"] = {name: value for name, value in data.items() if name != "recipe"}
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    rows = ",\n".join(f"    {json.dumps(row)}" for row in hashes)
    return "{\n" + ",\n".join([*lines, f'  "canvases": [\n{rows}\n  ]']) + "\n}"


def read_card(text: str) -> dict[str, Any]:
    """Return the JSON of a card: ``recipe``, ``fingerprint``, ``canvases`` (sample, epoch, SHA-256 each).

    Raises:
        ValueError: the text is no card, or one that this version cannot read.
    """
    found = None
    for part in text.split(f"{FENCE}json\n")[1:]:
        try:
            values = json.loads(part.partition(f"\n{FENCE}")[0])
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and KEY in values:
            found = values
    if found is None:
        raise ValueError(f"CARD must be a card of gpurender card, with a block of JSON that has {KEY!r}")
    if found[KEY] != FORMAT:
        raise ValueError(f"CARD has version {found[KEY]!r}, this gpurender reads {FORMAT}")
    rows = found.get("canvases")
    whole = isinstance(rows, list) and rows and all(isinstance(row, list) and len(row) == 3 for row in rows)
    if not whole or "recipe" not in found or not isinstance(found.get("fingerprint"), str):
        raise ValueError("CARD must have a recipe, a fingerprint and canvases in its JSON: one is missing or damaged")
    return found


def verify_card(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> int:
    """Draw the canvases of a card again and compare; return how many are equal.

    Raises:
        TypeError, ValueError: this is no card, or its recipe or a sample does not exist.
        CardError: a hash or the fingerprint differs; the message says which.
    """
    place = checks.path("CARD", path)
    try:
        text = read_text(place)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"CARD {str(place)!r} cannot be read: {reason}") from None
    values = read_card(text)
    recipe = as_recipe(values["recipe"])
    if recipe.fingerprint != values["fingerprint"]:
        raise CardError(
            f"fingerprint differs: the card says {values['fingerprint'][:12]}…, and its recipe has "
            f"{recipe.fingerprint[:12]}… in gpurender {__version__}"
        )
    renderer = Renderer(recipe, device)
    for sample, epoch, digest in values["canvases"]:
        [(_, _, drawn)] = hashed(renderer, [sample], [epoch])
        if drawn != digest:
            raise CardError(
                f"canvas of sample {sample}, epoch {epoch} differs: the card says {str(digest)[:12]}…, and "
                f"{drawn[:12]}… is drawn"
            )
    return len(values["canvases"])
