"""``gpurender adapt``: what the experts of a data server make of private images, as K numbers."""

import argparse
import json
from pathlib import Path

DATA = "a folder of images (with train/CLASS/* for experts on classes), a folder of IDX files, or an NPZ file"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "adapt",
        help="score private images under a data server's experts",
        description="Score images under the experts of a data server, and write one number per expert: nothing else "
        "of the images leaves this machine. Needs the extra 'train'.",
    )
    command.add_argument("server", metavar="SERVER", help="the server's folder, or its address: http://…")
    command.add_argument("data", metavar="DATA", help=DATA)
    command.add_argument("-o", "--output", metavar="FILE", required=True, help="the scores, as JSON")
    command.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.server import DataServer
    from gpurender.util.atomic_files import check_writable, replacing

    check_writable(options.output)
    found = DataServer(options.server).adapt(options.data, device=options.device)
    with replacing(options.output) as temporary:
        Path(temporary).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(found)
    return 0


def show(scores: dict[str, float]) -> None:
    """Print scores, the best first."""
    for name, score in sorted(scores.items(), key=lambda item: -item[1]):
        print(f"{score:.4f}  {name}")
