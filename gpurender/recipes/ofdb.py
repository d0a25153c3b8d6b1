"""OFDB: FractalDB with one image per category.

Source: Nakamura et al., "Pre-training Vision Transformers with Very Limited Synthesized Images" (ICCV 2023), and the
authors' released generator of 2D-OFDB, which is FractalDB's without its loops over instances.
"""

import os
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.recipes import category_files, ifs
from gpurender.recipes.base import Recipe
from gpurender.recipes.fractaldb import Categories, FractalDB, weight_set
from gpurender.util import checks, keywords
from gpurender.util.lazy import cached_property

# The instance weights of the one image. The released program renders the first row of weights_0.4.csv, a times 0.2.
WEIGHTS = {"released": weight_set(0.4)[0], "paper": (1.0,) * 6}


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class OFDB(Recipe):
    """Images of random iterated function systems, one system ("category") and one image per class.

    The categories are those of :class:`FractalDB` of the same seed and variant, found by the same search. Their images
    are grey 3 x 3 patches with random masks, without flips. As released, without ``fresh``, the first image of a
    category is that of ``FractalDB(weights=[row], patches=1, flips=1)``, which has other styles as well.

    Args:
        classes: number of categories (default 1000, or all the given ones).
        instances: images per category, by default the one; more differ in their patch masks.
        points: points per image.
        fill_rate: minimum fraction of covered pixels for a category to be accepted (default 0.2).
        categories: the systems, each as rows of a, b, c, d, e, f, p, instead of a search; see :meth:`from_csv`.
        variant: ``"released"``: a of every map is multiplied by 0.2, as the released program renders the first row of
            its weights file; ``"paper"``: the base system itself, the category's representative. In both, all images
            share the uniforms that choose the maps.

    **"w/ Aug."** In the paper, random pattern augmentation gives an image a new patch pattern whenever it is used. With
    ``fresh=True`` the image has new masks in every epoch, and the same points. The released programs have no such
    augmentation, and it is open whether a pattern is one 3 x 3 mask for all points of an image, or one mask per point.
    Here it is one mask per point, because the released renderers, FractalDB's and OFDB's own, draw a mask for every
    point, and FractalDB's redraws of the patches, which the augmentation replaces, are these. (One mask for all points
    would leave 511 images per category.)
    """

    family: ClassVar[str] = "ofdb"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"ofdb-1k": {}, "ofdb-21k": {"classes": 21_000}}
    paper: ClassVar[str] = (
        "Nakamura et al., Pre-training Vision Transformers with Very Limited Synthesized Images, ICCV 2023, "
        "https://arxiv.org/abs/2307.14710"
    )
    draw_type: ClassVar[str] = "patch_gray"
    mask_mode: ClassVar[str] = "random"

    classes: int = None  # type: ignore[assignment]  # after validation: int
    image_size: int = 362
    points: int = 200_000
    fill_rate: float | None = None
    categories: Any = None  # after validation: tuple[tuple[tuple[float, ...], ...], ...] | None

    def __post_init__(self) -> None:
        self._set("variant", checks.choice("variant", self.variant, tuple(WEIGHTS)))
        for name in ("classes", "image_size", "points", "fill_rate", "categories"):
            self._set(name, getattr(self._fractals, name))
        super().__post_init__()

    @cached_property
    def _fractals(self) -> FractalDB:
        """The FractalDB whose images are the first ones of the categories; it checks and finds these."""
        return FractalDB(
            classes=self.classes,
            image_size=self.image_size,
            seed=self.seed,
            variant=self.variant,
            weights=(WEIGHTS[self.variant],),
            patches=1,
            flips=1,
            points=self.points,
            fill_rate=self.fill_rate,
            categories=self.categories,
        )

    @classmethod
    def from_csv(cls, folder: str | os.PathLike[str], **parameters: Any) -> "OFDB":
        """Return the recipe of published category files, which are FractalDB's.

        Args:
            folder: as for :meth:`FractalDB.from_csv`.
            parameters: any other parameter of :class:`OFDB`.

        Raises:
            ValueError: as for :meth:`FractalDB.from_csv`.
        """
        return cls(categories=category_files.read_categories(folder, parameters), **parameters)

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Write the categories in the published layout, as :meth:`FractalDB.to_csv` does."""
        self._fractals.to_csv(folder)

    @classmethod
    def smallest(cls) -> "OFDB":
        return cls(categories=[ifs.TRIANGLE], instances=32, points=1000, image_size=32)

    def canonical(self) -> dict[str, Any]:
        categories = self._fractals.canonical()
        return super().canonical() | {name: categories[name] for name in ("categories", "fill_rate")}

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``maps`` of classes, as :class:`FractalDB` does, and ``weights``, by which a to f are multiplied."""
        weights = list(WEIGHTS[self.variant])
        return [found | {"weights": weights} for found in self._fractals.class_parameters(classes)]

    def needs_search(self) -> bool:
        return self._fractals.needs_search()

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Categories:
        """Return the categories' systems; the result of a search is cached on disk, for FractalDB as well."""
        return self._fractals.catalog(device, cache_bytes)

    def kept_bytes(self, cache_bytes: int, *, masked: bool = True) -> int:
        images = self.classes * self.instances if masked else 0
        return ifs.kept_bytes(self, self.classes, images, cache_bytes)

    def canvases(
        self,
        catalog: Categories,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor | BitCanvases:
        """Render uint8 ``[N, 1, image_size, image_size]`` canvases; indices and draw ids: int64 ``[N]``.

        ``fresh`` has no effect: of an image only its masks depend on its draw id.
        """
        instances = self.instances
        images = ifs.Images(indices, self.classes * instances, lambda ids: ids // instances, lambda ids: ids)
        return ifs.render(
            self,
            lambda keys: catalog.systems(keys, torch.zeros_like(keys)),
            indices // instances,
            None,
            draw_ids,
            torch.full_like(indices, ifs.UPSIDE_DOWN, dtype=torch.uint8),
            self.classes,
            catalog.bitmaps,
            images if draw_ids is indices else None,
            bits,
        )
