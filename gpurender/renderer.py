"""Renderer: a recipe and indices in, uint8 canvases out, on one device."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gpurender import sheet
from gpurender.kernels.shuffle import last_epoch
from gpurender.recipes.base import Recipe, RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime import cuda_streams, devices, dispatch, free_memory
from gpurender.runtime.tensors import ordinary
from gpurender.util import checks, keywords

__all__ = ["Renderer"]

LABELS = 8192  # labels computed per call


@keywords.checked
class Renderer:
    """Render the images of a recipe.

    >>> renderer = gr.Renderer("onepfrac-1k", device="cuda")
    >>> renderer([0, 1, 2])  # uint8 [3, 1, 512, 512] on the GPU
    >>> renderer.labels([0, 1, 2])  # int64 [3]

    The image of an index has the same bytes in every batch, order, process and thread count, and on every device. The
    one-time work of a family (a category search, the parameters of its classes) is done at the first image and kept.

    Args:
        recipe: any argument of ``gr.recipe``: a recipe, a preset's name, JSON, the path of a JSON file.
        device: where to render: ``"cpu"``, ``"cuda"`` (torch's current GPU), ``"cuda:1"`` …
        cache_bytes: bytes of the device's memory (on a CPU: of RAM) for what repeats; in a worker of torch's
            ``DataLoader`` its share of that. ``None``: a quarter of the memory that is free when the first image is
            rendered, at most 1 GiB (:mod:`gpurender.runtime.free_memory`). The released variants of 1p-frac and
            FractalDB in grey, not ``fresh``, and OFDB have finitely many images. One bit per pixel of each image is
            kept if all of them fit (31 MiB for onepfrac-1k, 656 MiB for onepfrac-21k), else of each point set if these
            fit (414 MiB for fractaldb-1k; always of a mixture's recipes), and only the masks are drawn per image. What
            does not fit is drawn anew whenever it is rendered. A GPU computes all of them at once, a CPU each when it
            is first wanted. 0 keeps none. The images are the same.

    Raises:
        ValueError: the recipe or the device does not exist.
        RuntimeError: the device is a GPU, and the packages that compile its kernels are missing.
    """

    def __init__(
        self, recipe: RecipeLike, device: str | torch.device = "cpu", *, cache_bytes: int | None = None
    ) -> None:
        self.recipe = as_recipe(recipe)
        if device is None:
            raise ValueError("device must be 'cpu', 'cuda' or 'cuda:0', 'cuda:1' …, got None")
        self.device = devices.resolve(device)
        if cache_bytes is not None:
            cache_bytes = checks.integer("cache_bytes", cache_bytes, 0, checks.UINT64_MAX)
        self._cache_bytes = cache_bytes
        self._catalog: Any = None
        self._labels: Any = None

    def __repr__(self) -> str:
        return f"Renderer({self.recipe.in_short}, device={str(self.device)!r})"

    def _repr_png_(self) -> bytes | None:
        """Return a small contact sheet, which notebooks show; ``None`` if that needs a search of minutes."""
        return sheet.notebook_png(self)

    def __call__(self, samples: Any, epoch: int = 0, *, fresh: bool | None = None) -> torch.Tensor:
        """Render samples.

        Args:
            samples: indices in ``[0, len(recipe))``: an int, a list, a NumPy array or a torch tensor of integers;
                ``[N]``.
            epoch: 0 is the dataset itself; every further epoch has new instances of the same classes.
            fresh: whether each image draws all of its randomness, including the part that the released dataset shares
                between images; default: in epochs after 0.

        Returns:
            uint8 ``[N, C, S, S]`` on the device, C = 1 (grey) or 3, S = ``recipe.image_size``; not augmented.

        Raises:
            TypeError, ValueError: samples are not integers or out of range.
            torch.cuda.OutOfMemoryError: the canvases do not fit the GPU.
        """
        indices = self._indices(samples)
        epoch = checks.integer("epoch", epoch, 0, last_epoch(len(self.recipe)))
        fresh = epoch > 0 if fresh is None else checks.boolean("fresh", fresh)
        return self.render(indices, indices + epoch * len(self.recipe) if epoch else indices, fresh)

    @ordinary
    def render(
        self,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool = False,
        windows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Render indices that are already on the device, int64 ``[N]``, with the randomness of the draw ids.

        This method is the unchecked variant of calling the renderer. It never synchronises (except for a mixture, whose
        indices the host must know). ``bits``, ``windows``: as for ``Recipe.render``; with them the canvases may be
        ``BitCanvases`` or have undefined pixels outside the windows.
        """
        try:
            canvases = self.recipe.render(self.catalog, self._label_map, indices, draw_ids, fresh, bits, windows)
        except torch.cuda.OutOfMemoryError as error:
            size = self.recipe.image_size
            raise torch.cuda.OutOfMemoryError(
                f"{self.device} has no memory for a batch of {len(indices)} canvases of {self.recipe.channels} x "
                f"{size} x {size} bytes and their rendering; take a smaller batch ({str(error).splitlines()[0]})"
            ) from None
        cuda_streams.lend([self.catalog, self._label_map.tensors], self.device)
        return canvases

    def labels(self, samples: Any, epoch: int = 0, *, fresh: bool | None = None) -> torch.Tensor:
        """Return labels of samples, int64 ``[N]`` on the device: ``index // instances``, changed by the recipe's
        ``class_prior`` and ``label_noise``; ``[N, 2]``, recipe and label, for a mixture with separate labels; multi-hot
        rows, float32 ``[N, classes]``, for a recipe whose images have several classes.

        ``epoch``, ``fresh``: as in rendering; only the noise, and the classes of several objects, depend on them.
        """
        indices = self._indices(samples)
        epoch = checks.integer("epoch", epoch, 0, last_epoch(len(self.recipe)))
        fresh = epoch > 0 if fresh is None else checks.boolean("fresh", fresh)
        return self.labels_of(indices, indices + epoch * len(self.recipe), fresh)

    def first_labels(self, total: int) -> Iterator[torch.Tensor]:
        """Yield the labels of samples 0 to ``total - 1`` as :meth:`labels` does, some thousands at a time.

        With a matrix of label noise every sample looks up one row, which has one number per class.
        """
        for begin in range(0, total, LABELS):
            yield self.labels(np.arange(begin, min(begin + LABELS, total)))

    @ordinary
    def labels_of(self, indices: torch.Tensor, draw_ids: torch.Tensor, fresh: bool) -> torch.Tensor:
        """Return labels of indices that are already on the device, matching :meth:`render`; int64 on the device."""
        noise = draw_ids if fresh else self._label_map.dense_indices(indices)
        labels = self._label_map.labels(indices, noise)
        cuda_streams.lend(self._label_map.tensors, self.device)
        return labels

    @property
    def has_default_labels(self) -> bool:
        """Whether every label is ``index // instances``."""
        return self._label_map.is_default

    @property
    def _label_map(self) -> Any:
        if self._labels is None:
            self._labels = self.recipe.label_map(self.device)
            if self._labels.tensors:
                cuda_streams.settle(self.device)
        return self._labels

    @property
    @ordinary
    def catalog(self) -> Any:
        """The parameters of all classes, made at first use."""
        if self._catalog is None:
            budget = free_memory.share(self.device) if self._cache_bytes is None else self._cache_bytes
            self._catalog = self.recipe.catalog(self.device, budget)
            cuda_streams.settle(self.device)
        return self._catalog

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that repeat and have been kept so far (``cache_bytes``)."""
        return getattr(self._catalog, "kept_bytes", 0)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the objects in a GPU's memory, which a copy makes again."""
        return self.__dict__ | ({} if dispatch.on_host(self.device) else {"_catalog": None, "_labels": None})

    def _indices(self, samples: Any) -> torch.Tensor:
        """Return checked indices as int64 [N] on the device."""
        indices = checks.integers("samples", samples, len(self.recipe) - 1).astype(np.int64)
        return cuda_streams.pinned(torch.from_numpy(indices), self.device).to(self.device, non_blocking=True)


def _picture(recipe: Recipe) -> bytes | None:
    return sheet.notebook_png(Renderer(recipe))


Recipe.picture = _picture  # a recipe knows nothing of renderers
