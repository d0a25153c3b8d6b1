"""Hugging Face transformers: Trainer and a small ViT, stopped within an epoch and resumed.

    pip install 'gpurender[transformers]'
    python examples/transformers_trainer.py

One line differs from the usual script: the loader that ``get_train_dataloader`` returns.

``resume_from_checkpoint`` of transformers 5.23 does not restore a ViT's weights: they are saved under names that differ
from the model's, and the Trainer only warns. ``from_pretrained`` knows both names, so this script calls it first.
"""

import tempfile

from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification
from transformers.trainer_utils import get_last_checkpoint

import gpurender as gr
from gpurender.interop.transformers import DataLoader

RECIPE = "onepfrac-1k"


class Pretraining(Trainer):
    """A Trainer on images that are rendered while the model trains."""

    def get_train_dataloader(self) -> DataLoader:
        # The line that changes:
        return DataLoader(RECIPE, self.args.train_batch_size, True, image_size=32, augment=gr.augment.Crop())


class StopsAt(TrainerCallback):
    """A callback that ends a run early, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_) -> None:
        control.should_training_stop = state.global_step == self.step


def new_model() -> ViTForImageClassification:
    config = ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_labels=1000,
    )  # fmt: skip
    return ViTForImageClassification(config)


def trainer(model: ViTForImageClassification, folder: str, *callbacks: TrainerCallback) -> Pretraining:
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=50, num_train_epochs=1, gradient_accumulation_steps=3, learning_rate=1e-3,
        logging_steps=1, save_steps=3, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    return Pretraining(model, arguments, callbacks=list(callbacks))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer(new_model(), folder, StopsAt(5)).train()
        checkpoint = get_last_checkpoint(folder)
        resumed = trainer(ViTForImageClassification.from_pretrained(checkpoint), folder)
        resumed.train(resume_from_checkpoint=checkpoint)
    losses = [f"{entry['loss']:.3f}" for entry in resumed.state.log_history if "loss" in entry]
    print(f"{resumed.state.global_step} steps, the last {len(losses) - 3} after the checkpoint: {' '.join(losses)}")


if __name__ == "__main__":
    main()
