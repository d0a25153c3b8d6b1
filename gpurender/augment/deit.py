"""DeiT: the augmentation that the papers pre-train with; its parameters have timm's names and timm's meaning."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.augment.crop import Crop
from gpurender.augment.normalise import CROP, HALVES, Triple, lookup_table
from gpurender.augment.parameters import Parameters, checked_canvases, on_device
from gpurender.augment.policy import Policy
from gpurender.augment.rand_augment import parsed
from gpurender.augment.resize import INTERPOLATIONS
from gpurender.kernels.augment_params import (
    MIXUP_MODES,
    ErasingParams,
    JitterParams,
    LayerParams,
    MixParams,
    as_draw_ids,
    draw_erasing,
    draw_jitter,
    draw_layers,
    draw_mixing,
)
from gpurender.kernels.image_ops import Kind, Operation, apply_ops
from gpurender.kernels.mix_erase import ERASING_MODES, Erasing, Mixing, mix_erase
from gpurender.kernels.resized_crop import MAX_SIDE, crop_resize
from gpurender.kernels.soft_targets import soft_targets
from gpurender.runtime.image_formats import ImageFormat
from gpurender.runtime.tensors import checked_tensor, ordinary, readable
from gpurender.util import checks, keywords
from gpurender.util.lazy import cached_property

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Names of the parameters of each part, besides those of the crop
CHAIN = ("operations", "arguments", "operation_interpolations")
CHAIN_DTYPES = (torch.int32, torch.float64, torch.uint8)
MIX = ("mix_weights", "cutmix", "cutmix_patches")
ERASED = ("erasing_boxes", "noise_keys")
MAX_BOXES = 64  # erased boxes per image
MAX_REPEATS = 64

Range = tuple[float, float]


@keywords.checked
@dataclass(frozen=True, kw_only=True)
class DeiT(Policy[torch.Tensor]):
    """timm's complete augmentation of a training batch, drawn per sample and computed on the batch's device.

    Order and rounding are those of timm's default path (its prefetcher). Each sample, in bytes: random resized crop,
    horizontal flip, vertical flip, RandAugment or AutoAugment, colour jitter (unless one of these two is on),
    grayscale, blur. Then the batch: mixup or CutMix, still in bytes and rounded to bytes; normalisation; random
    erasing, whose noise is therefore neither mixed nor normalised. Targets are mixed as the images are.

    Each parameter is drawn at the address of a sample (:mod:`gpurender.numerics.streams`), so a sample is cropped,
    changed, normalised and erased in the same way in every batch. Its mixing depends on the batch: image n of N is
    mixed with image N - 1 - n. (The middle image of an odd batch, or a single image, is mixed with itself, which leaves
    it unchanged.) The weight or the patch is drawn at the address of the batch's first sample, with
    ``mixup_mode="pair"`` at that of the pair's first sample, with ``"elem"`` at that of the sample itself.

    >>> policy = gr.augment.DeiT(auto_augment="rand-m9-mstd0.5-inc1", mixup_alpha=0.8, cutmix_alpha=1.0)
    >>> loader = gr.DataLoader("onepfrac-1k", batch_size=256, augment=policy, shuffle=True, drop_last=True)
    >>> images, targets = next(iter(loader))  # float32 [256, 3, 224, 224], float32 [256, 1000]

    **To switch a part off:** the crop by ``scale=(1, 1), ratio=(1, 1)``; the others by ``hflip=0``,
    ``auto_augment=None`` (which turns the colour jitter on, unless ``color_jitter=None``), ``re_prob=0``,
    ``mixup_alpha=0``, ``cutmix_alpha=0``, ``label_smoothing=0``.

    **Targets** are soft, float32 ``[N, classes]``, if anything is mixed or smoothed, else labels, int64 ``[N]``.
    ``torch.nn.CrossEntropyLoss`` accepts both. Multi-hot labels (:class:`gpurender.MultiFractal`) stay float32 ``[N,
    classes]``, for ``torch.nn.BCEWithLogitsLoss``: ones become 1 - smoothing + smoothing / classes, zeros smoothing /
    classes, rows are mixed, and nothing is normalised.

    **Grey canvases** are augmented as one channel, which gives the same result as three, as long as no operation makes
    them coloured: if ``mean`` is not a grey, operations that move pixels fill in a colour, and three channels are
    computed.

    Args:
        scale, ratio, interpolation, hflip, vflip: parameters of the crop and the flips, as in :class:`Crop`. Operations
            that move pixels use the same interpolation; with ``"random"`` each draws its interpolation separately.
        color_jitter: one strength of brightness, contrast and saturation, 0 to 10, or three strengths, or four with hue
            (at most 0.5); ``None``: no jitter. It is off if ``auto_augment`` is on, unless that is 3-Augment.
        color_jitter_prob: probability of the jitter; ``None``: always applied.
        force_color_jitter: apply the jitter even if ``auto_augment`` is on.
        grayscale_prob: probability of conversion to grey.
        gaussian_blur_prob: probability of a blur of 23 pixels with a standard deviation of 0.1 to 2.
        auto_augment: timm's configuration string, or ``None``: RandAugment (``"rand-m9-mstd0.5-inc1"``; sections
            m, n, p, mstd, mmax, inc, t, w), AutoAugment (``"original"``, ``"originalr"``, ``"v0"``, ``"v0r"``),
            3-Augment (``"3a"``); :func:`gpurender.augment.rand_augment.parsed` has the details.
        mean, std: as in :class:`Crop`. The mean is also the fill colour.
        re_prob: probability of random erasing.
        re_mode: value of erased pixels: ``"const"`` 0, ``"rand"`` one normal variate per box and channel, ``"pixel"``
            one per pixel and channel.
        re_count: maximum number of boxes, 1 to 64 (the minimum is 1), or a range.
        re_area: erased fraction of the image: a range in [0, 1].
        re_aspect: height / width of a box: a range.
        mixup_alpha, cutmix_alpha: parameters of the Beta distributions of the weights, up to 1000; 0 switches mixup or
            CutMix off.
        cutmix_minmax: minimum and maximum side of CutMix's patch as fractions of the image's side, at least one pixel
            apart; CutMix is then on.
        mixup_prob: probability of mixing a batch (a pair, a sample).
        mixup_switch_prob: probability of CutMix instead of mixup, if both are on.
        mixup_mode: ``"batch"``, ``"pair"`` or ``"elem"``: the unit that one weight is drawn for.
        mixup_off_epoch: first epoch in which nothing is mixed (the targets stay soft); 0: mixing is never switched off.
        correct_lam: compute the weight of a patch that is clipped by the image's edge from the patch's pixels.
        label_smoothing: 0 to 1.
        num_aug_repeats: repeated augmentation (Hoffer et al. 2020; DeiT has 3): the loader shows each sample this many
            times in a row, each time augmented differently, and an epoch shows fewer samples by this factor; 0 or 1: no
            repeats.

    The defaults are the recipe of the 1p-frac and OFDB papers (DeiT's, normalised by 1/2), except the vertical flip and
    the probability of erasing; :meth:`onepfrac` sets these two as well. Sources: Touvron et al., "Training
    data-efficient image transformers" (ICML 2021); timm 1.0.31.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    capturable = True
    takes_bits = True
    takes_windows = True

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float | tuple[float, ...] | None = 0.4
    color_jitter_prob: float | None = None
    force_color_jitter: bool = False
    grayscale_prob: float = 0.0
    gaussian_blur_prob: float = 0.0
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    mean: Triple = HALVES
    std: Triple = HALVES
    re_prob: float = 0.25
    re_mode: str = "pixel"
    re_count: int | tuple[int, int] = 1
    re_area: Range = (0.02, 1 / 3)
    re_aspect: Range = (0.3, 1 / 0.3)
    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    cutmix_minmax: Range | None = None
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    mixup_mode: str = "batch"
    mixup_off_epoch: int = 0
    correct_lam: bool = True
    label_smoothing: float = 0.1
    num_aug_repeats: int = 0

    def __post_init__(self) -> None:
        crop = Crop(**{name: getattr(self, name) for name in _OF_THE_CROP})
        checked = {name: getattr(crop, name) for name in _OF_THE_CROP} | _checked(self)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------------------------------------- policies of papers

    @classmethod
    def onepfrac(cls, **changes: Any) -> "DeiT":
        """Return the policy of 1p-frac's pre-training (Nakamura et al., ECCV 2024, and the released scripts)."""
        values: dict[str, Any] = {"vflip": 0.5, "re_prob": 0.5}
        return cls(**values | changes)

    @classmethod
    def ofdb(cls, **changes: Any) -> "DeiT":
        """Return the policy of OFDB's pre-training (Nakamura et al., ICCV 2023): the same as :meth:`onepfrac`."""
        return cls.onepfrac(**changes)

    @classmethod
    def fractaldb(cls, **changes: Any) -> "DeiT":
        """Return the policy of pre-training ViTs on fractals (Kataoka et al., CVPR 2022, released script)."""
        values: dict[str, Any] = {"hflip": 0.0, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "num_aug_repeats": 3}
        return cls(**values | changes)

    @classmethod
    def visualatom(cls, **changes: Any) -> "DeiT":
        """Return the policy of VisualAtom's pre-training (Takashima et al., CVPR 2023, released script): the same as
        :meth:`fractaldb`.
        """
        return cls.fractaldb(**changes)

    @classmethod
    def resnet(cls, **changes: Any) -> "DeiT":
        """Return the policy of pre-training ResNets on FractalDB (Kataoka et al., ACCV 2020, released script).

        It is a random crop of 224 of the 362 pixels and nothing else. (For canvases of any size the crop is this
        fraction of the canvas.)
        """
        share = (224 / 362) ** 2
        values: dict[str, Any] = {
            "scale": (share, share), "ratio": (1.0, 1.0), "hflip": 0.0, "color_jitter": None, "auto_augment": None,
            "mean": (0.2, 0.2, 0.2), "re_prob": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "label_smoothing": 0.0,
        }  # fmt: skip
        return cls(**values | changes)

    # ------------------------------------------------------------------------------------------------ draw and apply

    @ordinary
    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Draw every parameter of every sample of a batch: a pure function of the seed and the draw ids.

        Args:
            numbers: draw ids, unsigned 64-bit integers ``[N]``, of a whole batch in order, because partners are mixed.
            seed: unsigned 64-bit key.
            canvas_size, image_size: sides of the canvases and of the images in pixels.

        Returns:
            Tensors on the GPU if ``numbers`` is a tensor there, else on the CPU:

            - ``boxes`` int32 ``[N, 4]``, ``flips`` bool ``[N, 2]``, ``interpolations`` uint8 ``[N]``, ``sizes`` uint8
              ``[N, 0, canvas_size, image_size]``: as in :meth:`Crop.draw`;
            - ``operations`` int32, ``arguments`` float64, ``operation_interpolations`` uint8, each ``[N, L]``: the
              image operations in order, as codes of :class:`gpurender.augment.Operation` with arguments in its units (L
              may be 0);
            - if anything is mixed, ``mix_weights`` float64 ``[N]``: the weight of the sample itself; ``cutmix`` bool
              ``[N]``; ``cutmix_patches`` int32 ``[N, 4]``: top, left, height, width;
            - if anything is erased, ``erasing_boxes`` int32 ``[N, K, 4]``: top, left, height, width, 0 where there is
              no box; ``noise_keys`` int64 ``[N]``: the Philox key of the noise.
        """
        seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
        size = checks.integer("image_size", image_size, 1, MAX_SIDE)
        self.check_sizes(canvas_size, size)
        draw_ids = as_draw_ids(numbers)
        parameters = self._crop.draw(numbers, seed=seed, canvas_size=canvas_size, image_size=size)
        parameters |= zip(CHAIN, self._chain(draw_ids, seed), strict=True)
        if self._mixup.active:
            weights, cut, patches = draw_mixing(draw_ids, seed, size, self._mixup)
            parameters |= {"mix_weights": weights, "cutmix": cut, "cutmix_patches": patches}
        if self.re_prob > 0.0:
            boxes, keys = draw_erasing(draw_ids, seed, size, self._erasing)
            parameters |= {"erasing_boxes": boxes, "noise_keys": keys}
        return parameters

    def check_sizes(self, canvas_size: int, image_size: int) -> None:
        """Refuse sizes for which :meth:`draw` has no parameters."""
        checks.integer("canvas_size", canvas_size, 1, MAX_SIDE)
        size = checks.integer("image_size", image_size, 1, MAX_SIDE)
        self._mixup.sides(size)

    def _chain(self, draw_ids: torch.Tensor, seed: int) -> Sequence[torch.Tensor]:
        """Return operations, arguments and interpolations, [N, L] each, of all parts of the chain."""
        parts: list[tuple[torch.Tensor, ...]] = []
        if self._auto_augment is not None:
            parts.append(draw_layers(draw_ids, seed, self._auto_augment))
        if self._jitter.layers:
            codes, arguments = draw_jitter(draw_ids, seed, self._jitter)
            parts.append((codes, arguments, torch.zeros_like(codes, dtype=torch.uint8)))
        if not parts:
            shape, device = (len(draw_ids), 0), draw_ids.device
            return [torch.empty(shape, dtype=dtype, device=device) for dtype in CHAIN_DTYPES]
        return parts[0] if len(parts) == 1 else [torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)]

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> torch.Tensor:
        """Crop, apply the operations, mix, normalise and erase."""
        return self._begin(canvases, parameters, image)()

    def _begin(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> Callable[[], torch.Tensor]:
        """Crop, and apply the operations; return the last launch, which mixes, normalises and erases."""
        side = image.size
        placed = self._mixup.active or self.re_prob > 0.0  # there are patches or boxes in the image's pixels
        canvases = checked_canvases(canvases, parameters, side if placed else None)
        table = lookup_table(self.mean, self.std, image.dtype, canvases.device)
        boxes, flips, filters = on_device(parameters, CROP, canvases.device)
        images = crop_resize(canvases, boxes, flips, filters, (side, side))
        codes, arguments, filters = on_device(parameters, CHAIN, canvases.device)
        if codes.shape[1]:
            images, fill = self._filled(images)
            images = apply_ops(images, codes, arguments, filters, fill, self._operations)
        mixing, erased = None, None
        if self._mixup.active:
            mixing = Mixing._make(on_device(parameters, MIX, canvases.device))
        if self.re_prob > 0.0:
            boxes, keys = on_device(parameters, ERASED, canvases.device)
            erased = Erasing(boxes, keys, self.re_mode)
        return functools.partial(mix_erase, images, table, mixing, erased, image.memory_format)

    def _filled(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Return images and fill colour for the operations: three channels if a grey image may get a coloured fill."""
        red, green, blue = (min(255, round(255 * value)) for value in self.mean)
        if images.shape[1] == 1 and not red == green == blue:
            if all(operation.spec.kind is not Kind.AFFINE for operation in self._operations):
                return images, (0, 0, 0)  # nothing is filled in
            images = images.expand(-1, 3, -1, -1)
        return images, (red, green, blue)

    @ordinary
    def targets(self, labels: torch.Tensor, parameters: Parameters, classes: int) -> torch.Tensor:
        """Return the targets of a batch: soft, float32 ``[N, classes]``, if anything is mixed or smoothed, else labels.

        Args:
            labels: int64 ``[N]``, 0 to ``classes`` - 1; or multi-hot, float32 ``[N, at most classes]`` of 0 and 1.
            parameters: the return value of :meth:`draw`.
            classes: number of classes of the dataset, at least 1.

        Raises:
            TypeError, ValueError: naming the argument, its value and what is allowed. Values on a GPU are not checked.
        """
        classes = checks.integer("classes", classes, 1, 2**63 - 1)
        labels = _checked_labels(labels, classes)
        seen = readable(labels)
        if not self.soft:
            return labels
        weights = None
        if self._mixup.active:
            (weights,) = on_device(parameters, MIX[:1], labels.device)
            weights = checked_tensor("mix_weights", weights, (torch.float64,), (len(labels),), labels.device)
            if seen and not ((weights >= 0.0) & (weights <= 1.0)).all():  # NaN, too
                raise ValueError(f"mix_weights must lie in [0, 1], got {weights.min():g} to {weights.max():g}")
        return soft_targets(labels, weights, classes, self.label_smoothing)

    @property
    def soft(self) -> bool:  # type: ignore[override]
        """Whether targets are soft."""
        return self._mixup.active or self.label_smoothing > 0.0

    def at_epoch(self, epoch: int) -> "DeiT":
        """Return the policy of an epoch: this one, or :meth:`unmixed` from ``mixup_off_epoch`` on."""
        return self.unmixed() if 0 < self.mixup_off_epoch <= epoch else self

    def unmixed(self) -> "DeiT":
        """Return the policy that mixes nothing; its targets are soft if this policy's are."""
        mixes = self._mixup.active and (self.mixup_prob > 0.0 or self.mixup_off_epoch > 0)
        return self._unmixed if mixes else self

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields for pickling, without the cached values computed from them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    # -------------------------------------------------------------------------------------------------------- the parts

    @cached_property
    def _unmixed(self) -> "DeiT":
        return dataclasses.replace(self, mixup_prob=0.0, mixup_off_epoch=0)

    @cached_property
    def _crop(self) -> Crop:
        return Crop(**{name: getattr(self, name) for name in _OF_THE_CROP})

    @cached_property
    def _auto_augment(self) -> LayerParams | None:
        if self.auto_augment is None:
            return None
        return dataclasses.replace(parsed(self.auto_augment), interpolation=INTERPOLATIONS.get(self.interpolation))

    @cached_property
    def _operations(self) -> frozenset[Operation]:
        """The operations that may be applied to a sample."""
        drawn = frozenset() if self._auto_augment is None else self._auto_augment.operations
        return drawn | self._jitter.operations

    @cached_property
    def _jitter(self) -> JitterParams:
        strength, name = self.color_jitter, self.auto_augment
        if strength is None or (name is not None and "3a" not in name and not self.force_color_jitter):
            strength = 0.0
        strengths = strength if isinstance(strength, tuple) else (strength,) * 3
        probability = 1.0 if self.color_jitter_prob is None else self.color_jitter_prob
        b, c, s, h = (*strengths, 0.0)[:4]
        return JitterParams((b, c, s, h), probability, self.grayscale_prob, self.gaussian_blur_prob)

    @cached_property
    def _mixup(self) -> MixParams:
        return MixParams(
            self.mixup_alpha, self.cutmix_alpha, self.cutmix_minmax, self.mixup_prob, self.mixup_switch_prob,
            self.mixup_mode, self.correct_lam,
        )  # fmt: skip

    @cached_property
    def _erasing(self) -> ErasingParams:
        count = self.re_count if isinstance(self.re_count, tuple) else (1, self.re_count)
        return ErasingParams(self.re_prob, count, self.re_area, self.re_aspect)


_OF_THE_CROP = ("scale", "ratio", "interpolation", "hflip", "vflip", "mean", "std")
_PROBABILITIES = (
    "grayscale_prob",
    "gaussian_blur_prob",
    "re_prob",
    "mixup_prob",
    "mixup_switch_prob",
    "label_smoothing",
)


def _checked_labels(labels: Any, classes: int) -> torch.Tensor:
    """Return labels, int64 [N] or multi-hot float32 [N, at most classes], whose values are checked on a CPU."""
    if isinstance(labels, torch.Tensor) and labels.dim() == 2:
        labels = checked_tensor("labels", labels, (torch.float32,), (None, None))
        if labels.shape[1] > classes:
            raise ValueError(f"labels must have at most {classes} columns, one a class, got {labels.shape[1]}")
        if readable(labels) and not ((labels == 0.0) | (labels == 1.0)).all():
            raise ValueError("labels must be 0 and 1 where they are multi-hot, got other values")
        return labels
    labels = checked_tensor("labels", labels, (torch.int64,), (None,))
    if readable(labels) and not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels must lie in [0, {classes - 1}], got {int(labels.min())} to {int(labels.max())}")
    return labels


def _checked(policy: DeiT) -> dict[str, Any]:
    """Check all parameters except the crop's; return the values to set, in their final types."""
    values: dict[str, Any] = {name: checks.real(name, getattr(policy, name), 0.0, 1.0) for name in _PROBABILITIES}
    for name in ("mixup_alpha", "cutmix_alpha"):
        values[name] = _alpha(name, getattr(policy, name))
    for name in ("force_color_jitter", "correct_lam"):
        values[name] = checks.boolean(name, getattr(policy, name))
    checks.choice("re_mode", policy.re_mode, ERASING_MODES)
    checks.choice("mixup_mode", policy.mixup_mode, MIXUP_MODES)
    values["color_jitter"] = _strengths(policy.color_jitter)
    if policy.color_jitter_prob is not None:
        values["color_jitter_prob"] = checks.real("color_jitter_prob", policy.color_jitter_prob, 0.0, 1.0)
    if policy.auto_augment is not None:
        if not isinstance(policy.auto_augment, str):
            raise TypeError(
                f"auto_augment must be timm's configuration string or None, got {checks.shown(policy.auto_augment)}"
            )
        parsed(policy.auto_augment)
    if isinstance(policy.re_count, (tuple, list)):
        values["re_count"] = checks.integer_range("re_count", policy.re_count, 1, MAX_BOXES)
    else:
        values["re_count"] = checks.integer("re_count", policy.re_count, 1, MAX_BOXES)
    values["re_area"] = checks.real_range("re_area", policy.re_area, 0.0, 1.0)
    values["re_aspect"] = checks.real_range("re_aspect", policy.re_aspect, 1e-3, 1e3)
    if policy.cutmix_minmax is not None:
        low, high = values["cutmix_minmax"] = checks.real_range("cutmix_minmax", policy.cutmix_minmax, 0.0, 1.0)
        if low == high:  # an empty range, in timm as well
            raise ValueError(
                f"cutmix_minmax must be a pair (low, high) with low < high, got {checks.shown(policy.cutmix_minmax)}"
            )
    values["mixup_off_epoch"] = checks.integer("mixup_off_epoch", policy.mixup_off_epoch, 0, 2**63 - 1)
    values["num_aug_repeats"] = checks.integer("num_aug_repeats", policy.num_aug_repeats, 0, MAX_REPEATS)
    return values


def _alpha(name: str, value: Any) -> float:
    alpha = checks.real(name, value, 0.0, 1000.0)
    if 0.0 < alpha < 1e-3:
        raise ValueError(f"{name} must be 0 or in [0.001, 1000], got {checks.shown(value)}")
    return alpha


def _strengths(value: Any) -> float | tuple[float, ...] | None:
    """Return the checked strengths of the colour jitter: none, one, three or four."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)):
        return checks.real("color_jitter", value, 0.0, 10.0)
    if len(value) not in (3, 4):
        raise ValueError(f"color_jitter must be one strength, three, or four with hue, got {checks.shown(value)}")
    most = (10.0, 10.0, 10.0, 0.5)
    return tuple(
        checks.real(f"color_jitter[{i}]", x, 0.0, high) for i, (x, high) in enumerate(zip(value, most, strict=False))
    )
