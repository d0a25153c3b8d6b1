"""``gpurender verify``: draw the canvases of a data card again, and compare."""

import argparse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "verify",
        help="check a data card",
        description="Draw the canvases that a card of gpurender card names again, and compare their SHA-256 and the "
        "recipe's fingerprint. Exit 0: all are equal; 1: one line says what differs; 2: this is no card.",
    )
    command.add_argument("card", metavar="CARD", help="the Markdown file")
    command.add_argument("--device", default="cpu", metavar="D", help="device that renders (default cpu)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.replay.cards import verify_card

    count = verify_card(options.card, device=options.device)
    print(f"{options.card}: fingerprint and {count} canvases are as the card says")
    return 0
