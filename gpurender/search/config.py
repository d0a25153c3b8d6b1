"""Config: one point of a space: a recipe, a model, and how the model is trained on the recipe's images."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpurender.recipes.base import MAX_IMAGE_SIZE, Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.training import policies
from gpurender.training.engine import PRECISIONS
from gpurender.training.presets import preset as find_preset
from gpurender.util import checks

# Arguments of gpurender.training.pretrain that a config may set, and what each may be.
TRAINING: Mapping[str, Callable[[str, Any], Any]] = {
    "amp": lambda name, value: checks.choice(name, value, PRECISIONS),
    "augment": lambda name, value: policies.one_view(value),
    "batch_size": lambda name, value: checks.integer(name, value, 1, 2**31 - 1),
    "clip": lambda name, value: checks.real(name, value, 0.0, 1e6),
    "ema": lambda name, value: checks.real(name, value, 0.0, 1.0),
    "fresh": checks.boolean,
    "image_size": lambda name, value: checks.integer(name, value, 1, MAX_IMAGE_SIZE),
    "lr": lambda name, value: checks.real(name, value, 0.0, 1e6),
    "weight_decay": lambda name, value: checks.real(name, value, 0.0, 1e6),
}
ENTRIES = ("recipe", "model", "preset", "training", "seed")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What one training of a search is made of.

    Attributes:
        recipe: of the images.
        model: timm's name of the model.
        preset: a name of :data:`gpurender.training.presets.PRESETS`; ``None``: that of the recipe's paper.
        training: arguments of :func:`gpurender.training.pretrain` in place of the preset's, of
            :data:`gpurender.search.config.TRAINING`.
        seed: of weights, order, augmentation and the model's randomness.
        choices: what the space's parameters were, by name; not part of what is trained.
    """

    recipe: Recipe
    model: str
    preset: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    choices: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """64 hex digits: SHA-256 of the recipe's fingerprint and of all other values but the choices."""
        values = [self.recipe.fingerprint, self.model, self.preset, dict(self.training), self.seed]
        return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()

    @property
    def batches(self) -> tuple[Any, ...]:
        """What decides the batches of its training: where it is equal, trainings see the same, in one precision."""
        _, paper = find_preset(self.preset, self.recipe)
        policy = policies.one_view(self.training.get("augment", paper.augment))
        size = self.training.get("batch_size", paper.batch_size)
        others = (self.training.get(name) for name in ("image_size", "fresh", "amp"))
        return self.recipe.fingerprint, self.seed, policies.identity(policy), size, *others

    def to_json(self) -> str:
        """Return the config as JSON text; :meth:`from_data` takes it back."""
        recipe = json.loads(self.recipe.to_json())
        values = {"recipe": recipe, "model": self.model, "preset": self.preset, "training": dict(self.training)}
        return json.dumps({**values, "seed": self.seed, "choices": dict(self.choices)}, allow_nan=False)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Config":
        """Return the config of JSON values.

        Raises:
            TypeError, ValueError: an entry is missing, unknown or not allowed; the message names it.
        """
        for name in data:
            if name not in (*ENTRIES, "choices"):
                raise ValueError(f"a config has no entry {checks.shown(name)}{checks.did_you_mean(str(name), ENTRIES)}")
        for name in ("recipe", "model"):
            if data.get(name) is None:
                raise ValueError(f"{name} is missing")
        if not isinstance(data["model"], str):
            raise TypeError(f"model must be the name of a timm model, got {checks.shown(data['model'])}")
        recipe = recipe_of(data["recipe"])
        if data.get("preset") is not None:
            find_preset(data["preset"], recipe)
        training = data.get("training", {})
        if not isinstance(training, Mapping):
            raise TypeError(f"training must be a JSON object, got {checks.shown(training)}")
        for name, value in training.items():
            if name not in TRAINING:
                raise ValueError(
                    f"training has no entry {checks.shown(name)}; it has {', '.join(TRAINING)}"
                    f"{checks.did_you_mean(str(name), TRAINING)}"
                )
            TRAINING[name](f"training.{name}", value)
        seed = checks.integer("seed", data.get("seed", 0), 0, checks.UINT64_MAX)
        return cls(
            recipe=recipe, model=data["model"], preset=data.get("preset"), training=dict(training), seed=seed,
            choices=data.get("choices", {}),
        )  # fmt: skip


def recipe_of(data: Any) -> Recipe:
    """Return the recipe of JSON values: a preset's name, a recipe's JSON, or ``{"preset": NAME, parameters …}``."""
    if isinstance(data, Mapping) and "preset" in data:
        return as_recipe(data["preset"], **{name: value for name, value in data.items() if name != "preset"})
    if not isinstance(data, (Mapping, str)):
        raise TypeError(f"recipe must be a preset's name or a recipe's JSON, got {checks.shown(data)}")
    return as_recipe(data)
