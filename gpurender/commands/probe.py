"""``gpurender probe``: what the frozen features of a checkpoint's blocks are worth on real images."""

import argparse

from gpurender.commands.finetune import add_task, write_json


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "probe",
        help="measure a checkpoint's frozen features",
        description="Measure the frozen features after blocks of a checkpoint's model on an image folder, by a linear "
        "classifier and by the nearest neighbours. Needs the extra 'train'.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint.safetensors of pretrain or finetune")
    add_task(command)
    command.add_argument("--layers", metavar="N,...", help="numbers of blocks, such as 1,2,3,4,6 (default: all)")
    command.add_argument("--batch-size", type=int, default=64, metavar="B", help="images per forward pass (default 64)")
    command.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice of labels (default 0)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.training.probe import probe
    from gpurender.util.atomic_files import check_writable

    if options.json is not None:
        check_writable(options.json)
    result = probe(
        options.checkpoint, options.data, layers=_layers(options.layers), labels_per_class=options.labels_per_class,
        from_scratch=options.from_scratch, image_size=options.image_size, batch_size=options.batch_size,
        device=options.device, seed=options.seed, workers=options.workers,
    )  # fmt: skip
    for row in result["layers"]:
        print(f"layer {row['layer']:>3}  linear {row['linear']:.4f}  {'neighbours':>10} {row['knn']:.4f}")
    write_json(options.json, result)
    return 0


def _layers(text: str | None) -> list[int] | None:
    """Return the numbers of a text such as ``1,2,6``."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"layers must be numbers of blocks, such as 1,2,6, got {text!r}") from None
