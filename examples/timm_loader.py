"""timm: a loop in the style of its train.py, with its model, optimizer, mixup and loader arguments.

    pip install 'gpurender[train]'
    python examples/timm_loader.py

One line differs from the usual script: the import of create_dataset and create_loader. timm still loads datasets whose
names do not begin with gpurender/. (timm's train.py needs no change: python -m gpurender.interop.timm train.py …)
"""

import torch
from timm.data import FastCollateMixup
from timm.loss import SoftTargetCrossEntropy
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, accuracy, random_seed

# The line that changes: "from timm.data import create_dataset, create_loader" was here.
from gpurender.interop.timm import create_dataset, create_loader

DATASET, CLASSES, SIZE, BATCH_SIZE, SEED = "gpurender/onepfrac-1k", 1000, 32, 50, 42


def train_one_epoch(epoch, model, loader, optimizer, loss_fn) -> None:
    model.train()
    losses = AverageMeter()
    for input, target in loader:  # float32 [50, 3, 32, 32], float32 [50, 1000], both on the device
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(input))
    print(f"epoch {epoch}  loss {losses.avg:.4f}  mixup {'on' if loader.mixup_enabled else 'off'}")


@torch.inference_mode()
def validate(model, loader) -> None:
    model.eval()
    top1, top5 = AverageMeter(), AverageMeter()
    for input, target in loader:
        acc1, acc5 = accuracy(model(input), target, topk=(1, 5))
        top1.update(acc1.item(), len(input))
        top5.update(acc5.item(), len(input))
    print(f"top-1 {top1.avg:.2f} %  top-5 {top5.avg:.2f} %")


def main(epochs: int = 2, mixup_off_epoch: int = 1) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random_seed(SEED)
    model = create_model("test_byobnet", num_classes=CLASSES).to(device)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=2e-3)
    dataset = create_dataset(DATASET, split="train", is_training=True, seed=SEED)
    common = {"input_size": (3, SIZE, SIZE), "batch_size": BATCH_SIZE, "device": device, "num_workers": 2}
    loader_train = create_loader(
        dataset,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        interpolation="random",
        collate_fn=FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=CLASSES),
        **common,
    )
    loader_eval = create_loader(dataset, interpolation="bicubic", crop_pct=1.0, **common)
    for epoch in range(epochs):
        if epoch == mixup_off_epoch:
            loader_train.mixup_enabled = False
        loader_train.sampler.set_epoch(epoch)
        train_one_epoch(epoch, model, loader_train, optimizer, SoftTargetCrossEntropy())
    validate(model, loader_eval)


if __name__ == "__main__":
    main()
