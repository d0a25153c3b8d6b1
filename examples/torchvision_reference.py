"""torchvision: a loop in the style of its reference scripts, with its models, CutMix and MixUp.

    pip install 'gpurender[train]'
    python examples/torchvision_reference.py

One line differs from the usual script: the training loader, which takes the same arguments as torch's.
"""

import torch
import torchvision
from torch import nn
from torch.utils.data import RandomSampler, default_collate
from torchvision.transforms import v2

import gpurender as gr

RECIPE = "onepfrac-1k"


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch: int) -> None:
    model.train()
    total = 0.0
    for step, (image, target) in enumerate(data_loader, 1):
        image, target = image.to(device), target.to(device)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        if step % 10 == 0 or step == len(data_loader):
            print(f"epoch {epoch}  [{step:>3}/{len(data_loader)}]  loss {total / step:.4f}")


@torch.inference_mode()
def evaluate(model, data_loader, device) -> float:
    model.eval()
    processed = correct = 0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        correct += (model(image).argmax(1) == target).sum().item()
        processed += len(target)
    if processed != len(data_loader.dataset):
        raise RuntimeError(f"{processed} samples came of {len(data_loader.dataset)}")
    return correct / processed


def main(epochs: int = 2) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = gr.Dataset(RECIPE)
    train_sampler = RandomSampler(dataset, generator=torch.Generator().manual_seed(0))
    mix = v2.RandomChoice([v2.MixUp(num_classes=len(dataset.classes)), v2.CutMix(num_classes=len(dataset.classes))])

    def collate_fn(batch):
        return mix(*default_collate(batch))

    # The line that changes: torch.utils.data.DataLoader was here, and the augmentation was the dataset's transform.
    data_loader = gr.DataLoader(
        dataset, batch_size=50, sampler=train_sampler, num_workers=2, pin_memory=True, collate_fn=collate_fn,
        image_size=32, augment=gr.augment.Crop(),
    )  # fmt: skip
    data_loader_test = gr.DataLoader(dataset, batch_size=100, image_size=32)

    model = torchvision.models.get_model("shufflenet_v2_x0_5", num_classes=len(dataset.classes)).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(epochs):
        if hasattr(train_sampler, "set_epoch"):  # DistributedSampler
            train_sampler.set_epoch(epoch)
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch)
    print(f"{evaluate(model, data_loader_test, device):.2%} of {len(dataset)} images recognised")


if __name__ == "__main__":
    main()
