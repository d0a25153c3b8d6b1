"""Portfolio: the few recipes of a study of which one is good for each task.

The value of a set of recipes is the mean over tasks of its best score. The greedy choice adds the recipe that raises
the value most; its value is at least 1 - 1/e of the best set's (Nemhauser, Wolsey, Fisher, Mathematical Programming
1978: the value is monotone and submodular).
"""

import numpy as np


def greedy(table: np.ndarray, count: int) -> list[int]:
    """Return the columns of a portfolio, in the order of their choice; of equal ones the first.

    Args:
        table: scores, float64 ``[T, C]``: T tasks, C recipes.
        count: recipes wanted, 1 to C.

    Raises:
        ValueError: there are fewer recipes.
    """
    if not 1 <= count <= table.shape[1]:
        raise ValueError(f"k must be 1 to {table.shape[1]}, the recipes to choose from, got {count}")
    chosen: list[int] = []
    best = np.full(len(table), -np.inf)  # [T]: of the chosen ones
    for _ in range(count):
        values = np.maximum(table, best[:, None]).mean(0)  # [C]
        values[chosen] = -np.inf
        chosen.append(int(values.argmax()))
        best = np.maximum(best, table[:, chosen[-1]])
    return chosen
