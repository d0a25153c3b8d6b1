"""``gpurender card``: a data card of a checkpoint or a recipe, for a model card."""

import argparse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "card",
        help="a data card for a model card",
        description="Write what a model was trained on as Markdown: recipe, fingerprint, paper, exact samples, licence "
        "position, pictures (NAME.png beside NAME.md), and SHA-256 of some canvases, which gpurender verify checks.",
    )
    command.add_argument(
        "of", metavar="CHECKPOINT|RECIPE", help="checkpoint.safetensors of pretrain or its folder; or a preset's name "
        "or a recipe's JSON file",
    )  # fmt: skip
    command.add_argument("-o", "--output", default="card.md", metavar="FILE", help="the card (default card.md)")
    command.add_argument("--device", default="cpu", metavar="D", help="device that renders (default cpu)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.replay.cards import write_card

    path = write_card(options.of, options.output, device=options.device)
    print(f"{path}, {path.with_suffix('.png')}")
    return 0
