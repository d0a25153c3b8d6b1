"""``gpurender finetune``: a checkpoint's model trained on real images, and its accuracy."""

import argparse

from gpurender.commands.pretrain import add_training, training_of


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "finetune",
        help="train a checkpoint on real images",
        description="Train the model of a checkpoint, with a new head, on an image folder, and print its accuracy on "
        "the folder's test images. The same command goes on after a kill. Needs the extra 'train'.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint.safetensors of pretrain or finetune")
    add_task(command)
    command.add_argument("--output", metavar="DIR", required=True, help="folder of the results")
    command.add_argument("--validation", type=float, default=0.0, metavar="P", help="measure on this share of train/")
    command.add_argument("--epochs", type=int, default=100, metavar="N", help="passes over the images (default 100)")
    command.add_argument("--steps", type=int, metavar="N", help="length in optimiser steps, instead of --epochs")
    command.add_argument("--optimizer", default="sgd", metavar="O", help="sgd (default) or adamw")
    command.add_argument("--mixup", type=float, default=0.8, metavar="A", help="mixup's alpha (default 0.8; 0: none)")
    command.add_argument("--cutmix", type=float, default=1.0, metavar="A", help="CutMix's alpha (default 1; 0: none)")
    command.add_argument("--drop-path", type=float, default=0.0, metavar="P", help="stochastic depth (default 0)")
    command.add_argument("--warm-up", metavar="RECIPE", help="first train on this recipe for --minutes")
    command.add_argument("--minutes", type=float, default=10.0, metavar="T", help="of --warm-up (default 10)")
    add_training(command)
    command.set_defaults(run=run)


def add_task(command: argparse.ArgumentParser) -> None:
    """Add the options of whatever measures a checkpoint on a task."""
    command.add_argument(
        "--data", metavar="FOLDER", required=True, help="images as train/CLASS/*, val/CLASS/*; or IDX files, or an NPZ"
    )
    command.add_argument("--labels-per-class", type=int, metavar="K", help="training images per class (default: all)")
    command.add_argument("--from-scratch", action="store_true", help="random weights, for comparison")
    command.add_argument("--image-size", type=int, metavar="S", help="side of the images (default: the checkpoint's)")
    command.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images (default 0)")
    command.add_argument("--json", metavar="FILE", help="also write the figures as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.training import engine
    from gpurender.training.finetune import finetune
    from gpurender.util.atomic_files import check_writable

    if options.json is not None:
        check_writable(options.json)
    with engine.together():
        result = finetune(
            options.checkpoint, options.data, options.output, labels_per_class=options.labels_per_class,
            validation=options.validation, from_scratch=options.from_scratch, epochs=options.epochs,
            steps=options.steps, image_size=options.image_size, optimizer=options.optimizer, mixup=options.mixup,
            cutmix=options.cutmix,
            drop_path=options.drop_path, warm_up=options.warm_up, minutes=options.minutes, workers=options.workers,
            **training_of(options),  # type: ignore[arg-type]
        )  # fmt: skip
    print(f"accuracy {result['accuracy']:.4f} on {result['test_images']:,} images")
    write_json(options.json, result)
    return 0


def write_json(path: str | None, result: dict[str, object]) -> None:
    """Write figures as one JSON object, if a path is given."""
    import json

    from gpurender.util.atomic_files import replacing

    if path is not None:
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
