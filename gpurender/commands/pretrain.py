"""``gpurender pretrain``: a timm model trained on a recipe's images, with a paper's settings."""

import argparse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "pretrain",
        help="train a timm model on rendered images",
        description="Train a timm model on the images of a recipe, with the settings of a paper. The same command goes "
        "on after a kill, and under torchrun it trains on many GPUs. Needs the extra 'train'.",
    )
    command.add_argument("recipe", metavar="RECIPE", nargs="?", help="a preset's name or a JSON file")
    command.add_argument("--model", metavar="M", help="name of a timm model, such as vit_tiny_patch16_224")
    command.add_argument("--output", metavar="DIR", help="folder of checkpoint.safetensors and metrics.jsonl")
    command.add_argument("--preset", metavar="P", help="a paper's settings (default: those of the recipe's paper)")
    command.add_argument(
        "--initial-checkpoint", metavar="FILE", help="begin with the weights of this checkpoint, such as an expert of "
        "gpurender recommend, with a new head",
    )  # fmt: skip
    command.add_argument("--list", action="store_true", help="list the presets with their lengths, and train nothing")
    command.add_argument("--steps", type=int, metavar="N", help="length in optimiser steps (default: the paper's)")
    command.add_argument("--images", type=int, metavar="N", help="length in images, instead of --steps")
    command.add_argument("--image-size", type=int, default=224, metavar="S", help="side of the images (default 224)")
    command.add_argument("--fresh", action="store_true", help="new instances of the classes in every epoch")
    command.add_argument("--schedule", metavar="S", help="cosine, steps or constant, in place of the paper's")
    command.add_argument("--warmup", type=int, metavar="N", help="images of the warm-up, in place of the paper's")
    command.add_argument("--augment", metavar="POLICY", help="name of a policy, in place of the paper's")
    add_training(command)
    command.set_defaults(run=run)


def add_training(command: argparse.ArgumentParser) -> None:
    """Add the options that every training has."""
    command.add_argument(
        "--batch-size", type=int, metavar="B", help="images per optimiser step, all processes together (default: the "
        "paper's)",
    )  # fmt: skip
    command.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="batches of a process per step (default 1)"
    )
    command.add_argument("--lr", type=float, metavar="R", help="learning rate, in place of the paper's")
    command.add_argument("--weight-decay", type=float, metavar="W", help="weight decay, in place of the paper's")
    command.add_argument("--ema", type=float, metavar="D", help="decay of averaged weights, which are then kept")
    command.add_argument("--clip", type=float, metavar="C", help="largest norm of the gradients")
    command.add_argument("--amp", metavar="A", help="no, bf16 or fp16 (default: bf16 on a GPU)")
    command.add_argument("--compile", action="store_true", help="compile the model with torch.compile")
    command.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of all randomness (default 0)")
    command.add_argument("--log-every", type=int, default=10, metavar="N", help="steps per report (default 10)")
    command.add_argument("--save-every", type=int, default=500, metavar="N", help="steps per checkpoint (default 500)")
    command.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's events")


TRAINING = (
    "batch_size", "accumulate", "lr", "weight_decay", "ema", "clip", "amp", "compile", "device", "seed", "log_every",
    "save_every", "tensorboard",
)  # fmt: skip


def training_of(options: argparse.Namespace) -> dict[str, object]:
    """Return what :func:`add_training` added, by name."""
    return {name: getattr(options, name) for name in TRAINING}


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    if options.list:
        print(listing())
        return 0
    for name in ("recipe", "model", "output"):
        if getattr(options, name) is None:
            word = "RECIPE" if name == "recipe" else f"--{name}"
            raise ValueError(f"{word} is missing (gpurender pretrain --help; --list shows the papers' settings)")
    from gpurender.training import engine
    from gpurender.training.pretrain import pretrain

    with engine.together():
        written = pretrain(
            options.recipe, options.model, options.output, preset=options.preset,
            initial_checkpoint=options.initial_checkpoint, steps=options.steps, images=options.images,
            image_size=options.image_size, augment=options.augment, fresh=options.fresh, schedule=options.schedule,
            warmup=options.warmup, **training_of(options),  # type: ignore[arg-type]
        )  # fmt: skip
    print(written)
    return 0


def listing() -> str:
    """Return the presets as a table: name, images, batch, hours at two speeds, and their sources below."""
    from gpurender.training.presets import PRESETS

    lines = [
        f"{'preset':<18}{'recipe':<17}{'images':>10}{'batch':>7}{'hours at 1,000/s':>18}{'at 10,000/s':>13}  model"
    ]
    for name, preset in PRESETS.items():
        hours = preset.images / 3.6e6
        lines.append(
            f"{name:<18}{preset.recipe:<17}{preset.images / 1e6:>8,.0f} M{preset.batch_size:>7,}{hours:>18,.1f}"
            f"{hours / 10:>13,.1f}  {preset.models[0]}"
        )
    lines += ["", *(f"{name}: {preset.source}" for name, preset in PRESETS.items())]
    return "\n".join(lines)
