"""Lightning: fit, stop in the middle of an epoch, and continue with the next batch.

    pip install 'gpurender[lightning]'
    python examples/lightning_fit.py

One line differs from the usual script: the loader. Lightning does not replace the loader, so
``use_distributed_sampler`` may stay at its default: ranks render disjoint samples by themselves. The loader's place is
part of every checkpoint.

If ``configure_optimizers`` reads ``trainer.estimated_stepping_batches``, Lightning 2.6 does not restore the place of a
loader (Lightning issue 20550): set the number of steps of the schedule yourself, as in this script.
"""

import tempfile

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import gpurender as gr

RECIPE, EPOCHS = "onepfrac-1k", 2


class Classifier(lightning.LightningModule):
    """A small convolutional network."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.network = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 1000))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        images, targets = batch  # float32 [50, 3, 32, 32], int64 [50]
        loss = nn.functional.cross_entropy(self.network(images), targets)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(folder: str, max_steps: int, checkpoint: str | None = None) -> lightning.Trainer:
    """Train up to ``max_steps``, from the beginning or from a checkpoint."""
    # The line that changes:
    loader = gr.DataLoader(RECIPE, batch_size=50, shuffle=True, image_size=32, augment=gr.augment.Crop())

    saving = ModelCheckpoint(folder, every_n_train_steps=13, save_top_k=-1, save_last=True)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, max_steps=max_steps, callbacks=[saving], default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Classifier(EPOCHS * len(loader)), loader, ckpt_path=checkpoint)
    loss = trainer.callback_metrics["loss"].item()
    print(f"step {trainer.global_step}  loss {loss:.4f}  the loader is at {place(loader)}")
    return trainer


def place(loader: gr.DataLoader) -> str:
    state = loader.state_dict()
    return f"epoch {state['epoch']}, sample {state['position']}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        fit(folder, max_steps=13)
        fit(folder, max_steps=-1, checkpoint=f"{folder}/last.ckpt")


if __name__ == "__main__":
    main()
