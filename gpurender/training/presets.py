"""The papers' training settings as data: each number stands beside its source.

A preset says how long, with which optimiser and schedule, and with which augmentation a paper pre-trains. The length is
in images, so that it does not depend on the batch size. "Released" means the authors' published scripts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpurender.recipes.base import Recipe
from gpurender.util import checks


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The settings of a pre-training.

    Attributes:
        source: the paper, with its link.
        recipe: the preset of the images that the paper pre-trains on.
        models: timm's names of the paper's models, the first as an example.
        images: length of the training in images.
        batch_size: images per optimiser step.
        optimizer: ``"adamw"`` or ``"sgd"``.
        lr: learning rate after the warm-up, at ``batch_size``.
        lr_scales: whether the rule of the source scales the rate with the batch size.
        weight_decay: of all parameters but biases and norms (for SGD of all parameters).
        schedule: ``"cosine"``, or ``"steps"``: times 0.1 at each third of the training.
        warmup: images during which the rate rises linearly.
        min_lr: the rate at the end of the cosine.
        drop_path: stochastic depth.
        augment: the name of the policy.
        open: what the source leaves open and was chosen.
    """

    source: str
    recipe: str
    models: tuple[str, ...]
    images: int
    batch_size: int
    optimizer: str = "adamw"
    lr: float
    lr_scales: bool = False
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: int
    min_lr: float = 1e-5
    drop_path: float = 0.1
    augment: str
    open: str = ""


_DEIT = "DeiT, Touvron et al., ICML 2021, arXiv:2012.12877, table 9"
_FRACTALDB = "FractalDB, Kataoka et al., ACCV 2020, arXiv:2101.08515"
_ONEPFRAC = "1p-frac, Nakamura et al., ECCV 2024, arXiv:2408.00677, and its released pre-train.sh"
_OFDB = "OFDB, Nakamura et al., ICCV 2023, arXiv:2307.14710, and its released pre-train.sh"
_VISUALATOM = "VisualAtom, Takashima et al., CVPR 2023, arXiv:2303.01112"
_EXFRACTALDB = "ExFractalDB and RCDB, Kataoka et al., CVPR 2022, arXiv:2206.09132, and their released scripts"
_VIT = ("vit_tiny_patch16_224", "vit_base_patch16_224", "swin_base_patch4_window7_224")

PRESETS: Mapping[str, Preset] = {
    "deit": Preset(
        source=_DEIT,
        recipe="fractaldb-1k",
        models=("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"),
        images=300 * 1_000_000,  # 300 epochs
        batch_size=1024,
        lr=1e-3,  # 5e-4 x batch / 512
        lr_scales=True,
        warmup=5 * 1_000_000,  # 5 epochs
        augment="deit",
        open="an epoch is a million images, as FractalDB-1k has",
    ),
    "fractaldb-resnet": Preset(
        source="Exploring the Potential of Neural Dataset Search, section 4; " + _FRACTALDB,
        recipe="fractaldb-1k",
        models=("resnet50", "resnet18", "resnet152"),
        images=90 * 1_000_000,  # 90 epochs
        batch_size=256,
        optimizer="sgd",
        lr=0.01,
        weight_decay=0.0004,  # momentum 0.9
        schedule="steps",  # times 0.1 at epochs 30 and 60
        warmup=0,
        drop_path=0.0,
        augment="resnet",
        open="the batch size is that of the released scripts of FractalDB",
    ),
    "fractaldb": Preset(
        source="Can Vision Transformers Learn without Natural Images?, Nakashima et al., AAAI 2022, arXiv:2103.13023",
        recipe="fractaldb-1k",
        models=("deit_tiny_patch16_224",),
        images=300 * 1_000_000,
        batch_size=1024,
        lr=1e-3,
        lr_scales=True,
        warmup=5 * 1_000_000,
        augment="fractaldb",
        open="the settings of DeiT, which the paper names",
    ),
    "onepfrac": Preset(
        source=_ONEPFRAC,
        recipe="onepfrac-1k",
        models=_VIT,
        images=240_000 * 256,  # 80,000 epochs of 1000 // 256 = 3 steps
        batch_size=256,
        lr=5e-4,  # 1e-3 x batch / 512
        lr_scales=True,
        warmup=15 * 256,  # 5 epochs
        augment="onepfrac",
    ),
    "onepfrac-21k": Preset(
        source=_ONEPFRAC,
        recipe="onepfrac-21k",
        models=("vit_base_patch16_224",),
        images=15_238 * 20 * 1024,  # 15,238 epochs of 21,000 // 1024 = 20 steps
        batch_size=1024,
        lr=5e-4,
        warmup=5 * 20 * 1024,
        augment="onepfrac",
    ),
    "ofdb": Preset(
        source=_OFDB,
        recipe="ofdb-1k",
        models=_VIT,
        images=240_000 * 256,
        batch_size=256,
        lr=5e-4,
        lr_scales=True,
        warmup=15 * 256,
        augment="ofdb",
    ),
    "ofdb-21k": Preset(
        source=_OFDB,
        recipe="ofdb-21k",
        models=("vit_base_patch16_224",),
        images=15_238 * 20 * 1024,
        batch_size=1024,
        lr=5e-4,
        warmup=5 * 20 * 1024,
        augment="ofdb",
    ),
    "visualatom": Preset(
        source=_VISUALATOM,
        recipe="visualatom-1k",
        models=("deit_tiny_patch16_224",),
        images=300 * 1_000_000,  # 300 epochs, table 1
        batch_size=256,
        lr=1e-3,
        warmup=5_000 * 256,  # 5,000 iterations
        augment="visualatom",
        open="batch size and rate of the released RCDB-1k scripts, which the VisualAtom scripts follow",
    ),
    "visualatom-21k": Preset(
        source=_VISUALATOM,
        recipe="visualatom-21k",
        models=("deit_base_patch16_224",),
        images=90 * 21_000_000,  # 90 epochs
        batch_size=8192,
        lr=1e-3,
        warmup=5_000 * 8192,  # 5,000 iterations
        augment="visualatom",
    ),
    "rcdb": Preset(
        source=_EXFRACTALDB,
        recipe="rcdb-1k",
        models=("deit_tiny_patch16_224",),
        images=300 * 1_000_000,
        batch_size=256,
        lr=1e-3,
        warmup=5_000 * 256,
        augment="visualatom",
        open="the warm-up is that of VisualAtom",
    ),
    "rcdb-21k": Preset(
        source=_EXFRACTALDB,
        recipe="rcdb-21k",
        models=("deit_base_patch16_224",),
        images=90 * 21_000_000,
        batch_size=8192,
        lr=1e-3,
        warmup=5_000 * 8192,
        augment="visualatom",
        open="the warm-up is that of VisualAtom",
    ),
    "exfractaldb": Preset(
        source=_EXFRACTALDB,
        recipe="exfractaldb-1k",
        models=("deit_tiny_patch16_224",),
        images=300 * 1_000_000,
        batch_size=256,
        lr=1e-3,
        warmup=5_000 * 256,
        augment="visualatom",
        open="the warm-up is that of VisualAtom",
    ),
    "exfractaldb-21k": Preset(
        source=_EXFRACTALDB,
        recipe="exfractaldb-21k",
        models=("deit_base_patch16_224",),
        images=90 * 21_000_000,
        batch_size=8192,
        lr=1e-3,
        warmup=5_000 * 8192,
        augment="visualatom",
        open="the warm-up is that of VisualAtom",
    ),
}


# The settings of a recipe, by the name of its preset or else by its family; of any other recipe "deit".
OF_RECIPES: Mapping[str, str] = {
    **{name: name for name in PRESETS if name != "fractaldb-resnet"},  # families
    **{values.recipe: name for name, values in PRESETS.items() if name not in ("deit", "fractaldb-resnet")},
    "fractaldb-21k": "fractaldb",
    "fractaldb-100k": "fractaldb",
    "mv-fractaldb-1k": "exfractaldb",
    "3d-ofdb-1k": "ofdb",
    "3d-ofdb-21k": "ofdb-21k",
    "visualatom-lpce-1k": "onepfrac",  # perturbations of one image, as in the 1p-frac paper
    "rcdb-lpce-1k": "onepfrac",
    "gaussian-lpce-1k": "onepfrac",
    "uniform-lpce-1k": "onepfrac",
    "noise": "onepfrac",
    "singleimage": "onepfrac",
}


def preset(name: str | None, recipe: Recipe) -> tuple[str, Preset]:
    """Return a preset and its name: the named one; else that of the recipe's paper; else ``"deit"``.

    Args:
        name: a name of :data:`PRESETS`, or ``None``.
        recipe: what is trained on; how it was given does not matter.
    """
    if name is not None:
        checks.choice("preset", name, tuple(PRESETS))
        return name, PRESETS[name]
    kind = type(recipe)
    same = [known for known, values in kind.presets.items() if kind(**values) == recipe]
    found = OF_RECIPES.get((same or [recipe.family])[0], "deit")
    return found, PRESETS[found]
