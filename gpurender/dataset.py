"""Dataset: the images of a recipe one by one, for torch's DataLoader and other readers of map-style datasets."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from gpurender import sheet
from gpurender.augment.adapter import PolicyLike
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.util import checks, keywords
from gpurender.util.lazy import cached_property

__all__ = ["Dataset"]


@keywords.checked
class Dataset(torch.utils.data.Dataset[tuple[Any, int]]):
    """The images of a recipe as a map-style dataset, rendered on the CPU on request.

    >>> dataset = gr.Dataset("onepfrac-1k", transform=torchvision.transforms.ToTensor())
    >>> loader = torch.utils.data.DataLoader(dataset, batch_size=256, shuffle=True, num_workers=8)

    The pixels are those of :class:`gpurender.Renderer` in epoch 0 (the dataset as published), the same in every
    process.

    Args:
        recipe: any argument of ``gr.recipe``: a recipe, a preset's name, JSON, the path of a JSON file.
        transform: called with the image; its result replaces the image. The attribute may be set later.
        cache_bytes: bytes of RAM for what repeats, as for :class:`gpurender.Renderer`; each worker of torch's
            ``DataLoader`` has its share.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(
        self,
        recipe: RecipeLike,
        transform: Callable[[Image.Image], Any] | None = None,
        *,
        cache_bytes: int | None = None,
    ) -> None:
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be None or a callable that takes an image, got {checks.shown(transform)}")
        self.recipe = as_recipe(recipe)
        self.transform = transform
        self._renderer = Renderer(self.recipe, cache_bytes=cache_bytes)

    def __repr__(self) -> str:
        transform = "" if self.transform is None else f", transform={checks.shown(self.transform)}"
        return f"Dataset({self.recipe.in_short}{transform})"

    def _repr_png_(self) -> bytes | None:
        """Return a small contact sheet without the transform, which notebooks show, as :meth:`picture` does."""
        return self.picture()

    def picture(self, augment: PolicyLike | str | None = None) -> bytes | None:
        """Return a small contact sheet as a PNG file; ``None`` if that needs a search of minutes.

        Args:
            augment: a policy (of one view) to show; ``None``: the canvases.
        """
        return sheet.notebook_png(self._renderer, augment)

    def __len__(self) -> int:
        return len(self.recipe)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, by label."""
        return [self.recipe.class_name(label) for label in range(self.recipe.classes)]

    @cached_property
    def class_to_idx(self) -> dict[str, int]:
        """Labels by class name."""
        return {name: label for label, name in enumerate(self.classes)}

    @cached_property
    def targets(self) -> list[Any]:
        """Labels of all samples, as ``dataset[index]`` returns them (with ``label_noise``, including the noisy ones):
        ints, or pairs (recipe, label) for a mixture with separate labels. Computed at first use; no image is rendered.

        Raises:
            AttributeError: labels are multi-hot; a row of each sample would take 4 GB for a million of 1,000 classes.
        """
        if self.recipe.multi_hot:
            raise AttributeError(
                "a dataset with multi-hot labels has no targets: take gr.Renderer(recipe).labels(samples)"
            )
        found: list[Any] = []
        for labels in self._renderer.first_labels(len(self)):
            given = labels.tolist()
            found += given if given and isinstance(given[0], int) else map(tuple, given)
        return found

    def __getitem__(self, index: Any) -> tuple[Any, int]:
        """Return one sample: ``(image, label)`` with a PIL image of mode ``"RGB"``, or the result of ``transform``.

        Raises:
            IndexError: the index is not in ``[-len, len)``.
            TypeError: the index is not an integer.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Any) -> list[tuple[Any, int]]:
        """Return several samples, rendered together; torch's DataLoader requests a whole batch this way."""
        samples = [self._sample(index) for index in indices]
        canvases = self._renderer(samples)  # [n, C, S, S] uint8
        given = self._renderer.labels(samples)
        # Separate labels: int64 [2]; multi-hot labels: float32 [classes]
        labels = given.tolist() if given.dim() == 1 else list(given)
        return [(self._shown(canvas), label) for canvas, label in zip(canvases, labels, strict=True)]

    def _shown(self, canvas: torch.Tensor) -> Any:
        """Return a canvas, uint8 ``[C, S, S]`` with C = 1 or 3, as an RGB image or the transform's result."""
        channels = canvas.permute(1, 2, 0).contiguous().numpy()  # [S, S, C]
        image = Image.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels).convert("RGB")
        return image if self.transform is None else self.transform(image)

    def _sample(self, index: Any) -> int:
        """Return an index of a Python sequence, which may be negative, as an index in ``[0, len)``."""
        length = len(self)
        try:
            if checks.is_boolean(index):
                raise TypeError
            number = operator.index(index)
        except Exception:
            raise TypeError(
                f"index must be an integer in [{-length}, {length - 1}], got {checks.shown(index)}"
            ) from None
        if not -length <= number < length:
            raise IndexError(f"index must be an integer in [{-length}, {length - 1}], got {checks.shown(number)}")
        return number + length if number < 0 else number
