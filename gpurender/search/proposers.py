"""Proposers: which config a study tries next.

``random`` and ``grid`` are functions of the config's number, so every worker proposes the same ones. Optuna's samplers
look at the results that there are; they only propose, and Optuna keeps no state of the study.
"""

import functools
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpurender.search.config import Config
from gpurender.search.space import Parameter, Space, drawn_words

SPACE = "gpurender.space"  # attribute of an exported study: the fingerprint of its space
PROPOSERS = ("random", "grid", "tpe", "gp")
OBJECTIVES = {"accuracy": "maximize", "seconds": "minimize"}  # Optuna's directions


@dataclass(frozen=True)
class Tried:
    """A config that was proposed before.

    Attributes:
        choices: its parameters.
        scores: by rung, as far as it was measured.
        failed: whether it failed.
        seconds: of training up to a rung, by rung.
    """

    choices: Mapping[str, Any]
    scores: Mapping[int, float]
    failed: bool = False
    seconds: Mapping[int, float] = field(default_factory=dict)


def proposed(
    name: str, space: Space, seed: int, number: int, tried: Sequence[Tried], objectives: Sequence[str] = ("accuracy",)
) -> Config | None:
    """Return config ``number`` of a proposer; ``None`` if there are no more.

    Args:
        name: of :data:`PROPOSERS`.
        space: what may be chosen.
        seed: of all randomness.
        number: of the config, from 0.
        tried: the configs so far.
        objectives: of :data:`OBJECTIVES`; with two, Optuna looks for configs of which none is better in both.

    Raises:
        RuntimeError: Optuna is needed and not installed.
    """
    if name == "random":
        return space.random(seed, number)
    if name == "grid":
        return _grid(space).point(number)
    return _by_optuna(name, space, seed, number, tried, objectives)


class _Grid:
    """The configs of a grid by number, made as they are asked for."""

    def __init__(self, space: Space) -> None:
        self._rest, self._known = space.grid(), list[Config]()

    def point(self, number: int) -> Config | None:
        self._known += itertools.islice(self._rest, max(0, number + 1 - len(self._known)))
        return self._known[number] if number < len(self._known) else None


_grid = functools.lru_cache(maxsize=8)(_Grid)


def require_optuna() -> Any:
    """Return the package ``optuna``, silent but for warnings.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise RuntimeError(
            "the proposers 'tpe' and 'gp' need the extra 'search': pip install 'gpurender[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _by_optuna(
    name: str, space: Space, seed: int, number: int, tried: Sequence[Tried], objectives: Sequence[str]
) -> Config:
    optuna = require_optuna()
    own = int(drawn_words(seed, "sampler", number)[0])  # 32 bits: NumPy's generators take no more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the groups of conditional parameters
        if name == "tpe":
            sampler = optuna.samplers.TPESampler(seed=own, multivariate=True, group=True, constant_liar=True)
        else:
            sampler = optuna.samplers.GPSampler(seed=own)
    study = optuna.create_study(directions=[OBJECTIVES[each] for each in objectives], sampler=sampler)
    rung = judged(tried)
    for one in tried:
        study.add_trial(_trial(optuna, space, one, rung, objectives))
    for _ in range(100):
        trial = study.ask()
        try:
            return space.config(functools.partial(_suggested, trial))
        except (TypeError, ValueError):  # values that are not allowed together: the sampler learns of it
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    raise ValueError(f"the proposer {name!r} found no config that is allowed in 100 attempts")


def export(
    space: Space, rows: Sequence[Mapping[str, Any]], url: str, name: str, objectives: Sequence[str] = ("accuracy",)
) -> int:
    """Write results as complete trials into a storage of Optuna, for its dashboard; return how many.

    A trial has the score of a config's highest rung, and the score of every rung as an intermediate value. An earlier
    export of the same space is replaced, so the command may be repeated.

    Args:
        space: of the study.
        rows: of :meth:`gpurender.search.Study.table`, the highest rungs first.
        url: of the storage, such as ``sqlite:///study.db``.
        name: of the study in the storage.
        objectives: of :data:`OBJECTIVES`; the seconds are those of the training up to the highest rung.

    Raises:
        RuntimeError: Optuna is not installed.
        ValueError: the storage cannot be opened, or holds another study of this name.
    """
    optuna = require_optuna()
    scores: dict[str, dict[int, float]] = {}
    seconds: dict[str, float] = {}
    choices: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["score"] is not None:
            scores.setdefault(row["key"], {})[row["rung"]] = row["score"]
            seconds[row["key"]] = seconds.get(row["key"], 0.0) + row["seconds"].get("training", 0.0)
            choices[row["key"]] = row["choices"]
    try:
        storage = optuna.storages.get_storage(url)
        there = name in optuna.study.get_all_study_names(storage)
        if there and optuna.load_study(study_name=name, storage=storage).user_attrs.get(SPACE) != space.fingerprint:
            raise ValueError(f"it has another study {name!r}")
        if there:
            optuna.delete_study(study_name=name, storage=storage)
        directions = [OBJECTIVES[each] for each in objectives]
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        study.set_user_attr(SPACE, space.fingerprint)
    except Exception as error:  # whatever a database raises
        raise ValueError(f"--optuna: {url!r} cannot be written: {error}") from None
    for key, own in scores.items():
        top = max(own)
        trial = _trial(optuna, space, Tried(choices[key], own, seconds={top: seconds[key]}), top, objectives)
        trial.intermediate_values = own
        study.add_trial(trial)
    return len(scores)


def judged(tried: Sequence[Tried]) -> int:
    """Return the rung by whose scores configs are compared: the highest one that ten configs have reached, else 0."""
    rungs = sorted({rung for one in tried for rung in one.scores}, reverse=True)
    return next((rung for rung in rungs if sum(rung in one.scores for one in tried) >= 10), 0)


def _trial(optuna: Any, space: Space, one: Tried, rung: int, objectives: Sequence[str]) -> Any:
    """Return Optuna's record of a config: complete with what a rung has measured, else under way."""
    known = {parameter.name: parameter for parameter in space.parameters}
    params = {name: value for name, value in one.choices.items() if name in known}
    complete, states = rung in one.scores, optuna.trial.TrialState
    found = {"accuracy": one.scores.get(rung), "seconds": one.seconds.get(rung, 0.0)}
    return optuna.trial.create_trial(
        params=params,
        distributions={name: _distribution(optuna, known[name]) for name in params},
        values=[found[each] for each in objectives] if complete else None,
        state=states.COMPLETE if complete else states.FAIL if one.failed else states.RUNNING,
    )


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        return optuna.distributions.CategoricalDistribution(range(len(parameter.values)))
    kind = optuna.distributions.IntDistribution if parameter.integral else optuna.distributions.FloatDistribution
    return kind(*parameter.values, log=parameter.kind == "log")


def _suggested(trial: Any, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        return trial.suggest_categorical(parameter.name, range(len(parameter.values)))
    suggest = trial.suggest_int if parameter.integral else trial.suggest_float
    return suggest(parameter.name, *parameter.values, log=parameter.kind == "log")
