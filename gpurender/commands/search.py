"""``gpurender search``: the search for the best dataset, as a folder on which any number of workers work."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpurender.commands.engines import add_engine, check_engine

if TYPE_CHECKING:
    from gpurender.search import Study
    from gpurender.tasks import Task

COLUMNS = 100  # of a terminal: the choices of a config are cut there


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "search",
        help="search the dataset, model and settings that suit given tasks",
        description="Search a space of recipes, models and settings for what suits given tasks. A study is a folder: "
        "make it with init, then start as many workers on it as you like, on machines that share it; each may be "
        "killed at any moment. Needs the extra 'train'; the proposers tpe and gp need the extra 'search'.",
    )
    parts = command.add_subparsers(dest="part", metavar="PART", required=True)
    _add_init(parts)
    work = _part(parts, "work", _work, "do the jobs of a study until none is left")
    work.add_argument("--minutes", type=float, metavar="N", help="begin no job after so long")
    work.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
    add_engine(work)
    work.add_argument(
        "--together", type=int, default=1, metavar="N", help="train up to N configs at once that see the same batches, "
        "which are drawn once (default 1)",
    )  # fmt: skip
    status = _part(parts, "status", _status, "say how far a study is, and list its best configs")
    status.add_argument("--json", metavar="FILE", help="write configs, finished, running, stuck, best, front and more")
    best = _part(parts, "best", _best, "print the recipe of the best config")
    best.add_argument("--task", metavar="T", help="best on this task (default: on average)")
    best.add_argument("--seconds", type=float, metavar="N", help="best of those that were trained in at most so long")
    best.add_argument("-o", "--output", metavar="FILE", help="write the recipe's JSON to this file instead")
    report = _part(parts, "report", _report, "write a page about a study: best configs, curves, what matters")
    report.add_argument("-o", "--output", metavar="FILE", default="report.html", help="default: report.html")
    export = _part(parts, "export", _export, "write a study's results into a storage of Optuna")
    export.add_argument("--optuna", required=True, metavar="URL", help="such as sqlite:///study.db")
    space = parts.add_parser(
        "space", help="print a space of every parameter of a family, or of a paper's study", description="Print a "
        "space of every parameter of a family around its defaults, as JSON to edit; or a study of the paper on Neural "
        "Dataset Search.",
    )  # fmt: skip
    space.add_argument(
        "family", metavar="FAMILY", help="a family or a preset, such as fractaldb or onepfrac-1k; or "
        "nds-representation, nds-categories, nds-instances",
    )  # fmt: skip
    space.add_argument("--model", default="resnet18", metavar="M", help="name of a timm model (default resnet18)")
    space.set_defaults(run=_space)


def _part(parts: argparse._SubParsersAction, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command = parts.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("study", metavar="STUDY", help="the study's folder")
    command.set_defaults(run=run)
    return command


def _add_init(parts: argparse._SubParsersAction) -> None:
    init = _part(parts, "init", _init, "make a study")
    init.add_argument("--space", required=True, metavar="S.json", help="what may be chosen (gpurender search space)")
    init.add_argument(
        "--tasks", required=True, metavar="T.json", help='JSON object of tasks by name, such as {"flowers": {"data": '
        '"flowers", "labels_per_class": 10}}; relative paths start at the file\'s folder',
    )  # fmt: skip
    init.add_argument(
        "--images", metavar="N,N,…", help="images of the pre-training on each rung (default 50000,200000,800000)"
    )
    init.add_argument("--eta", type=int, default=4, metavar="E", help="one config in E goes on (default 4)")
    init.add_argument("--finetune-steps", type=int, default=200, metavar="N", help="of a fine-tuning (default 200)")
    init.add_argument("--seeds", type=int, default=3, metavar="N", help="fine-tunings on the last rung (default 3)")
    init.add_argument("--proposer", default="random", metavar="P", help="random, grid, tpe or gp (default random)")
    init.add_argument(
        "--objectives", default="accuracy", metavar="O", help="accuracy (default), or accuracy,seconds: tpe and gp "
        "then look for configs that are quick to train, too",
    )  # fmt: skip
    init.add_argument("--configs", type=int, default=64, metavar="N", help="configs to try (default 64)")
    init.add_argument("--seed", type=int, default=0, metavar="S", help="of the proposer (default 0)")
    init.add_argument(
        "--patience", type=float, default=120.0, metavar="T", help="seconds after which the job of a silent worker on "
        "another machine is taken over (default 120)",
    )  # fmt: skip


def _init(options: argparse.Namespace) -> int:
    from gpurender.search import Ladder, Space, create

    given = {} if options.images is None else {"images": _integers("--images", options.images)}
    ladder = Ladder(eta=options.eta, finetune_steps=options.finetune_steps, seeds=options.seeds, **given)
    space = Space(_json(options.space, "--space"))
    study = create(
        options.study, space, read_tasks(Path(options.tasks)), ladder=ladder, proposer=options.proposer,
        objectives=options.objectives.split(","), configs=options.configs, seed=options.seed, patience=options.patience,
    )  # fmt: skip
    print(f"{study.place}: {options.configs} configs of {len(space.parameters)} parameters, {len(study.tasks)} tasks")
    return 0


def _work(options: argparse.Namespace) -> int:
    from gpurender.search.study import MAX_TOGETHER
    from gpurender.util import checks
    from gpurender.util.plural import counted

    check_engine(options)
    study = _study(options)
    checks.integer("--together", options.together, 1, MAX_TOGETHER)
    if options.engine == "slurm":
        return _submit(study, options)
    if options.engine == "ray":
        from gpurender.search import ray_engine

        done = ray_engine.work(study, options.workers, options.minutes, options.address, options.together)
    else:
        done = study.work(options.minutes, device=options.device, together=options.together)
    status = study.status()
    print(f"{counted(done, 'result')} here; {status['finished']} of {status['wanted']} configs finished")
    return 0


def _submit(study: "Study", options: argparse.Namespace) -> int:
    from gpurender.search import slurm
    from gpurender.util.plural import counted

    if study.mirror is not None:
        raise ValueError(f"study: on {study.place} workers of --engine ray can work, and no others")
    words = ["search", "work", str(study.root.resolve())]
    words += [] if options.minutes is None else ["--minutes", str(options.minutes)]
    words += [] if options.together == 1 else ["--together", str(options.together)]
    job = slurm.submit(words, study.root, options.workers)
    print(f"job {job}: {counted(options.workers, 'worker')}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from gpurender.util.atomic_files import check_writable, replacing

    if options.json is not None:
        check_writable(options.json)
    study = _study(options)
    status = study.status()
    if options.json is not None:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")
    print(
        f"{status['configs']} of {status['wanted']} configs, {status['finished']} finished, {status['running']} "
        f"running, {status['stuck']} stuck; results per rung: {', '.join(map(str, status['results']))}"
    )
    for row in study.table()[:10]:
        score = "failed" if row["score"] is None else f"{row['score']:.4f}"
        text = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in row["choices"].items())
        print(f"{row['number']:>5}  rung {row['rung']}  {score:>7}  {text}"[:COLUMNS])
    if len(study.objectives) > 1 and status["front"]:
        print("not beaten in both: " + ", ".join(map(_point, status["front"])))
    return 0


def _point(row: dict[str, Any]) -> str:
    return f"config {row['number']} ({row['score']:.4f} in {row['seconds']:g} s)"


def _best(options: argparse.Namespace) -> int:
    from gpurender.commands.recipe import as_text, summary
    from gpurender.util.atomic_files import check_writable, replacing

    if options.output is not None:
        check_writable(options.output)
    recipe = _study(options).best(options.task, seconds=options.seconds)
    if options.output is None:
        print(as_text(recipe), flush=True)
        return 0
    with replacing(options.output) as temporary:
        Path(temporary).write_text(as_text(recipe) + "\n", encoding="utf-8")
    print(summary(recipe))
    return 0


def _report(options: argparse.Namespace) -> int:
    from gpurender.search.report import report
    from gpurender.util.atomic_files import check_writable, replacing

    check_writable(options.output)
    page = report(_study(options))
    with replacing(options.output) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")
    print(options.output)
    return 0


def _export(options: argparse.Namespace) -> int:
    from gpurender.search.proposers import export
    from gpurender.util.plural import counted

    study = _study(options)
    name = study.name
    count = export(study.space, study.table(), options.optuna, name, study.objectives)
    print(f"{counted(count, 'trial')} written to {options.optuna}")
    return 0


def _space(options: argparse.Namespace) -> int:
    from gpurender.search.ready import READY
    from gpurender.search.space import whole_family

    found = READY.get(options.family) or whole_family(options.family, options.model).template
    print(json.dumps(found, indent=2))
    return 0


def _study(options: argparse.Namespace) -> "Study":
    from gpurender.search import Study

    return Study(options.study)


def _integers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be integers with commas between them, got {text!r}") from None


def _json(path: str, name: str) -> Any:
    """Return the JSON values of a file.

    Raises:
        ValueError: it cannot be read, or it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{name}: {path!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {path!r} is not JSON: {error}") from None


def read_tasks(path: Path) -> "dict[str, Task]":
    """Return the tasks of a JSON file by name: an object of tasks by name, a list of tasks, or one task.

    A task is the JSON of :class:`gpurender.tasks.Task`, or its ``data`` alone. Tasks without a name are named after
    their data. A relative path starts at the folder of the file.

    Raises:
        ValueError: the file cannot be read, or an entry is no task; the message names it.
    """
    from gpurender.tasks import Task

    values = _json(str(path), "--tasks")
    if isinstance(values, (list, str)) or (isinstance(values, dict) and isinstance(values.get("data"), str)):
        values = _named(values if isinstance(values, list) else [values])
    if not isinstance(values, dict) or not values:
        raise ValueError(f"--tasks: {str(path)!r} must be a JSON object of tasks by name, or a list of tasks")
    found = {}
    for name, value in values.items():
        entry = {"data": value} if isinstance(value, str) else value
        try:
            if isinstance(entry, dict) and isinstance(entry.get("data"), str):
                entry = {**entry, "data": _placed(entry["data"], path.parent)}
            found[name] = Task.from_json(json.dumps(entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"--tasks: task {name!r}: {error}") from None
    return found


def _named(tasks: list[Any]) -> dict[str, Any]:
    """Return tasks by names made of their data: the last part of the path, with a number where it is there twice."""
    found: dict[str, Any] = {}
    for number, task in enumerate(tasks):
        data = task.get("data") if isinstance(task, dict) else task
        stem = Path(str(data).rpartition(":")[2]).stem
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem) or "task"
        found[name if name not in found else f"{name}-{number}"] = task
    return found


def _placed(data: str, folder: Path) -> str:
    """Return a path as an absolute one, from a folder; of a dataset of torchvision, ``NAME:ROOT``, the root."""
    name, colon, root = data.partition(":")
    if colon and not (folder / data).exists():
        return f"{name}:{os.path.abspath(folder / root)}"
    return os.path.abspath(folder / data)
