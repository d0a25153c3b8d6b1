"""Which policies a training takes, by what it knows them again, and which loss its targets have."""

import dataclasses

import pytest
import torch

import gpurender as gr
from gpurender.training import policies
from gpurender.training.loss import loss_of


def test_a_policy_of_one_view_is_taken_by_name_or_itself():
    assert policies.one_view("crop") == gr.augment.Crop()
    own = gr.augment.Crop(hflip=0.0)
    assert policies.one_view(own) is own
    with pytest.raises(
        TypeError, match=r"^augment must be a policy such as gr\.augment\.Crop\(\) or its name, got None$"
    ):
        policies.one_view(None)
    two = gr.augment.TwoViews(own)
    with pytest.raises(ValueError, match=r"^augment must give one view of a sample, and .* gives 2$"):
        policies.one_view(two)


def test_a_policy_is_known_by_its_repr():
    assert policies.identity(gr.augment.Crop()) == repr(gr.augment.Crop())

    @dataclasses.dataclass(repr=False)
    class Nameless:
        pass

    with pytest.raises(ValueError, match=r"^augment must have a repr that is the same in every process, .* got '<"):
        policies.identity(Nameless())


def test_several_labels_have_a_binary_cross_entropy():
    assert isinstance(loss_of(gr.MultiFractal(classes=3)), torch.nn.BCEWithLogitsLoss)
    assert isinstance(loss_of(gr.ColorFractal(classes=3)), torch.nn.CrossEntropyLoss)
