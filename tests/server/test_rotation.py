"""Rotations, beside Pillow's; the accuracy, beside a model whose answers are known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from gpurender.server.rotation import Turned, rotation_accuracy, turned
from gpurender.server.sources import samples_of
from tests.server.support import pictures


def test_turns_are_pillows(tmp_path):
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (5, 5, 3), dtype=np.uint8)) for i in range(2)]
    batch = torch.stack([pil_to_tensor(image) for image in images])
    rotated, turns = turned(batch)
    assert turns.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert turns.dtype == torch.int64
    for k in range(4):
        for i, image in enumerate(images):
            expected = pil_to_tensor(image.rotate(90 * k, expand=True))
            assert torch.equal(rotated[2 * k + i], expected)


def test_a_feed_of_rotations_keeps_its_place():
    class Feed:
        place = 0

        def batches(self):
            while True:
                self.place += 1
                yield torch.full((2, 3, 4, 4), float(self.place)), torch.tensor([7, 8])

        def state_dict(self):
            return {"place": self.place}

        def load_state_dict(self, state):
            self.place = state["place"]

    feed = Turned(Feed())
    images, turns = next(feed.batches())
    assert images.shape == (8, 3, 4, 4)
    assert turns.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert feed.state_dict() == {"place": 1}
    feed.load_state_dict({"place": 5})
    assert next(feed.batches())[0].unique().tolist() == [6.0]


class Corner(torch.nn.Module):
    """Says by how much an image was turned by where its bright corner is."""

    def forward(self, images):
        ends = (images[:, 0, 0, 0], images[:, 0, -1, 0], images[:, 0, -1, -1], images[:, 0, 0, -1])
        return torch.stack(ends, 1)


def test_the_accuracy_is_over_all_images_in_all_rotations(tmp_path):
    names = []
    for number in range(5):  # bright at the top left in three of five: rotations by 90 degrees go against the clock
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[(0, 0) if number < 3 else (0, -1)] = 255
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        names.append(f"{number}.png")
    model = Corner().train()
    found = rotation_accuracy(
        model, samples_of(tmp_path, names), lambda image: pil_to_tensor(image).float(), 8, torch.device("cpu")
    )
    assert found == pytest.approx(3 / 5)
    assert not model.training


def test_one_model_of_chance_is_right_for_a_quarter(tmp_path):
    class First(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(len(images), 4)

    names = pictures(tmp_path, 3)
    seen = []

    def transform(image):
        seen.append(image.size)
        return torch.zeros(3, 4, 4)

    assert rotation_accuracy(First(), samples_of(tmp_path, names), transform, 4, torch.device("cpu")) == 0.25
    assert len(seen) == 3
