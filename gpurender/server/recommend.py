"""Recommend: from a client's scores to a mixture of recipes, or to a list of files, under a budget.

    w_i = softmax(z / 0.1), z on the scale [0, 1]                                (Neural Data Server, section 3.3.2)
    pi(x) = w_i / |S_i| for x in S_i                                                                    (equation 6)

Sources that were added later have no expert. Where there are any, z_i is how alike client and source are: the cosine of
what the same K experts make of both (Scalable Neural Data Server).

Of recipes, the client gets a mixture with shares in thousandths. Of files, it gets those with the least keys
-log(u) / pi(x), u uniform in (0, 1] at the address of the file's name: drawing without replacement, at each draw with
probabilities in proportion to pi (Efraimidis, Spirakis, Information Processing Letters 2006).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.recipes.mixture import MAX_RECIPES, Mixture
from gpurender.server.catalogue import Catalogue
from gpurender.server.files import FileList
from gpurender.server.weighting import predicted, similarity, weights, whole_shares
from gpurender.util import checks

SHARES = 1000  # the weights of a mixture are thousandths: an order that repeats soon has exact shares soon
BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(i?B)?")
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
MAX_BUDGET = 2**50


@dataclass(frozen=True)
class Budget:
    """How much the client wants to have: a number of images, or of bytes of files."""

    images: int | None = None
    bytes: int | None = None


def budget_of(value: Any) -> Budget:
    """Return the budget of a number of images, or of a text such as ``"10M"`` (images) or ``"2.5GB"``, ``"2GiB"``.

    Raises:
        TypeError, ValueError: it is neither, or is not in [1, 2**50].
    """
    if not isinstance(value, str):
        return Budget(images=checks.integer("budget", value, 1, MAX_BUDGET))
    found = BUDGET.fullmatch(value.strip())
    amount = (
        0.0 if found is None else float(found[1]) * (1024 if found[3] == "iB" else 1000) ** POWERS[found[2].lower()]
    )
    amount = round(min(amount, 2.0 * MAX_BUDGET))  # hundreds of digits are infinite, which is no integer
    if found is None or not 1 <= amount <= MAX_BUDGET:
        raise ValueError(
            f"budget must be images, such as 50000 or 10M, or bytes, such as 2.5GB or 2GiB, got {checks.shown(value)}"
        )
    return Budget(bytes=amount) if found[3] else Budget(images=amount)


@dataclass(frozen=True)
class Recommendation:
    """What a client should train on.

    Attributes:
        recipe: a mixture with exact shares; ``None`` for a server of files.
        files: paths in the server's image folder, in the order of their draw; ``None`` for a server of recipes.
        weights: of all sources, by name; their sum is 1. The recipe has them in thousandths.
        images: how many of each source are in the budget, by name.
        expert: name of the one to start from: that with the best score.
        expected_gain: of this recommendation; see ``gain_of``.
        baselines: the expected gain of one source alone (``best_single``), and of equal parts of the experts' sources
            (``equal_mixture``). The one source is that which is best on average over the study's tasks; without a
            study, that with the client's best score, so that no mixture has a higher ``"score"``.
        gain_of: ``"accuracy"``: on the scale of :func:`gpurender.tasks.normalised`, over the mean recipe of the study
            that the server was built from; or ``"score"``: the client's own mean score under the experts, weighted by
            their shares, over its plain mean. The second is all that is known without a study.
    """

    recipe: Mixture | None
    files: tuple[str, ...] | None
    weights: Mapping[str, float]
    images: Mapping[str, int]
    expert: str
    expected_gain: float
    baselines: Mapping[str, Mapping[str, Any]]
    gain_of: str

    def to_json(self) -> str:
        """Return all but recipe and files as JSON text."""
        return json.dumps({
            "weights": dict(self.weights), "images": dict(self.images), "expert": self.expert,
            "expected_gain": self.expected_gain, "baselines": {name: dict(one) for name, one in self.baselines.items()},
            "gain_of": self.gain_of,
        }, indent=1) + "\n"  # fmt: skip


def recommendation(
    catalogue: Catalogue,
    scores: Mapping[str, float],
    budget: Any,
    max_share: float = 1.0,
    files: Mapping[str, FileList] | None = None,
    seed: int = 0,
) -> Recommendation:
    """Return what a client with these scores should train on.

    Args:
        catalogue: of the server.
        scores: of the client, by expert, in [0, 1].
        budget: of :func:`budget_of`; bytes are for files alone.
        max_share: greatest weight of a source, in (0, 1].
        files: of each source, for a server of files.
        seed: unsigned 64-bit key of the draw of files.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    z = catalogue.scores(scores)  # [K]
    limit = budget_of(budget)
    share = checks.real("max_share", max_share, 0.0, 1.0)
    added = len(catalogue.sources) > len(catalogue.experts)
    found = weights(similarity(catalogue.vectors, z) if added else z, share)  # [N]
    names = [entry.name for entry in catalogue.sources]
    expert = catalogue.experts[int(z.argmax())].name
    gain, baselines, kind = _gains(catalogue, z, found)
    shown = dict(zip(names, found.tolist(), strict=True))
    if catalogue.kind == "files":
        if files is None:
            raise ValueError("files must be given for a server of files")
        chosen, counts = _drawn(names, found, files, limit, checks.integer("seed", seed, 0, checks.UINT64_MAX))
        return Recommendation(None, chosen, shown, counts, expert, gain, baselines, kind)
    if limit.images is None:
        raise ValueError(f"budget must be images for a server of recipes, got {checks.shown(budget)}")
    mixture, parts = _mixture(catalogue, found)
    counts = dict.fromkeys(names, 0) | dict(zip(parts, mixture.order().counts(limit.images), strict=True))
    return Recommendation(mixture, None, shown, counts, expert, gain, baselines, kind)


def _mixture(catalogue: Catalogue, found: np.ndarray) -> tuple[Mixture, list[str]]:
    """Return the mixture of weights float64 ``[N]``, and the names of its sources: those of at least 1/1000."""
    kept = np.sort(np.argsort(-found, kind="stable")[:MAX_RECIPES])
    parts = found[kept] / found[kept].sum()
    whole = whole_shares(parts.tolist(), SHARES)
    shares = {int(i): count for i, count in zip(kept, whole, strict=True) if count}
    mixture = Mixture({catalogue.sources[i].recipe: count for i, count in shares.items()})
    return mixture, [catalogue.sources[i].name for i in shares]


def _gains(catalogue: Catalogue, z: np.ndarray, found: np.ndarray) -> tuple[float, dict[str, dict[str, Any]], str]:
    """Return the expected gain of weights float64 ``[N]``, of the baselines, and of what; see ``Recommendation``.

    A source that was added counts with the experts that are most like it, as their weights would be for it.
    """
    count = len(catalogue.experts)
    if catalogue.seen:
        seen = np.array([one["scores"] for one in catalogue.seen.values()], np.float64)  # [T, K]
        known = np.array([one["gains"] for one in catalogue.seen.values()], np.float64)
        gains, average, kind = predicted(z, seen, known), known.mean(0), "accuracy"
    else:
        gains, average, kind = z - z.mean(), z - z.mean(), "score"
    through = np.zeros((len(found), count), np.float64)  # [N, K]: each source as a mixture of the experts
    through[:count] = np.eye(count)
    for row in range(count, len(found)):
        through[row] = weights(catalogue.vectors[row])
    best = int(average.argmax())
    baselines: dict[str, dict[str, Any]] = {
        "best_single": {"source": catalogue.experts[best].name, "expected_gain": float(gains[best])},
        "equal_mixture": {"expected_gain": float(gains.mean())},
    }
    return float(found @ through @ gains), baselines, kind


def _drawn(
    names: Sequence[str], found: np.ndarray, files: Mapping[str, FileList], budget: Budget, seed: int
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the files within a budget in the order of their draw, and how many are of each source."""
    lists = [files[name] for name in names]
    keys = [
        -np.log(_uniform(seed, one.addresses)) * (len(one) / max(float(weight), 1e-300))
        for one, weight in zip(lists, found, strict=True)
    ]
    order = np.argsort(np.concatenate(keys), kind="stable")[: budget.images]  # of all files, the drawn ones first
    if budget.bytes is not None:
        total = np.cumsum(np.concatenate([one.sizes for one in lists])[order], dtype=np.float64)
        order = order[: int(np.searchsorted(total, budget.bytes, side="right"))]
    begins = np.cumsum([0, *map(len, lists)])
    owners = np.searchsorted(begins, order, side="right") - 1
    chosen = tuple(lists[k].names[i] for k, i in zip(owners.tolist(), (order - begins[owners]).tolist(), strict=True))
    counts = np.bincount(owners, minlength=len(lists)).tolist()
    return chosen, dict(zip(names, counts, strict=True))


def _uniform(seed: int, addresses: np.ndarray) -> np.ndarray:
    """Return a number in (0, 1] for each address, float64 ``[N]``."""
    drawn = words(seed, Stream.SELECTION, addresses)  # uint32 [N, 4]
    whole = (drawn[:, 0].astype(np.uint64) << np.uint64(21)) + (drawn[:, 1] >> np.uint32(11)).astype(np.uint64)
    return (whole.astype(np.float64) + 1.0) / 2.0**53
