"""``gpurender explore``: every parameter of every family as a control, on a local page."""

import argparse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "explore",
        help="a local page: change a recipe's parameters and see its pictures",
        description="Open a page on which every parameter of every family is a control, and the picture follows it: "
        "samples, contact sheet, augmented views, two recipes side by side, the recipe as Python or JSON. Listens on "
        "this machine alone unless --host says otherwise; the address then holds a token. Needs the extra 'serve'.",
    )
    command.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="what to begin with: a preset's name or a JSON file"
    )
    command.add_argument("--port", type=int, default=8050, metavar="P", help="default 8050; 0: a free one")
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default 127.0.0.1)")
    command.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.commands.explorer.serving import serve

    serve(options.recipe, options.host, options.port, not options.no_browser)
    return 0
