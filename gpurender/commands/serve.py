"""``gpurender serve``: a data server's folder by HTTP."""

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "serve",
        help="answer the clients of a data server by HTTP",
        description="Answer adapt and recommend from other machines: the catalogue, the experts and recommendations. "
        "Listens on this machine alone unless --host says otherwise; there is no login, so put a reverse proxy before "
        "it where not everybody may ask. Needs the extra 'serve'.",
    )
    command.add_argument("server", metavar="SERVER", help="the server's folder")
    command.add_argument("--port", type=int, default=8000, metavar="P", help="default 8000; 0: a free one")
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default 127.0.0.1)")
    command.add_argument(
        "--reports", action="store_true", help="take reports (scores and results) of clients into reports.jsonl"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.server.serving import serve

    serve(Path(options.server), options.host, options.port, options.reports)
    return 0
