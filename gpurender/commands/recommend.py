"""``gpurender recommend``: which formulas, or which files, a task needs."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpurender.commands.adapt import DATA

if TYPE_CHECKING:
    from gpurender.server import DataServer, Recommendation


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "recommend",
        help="say which dataset suits private images",
        description="Turn the scores of gpurender adapt into a mixture of recipes, for gpurender pretrain; or, on a "
        "server of an image folder, into a list of files. With --task, the images are scored first.",
    )
    command.add_argument("server", metavar="SERVER", help="the server's folder, or its address: http://…")
    command.add_argument("scores", metavar="SCORES", nargs="?", help="the file of gpurender adapt")
    command.add_argument("--task", metavar="DATA", help=f"score these first: {DATA}")
    command.add_argument(
        "--budget", required=True, metavar="N", help="images, such as 500000 or 10M; of an image folder also bytes, "
        "such as 2GB"
    )  # fmt: skip
    command.add_argument("--max-share", type=float, default=1.0, metavar="P", help="of one source (default 1)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of files (default 0)")
    command.add_argument("-o", "--output", metavar="FILE", help="write the recipe, or the list of files, to this file")
    command.add_argument("--json", metavar="FILE", help="write weights, expert, expected gain and baselines")
    command.add_argument("--device", metavar="D", help="that scores for --task (default: the GPU if there is one)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.server import DataServer
    from gpurender.server.recommend import budget_of
    from gpurender.util.atomic_files import check_writable

    if (options.scores is None) == (options.task is None):
        raise ValueError("recommend needs either the file of gpurender adapt or --task DATA, and not both")
    budget_of(options.budget)  # before long work
    for path in (options.output, options.json):
        if path is not None:
            check_writable(path)
    server = DataServer(options.server)
    scores = read_scores(options.scores) if options.task is None else server.adapt(options.task, device=options.device)
    found = server.recommend(scores, budget=_budget(options.budget), max_share=options.max_share, seed=options.seed)
    _write(options.json, found.to_json())
    if options.output is None:
        print(_text(found), end="", flush=True)
    else:
        _write(options.output, _text(found))
    _show(found, server, sys.stderr if options.output is None else sys.stdout)
    return 0


def _budget(text: str) -> Any:
    return int(text) if text.isdecimal() else text


def read_scores(path: str) -> dict[str, Any]:
    """Return the scores of a file.

    Raises:
        ValueError: it cannot be read, or is no JSON object.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"scores: {path!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"scores: {path!r} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"scores: {path!r} must hold a JSON object of experts and numbers")
    return found


def _text(found: "Recommendation") -> str:
    """Return the recipe as JSON text, or the files, one per line."""
    from gpurender.commands.recipe import as_text

    if found.recipe is not None:
        return as_text(found.recipe) + "\n"
    return "".join(f"{name}\n" for name in found.files or ())


def _write(path: str | None, text: str) -> None:
    from gpurender.util.atomic_files import replacing

    if path is not None:
        with replacing(path) as temporary:
            Path(temporary).write_text(text, encoding="utf-8", errors="surrogateescape")


def _show(found: "Recommendation", server: "DataServer", stream: Any) -> None:
    """Print the weights, the best first, the expert to start from, and what it is expected to bring."""
    for name, weight in sorted(found.weights.items(), key=lambda item: -item[1]):
        print(f"{weight:7.1%}  {found.images[name]:>12,} images  {name}", file=stream)
    path = server.folder / next(one.path for one in server.catalogue.experts if one.name == found.expert)
    where = f": {path}" if path.exists() else ""  # of an address it is here once this machine has adapted
    print(f"start from expert {found.expert}{where}", file=stream)
    best, equal = found.baselines["best_single"], found.baselines["equal_mixture"]
    print(
        f"expected gain ({found.gain_of}): {found.expected_gain:+.4f}; best single source {best['source']} "
        f"{best['expected_gain']:+.4f}; equal mixture {equal['expected_gain']:+.4f}", file=stream,
    )  # fmt: skip
