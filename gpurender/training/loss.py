"""The loss of a recipe's targets."""

from torch import nn

from gpurender.recipes.base import Recipe


def loss_of(recipe: Recipe) -> nn.Module:
    """Return cross-entropy, of labels and of soft targets alike; for multi-hot targets binary cross-entropy, whose mean
    is over images and classes.
    """
    return nn.BCEWithLogitsLoss() if recipe.multi_hot else nn.CrossEntropyLoss()
