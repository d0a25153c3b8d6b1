"""Contact sheets: pictures of a dataset in a grid, with the names of their classes."""

import io
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.augment.policy import Policy
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.recipes.base import Recipe
from gpurender.util import checks
from gpurender.util.progress import progress
from gpurender.util.ranges import Numbers, numbers

GAP = 4  # pixels between images
CAPTION = 16  # pixels: height of a line with a class's name
PAPER, INK = 255, 64  # grey levels of the sheet and of the names
NOTEBOOK_SIDE = 2048  # pixels: largest canvas that is rendered for a notebook
MOST = 64  # rows, columns
ROWS = 4  # default
ALIKE = 0.98  # correlation, in blocks, of two pictures that look the same
BLOCKS = 16  # blocks per side of a picture, of which only the mean is looked at
BRIGHT, BRIGHTEST = 150.0, 4.0  # level that a sheet's brightest blocks are raised to, by this factor at most
BRIGHT_PART = 98.0  # percentile of the blocks that is raised to BRIGHT


class Draws(Protocol):
    """What renders the canvases of a sheet: a :class:`gpurender.Renderer`."""

    recipe: Recipe
    device: torch.device

    def __call__(self, samples: Any, epoch: int = 0) -> torch.Tensor: ...


class Grid(NamedTuple):
    """What a sheet shows: ``classes`` int64 ``[K]``, indices and epochs of their samples, int64 ``[K, I]`` each."""

    classes: np.ndarray
    samples: np.ndarray
    epochs: np.ndarray


def contact_sheet(
    renderer: Draws,
    rows: int | None = None,
    cols: int = 6,
    *,
    classes: Numbers | None = None,
    augment: PolicyLike | str | None = None,
    cell: int = 224,
) -> Image.Image:
    """Render a sheet of classes, spread over all classes, each with its name above.

    A row is one class, a column one instance. If the recipe has one instance per class, or the instances of a class
    look alike (the first class and the middle one are compared), every cell is another class instead.

    The sheet is brightened for display, by one factor of 1 to 4 for all of its pictures, so that their brightest parts
    are seen in a thumbnail. The canvases of the recipe are not changed.

    Args:
        renderer: renders the recipe.
        rows: 1 to 64; default 4, or with ``classes`` as many as these need. A recipe with fewer classes (that have
            images) fills fewer rows.
        cols: 1 to 64. Where a class has fewer instances, the columns continue into the next epochs.
        classes: the classes to choose from, in order: a text such as ``"0-9,42"``, an integer, or a list, range or
            array of integers; default: all that have images.
        augment: a policy (of one view) to show; default: the canvas itself, resized. Where a policy mixes samples,
            every picture is mixed with one from another part of the sheet, which is itself mixed with a third.
        cell: side of a picture on the sheet in pixels, 1 to 65535.

    Returns:
        An RGB image.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    recipe = renderer.recipe
    rows = None if rows is None else checks.integer("rows", rows, 1, MOST)
    cols = checks.integer("cols", cols, 1, MOST)
    cell = checks.integer("cell", cell, 1, MAX_SIDE)
    pool = _pool(recipe, classes)
    one_per_cell = recipe.instances == 1 or _look_alike(renderer, pool[[0, len(pool) // 2]], min(cols, 6))
    per_row = cols if one_per_cell else 1
    if rows is None:
        rows = ROWS if classes is None else -(-len(pool) // per_row)
        if rows > MOST:
            raise ValueError(f"classes must be at most {MOST * per_row} without rows, got {len(pool)}")
    chosen = pool[np.linspace(0, len(pool) - 1, min(len(pool), rows * per_row)).astype(np.int64)]
    grid = _grid(recipe, chosen, 1 if one_per_cell else cols)
    cols = min(cols, grid.samples.size)
    pictures = _brightened(_pictures(renderer, grid, cols, augment, cell))
    return _drawn(pictures, [recipe.class_name(number) for number in chosen.tolist()], cols)


def notebook_png(renderer: Draws, augment: PolicyLike | str | None = None) -> bytes | None:
    """Return a small sheet as a PNG file; ``None`` if that may take more than seconds.

    A recipe that needs a search takes minutes, and twelve canvases of 8192 x 8192 pixels half a minute.
    """
    if renderer.recipe.needs_search() or renderer.recipe.image_size > NOTEBOOK_SIDE:
        return None
    file = io.BytesIO()
    contact_sheet(renderer, 2, 6, augment=augment, cell=112).save(file, format="PNG")
    return file.getvalue()


def _pool(recipe: Recipe, classes: Numbers | None) -> np.ndarray:
    """Return the classes to choose from, int64 ``[K]``."""
    counts = recipe.class_counts()
    if classes is None:
        return np.flatnonzero(counts)
    given = numbers(classes, recipe.classes, "classes")
    if (empty := given[counts[given] == 0]).size:
        raise ValueError(f"classes must have images, and class {empty[0]} of this recipe has none")
    return given


def _grid(recipe: Recipe, classes: np.ndarray, instances: int) -> Grid:
    """Return samples of each class: its instances, spread, and then those of the next epochs."""
    begins, counts = recipe.first_samples()[classes, None], recipe.class_counts()[classes, None]  # [K, 1]
    last = np.maximum(counts, instances) - 1
    places = np.floor(np.linspace(0, 1, instances) * last + 1e-9).astype(np.int64)  # [K, I]
    return Grid(classes, begins + places % counts, places // counts)


def _look_alike(renderer: Draws, classes: np.ndarray, instances: int) -> bool:
    """Return whether, in each of the classes, all instances show the same picture up to its details."""
    grid = _grid(renderer.recipe, classes, instances)
    for samples, epochs in zip(grid.samples, grid.epochs, strict=True):
        canvases = _canvases(renderer, samples, epochs).float().mean(1)  # [I, S, S]
        blocks = torch.nn.functional.adaptive_avg_pool2d(canvases, BLOCKS).flatten(1).double()
        blocks = blocks - blocks.mean(1, keepdim=True)
        norms = blocks.norm(dim=1)
        if not bool((blocks @ blocks[0] > ALIKE * norms * norms[0]).all()):  # false for blank canvases, too
            return False
    return True


def _canvases(renderer: Draws, samples: np.ndarray, epochs: np.ndarray) -> torch.Tensor:
    """Render samples at their epochs; uint8 ``[N, C, S, S]`` on the renderer's device."""
    drawn = [renderer(samples[epochs == epoch], int(epoch)) for epoch in np.unique(epochs)]
    order = np.argsort(np.argsort(epochs, kind="stable"))
    return torch.cat(drawn)[torch.from_numpy(order).to(renderer.device)]


def _pictures(renderer: Draws, grid: Grid, cols: int, augment: PolicyLike | str | None, cell: int) -> np.ndarray:
    """Render a grid and apply the policy; uint8 ``[K * I, cell, cell, 3]``, class by class.

    With a policy every picture is the first of a batch of two, so each has its own weight and patch of mixing.
    """
    total = grid.samples.size
    pictures = np.empty((total, cell, cell, 3), np.uint8)
    samples, epochs = grid.samples.reshape(-1), grid.epochs.reshape(-1)
    classes, instances = grid.samples.shape
    partners = _partners(classes, instances, cols)
    with progress(total=total, desc="preview", unit="image") as bar:
        for number in range(total):
            batch = [number, partners[number]] if augment is not None and partners[number] != number else [number]
            pictures[number] = _augmented(renderer, samples[batch], epochs[batch], augment, cell)[0]
            bar.update()
    return pictures


def _partners(classes: int, instances: int, cols: int) -> np.ndarray:
    """Return the picture that each one is mixed with, int64 ``[classes * instances]``: of another class, far away.

    No two pictures are mixed with each other, because both would show the same (unless there are only two classes, or
    one).
    """
    total = classes * instances
    if instances > 1:
        there = np.arange(total).reshape(classes, instances)
        return np.roll(there, (-(classes // 2) - (classes > 2), -(instances // 2)), (0, 1)).reshape(-1)
    shift = -(-total // cols) // 2 * cols + cols // 2  # half the rows down, half the columns across
    shift += total > 2 and 2 * shift % total == 0
    return (np.arange(total) + shift) % total


def _augmented(
    renderer: Draws, samples: np.ndarray, epochs: np.ndarray, augment: PolicyLike | str | None, cell: int
) -> np.ndarray:
    """Render a batch and apply the policy; uint8 ``[N, cell, cell, 3]``."""
    policy = as_policy(augment)
    canvases = _canvases(renderer, samples, epochs)
    draw_ids = samples + epochs * len(renderer.recipe)
    parameters = policy.draw(draw_ids, canvas_size=renderer.recipe.image_size, image_size=cell)
    images = policy.apply(canvases, parameters, image_size=cell)  # [N, 3, cell, cell], normalised
    return in_bytes(images, policy)


def in_bytes(images: torch.Tensor, policy: Policy) -> np.ndarray:
    """Return images ``[N, 3, S, S]`` as they were before a policy normalised them; uint8 ``[N, S, S, 3]``."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device="cpu").view(1, 3, 1, 1) for values in (policy.mean, policy.std)
    )
    levels = (images.cpu() * std + mean) * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _brightened(pictures: np.ndarray) -> np.ndarray:
    """Return pictures, uint8 ``[N, cell, cell, 3]``, multiplied by one factor that makes their bright parts visible."""
    levels = np.arange(256) * brightness(pictures)
    return levels.round().clip(0, 255).astype(np.uint8)[pictures]


def brightness(pictures: np.ndarray) -> float:
    """Return the factor, 1 to 4, that makes the bright parts of pictures visible; uint8 ``[N, cell, cell, C]``."""
    grey = torch.from_numpy(pictures.mean(3, dtype=np.float32))[:, None]  # [N, 1, cell, cell]
    blocks = torch.nn.functional.adaptive_avg_pool2d(grey, BLOCKS).numpy()
    factor = BRIGHT / max(float(np.percentile(blocks, BRIGHT_PART)), 1.0)
    return min(max(factor, 1.0), BRIGHTEST)


def _drawn(pictures: np.ndarray, names: list[str], cols: int) -> Image.Image:
    """Return the sheet of pictures, row by row, with a name above each picture or, with fewer names, above each row."""
    total, cell = pictures.shape[:2]
    per_name = total // len(names)
    rows = -(-total // cols)
    size = GAP + cols * (cell + GAP), GAP + rows * (CAPTION + cell + GAP)
    sheet = Image.new("RGB", size, (PAPER,) * 3)
    for number, picture in enumerate(pictures):
        left, top = GAP + number % cols * (cell + GAP), GAP + number // cols * (CAPTION + cell + GAP)
        sheet.paste(Image.fromarray(picture), (left, top + CAPTION))
        if number % per_name == 0:
            width = cell if per_name == 1 else size[0] - GAP
            sheet.paste(_caption(names[number // per_name], width), (left, top))
    return sheet


def _caption(name: str, width: int) -> Image.Image:
    """Return a line that names a class, of a width in pixels; a narrow line has only the name."""
    letters = font()
    text = f"class {name}"
    line = Image.new("L", (width, CAPTION), PAPER)
    ImageDraw.Draw(line).text((1, 1), text if letters.getlength(text) < width else name, fill=INK, font=letters)
    return line


def font() -> Any:
    """Return Pillow's own font, at 12 pixels where Pillow can scale it (10.1 and later, with FreeType)."""
    try:
        return ImageFont.load_default(12)
    except (TypeError, ImportError):
        return ImageFont.load_default()
