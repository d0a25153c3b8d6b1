"""The LPCE loss against torch's cross entropy, timm's soft targets and the paper's sum over perturbations."""

import math

import pytest
import torch

import gpurender as gr
from gpurender.kernels.soft_targets import soft_targets
from tests.support.optional import optional

LOGITS = torch.randn(12, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.arange(12) % 7
SHARES = torch.rand(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_it_is_torchs_cross_entropy(reduction, smoothing, soft):
    targets = soft_targets(LABELS, SHARES, 7, 0.0).double() if soft else LABELS
    ours = gr.losses.LPCE(label_smoothing=smoothing, reduction=reduction)
    logits, other = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    found = ours(logits, targets)
    wanted = torch.nn.functional.cross_entropy(other, targets, label_smoothing=smoothing, reduction=reduction)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(logits.grad, other.grad)


def test_targets_need_not_sum_to_one():
    """As torch has it, whose smoothing is of what is there."""
    ours = gr.losses.LPCE(label_smoothing=0.25)(LOGITS, SHARES[:, None] * soft_targets(LABELS, None, 7, 0.1).double())
    targets = SHARES[:, None] * soft_targets(LABELS, None, 7, 0.1).double()
    log_p = torch.log_softmax(LOGITS, 1)
    smoothed = 0.75 * targets + 0.25 * targets.sum(1, keepdim=True) / 7
    torch.testing.assert_close(ours, -(smoothed * log_p).sum(1).mean())


def test_smoothing_the_loss_is_smoothing_the_targets():
    for weights in (None, SHARES):
        smoothed = soft_targets(LABELS, weights, 7, 0.1)
        plain = LABELS if weights is None else soft_targets(LABELS, weights, 7, 0.0)
        torch.testing.assert_close(
            gr.losses.LPCE()(LOGITS.float(), smoothed), gr.losses.LPCE(label_smoothing=0.1)(LOGITS.float(), plain)
        )


def test_it_is_timms_soft_target_cross_entropy():
    timm = optional("timm.loss")
    targets = soft_targets(LABELS, SHARES, 7, 0.1)
    torch.testing.assert_close(
        gr.losses.LPCE()(LOGITS.float(), targets), timm.SoftTargetCrossEntropy()(LOGITS.float(), targets)
    )


def test_a_batch_of_every_perturbation_is_the_papers_numerical_integral():
    """-1/L sum over l of log p(l | I_epsilon_l), of the preset's own images and a linear network."""
    recipe = gr.recipe("rcdb-lpce-1k", classes=6, image_size=64)
    images, targets = next(iter(gr.DataLoader(recipe, batch_size=6, image_size=32)))
    network = torch.nn.Linear(3 * 32 * 32, 6)
    with torch.no_grad():
        logits = network(images.flatten(1))
        total = 0.0
        for label, row in enumerate(logits.double()):
            total -= row[label].item() - math.log(sum(math.exp(x) for x in row.tolist()))
        assert gr.losses.LPCE()(logits, targets).item() == pytest.approx(total / 6, rel=1e-5)


def test_half_precision_is_computed_in_float32():
    for dtype in (torch.float16, torch.bfloat16):
        logits = LOGITS.to(dtype)
        found = gr.losses.LPCE()(logits, LABELS)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits.float(), LABELS))
    assert gr.losses.LPCE()(LOGITS, LABELS).dtype == torch.float64


def test_soft_targets_of_a_loader_are_taken():
    recipe = gr.VisualAtom(classes=4, perturb=0.2, image_size=48, orbits=(5, 5), quantization=(20, 20))
    loader = gr.DataLoader(recipe, batch_size=4, image_size=32, augment="visualatom", shuffle=True, fresh=True)
    images, targets = next(iter(loader))
    assert targets.is_floating_point()
    logits = torch.zeros(4, 4, requires_grad=True)
    loss = gr.losses.LPCE()(logits, targets)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-5)
    loss.backward()
    assert images.shape == (4, 3, 32, 32)


WRONG = [
    (lambda: gr.losses.LPCE(label_smoothing=1.01), ValueError, "label_smoothing must"),
    (lambda: gr.losses.LPCE(label_smoothing=-0.01), ValueError, "label_smoothing must"),
    (
        lambda: gr.losses.LPCE(smoothing=0.1),
        TypeError,
        "unexpected keyword argument 'smoothing'; did you mean",
    ),
    (lambda: gr.losses.LPCE()(LOGITS[:, :0], LABELS), ValueError, r"logits must be \[N, L\]"),
    (lambda: gr.losses.LPCE()(LOGITS[None], LABELS), ValueError, r"logits must be \[N, L\]"),
    (lambda: gr.losses.LPCE(label_smoothing="0"), TypeError, "label_smoothing must"),
    (lambda: gr.losses.LPCE(reduction="max"), ValueError, "reduction must"),
    (lambda: gr.losses.LPCE()([1.0], LABELS), TypeError, "logits must be a tensor"),
    (lambda: gr.losses.LPCE()(LOGITS, [1]), TypeError, "targets must be a tensor"),
    (lambda: gr.losses.LPCE()(LOGITS.long(), LABELS), TypeError, "logits must be floating"),
    (lambda: gr.losses.LPCE()(LOGITS[0], LABELS), ValueError, r"logits must be \[N, L\]"),
    (lambda: gr.losses.LPCE()(LOGITS[:0], LABELS[:0]), ValueError, r"logits must be \[N, L\]"),
    (lambda: gr.losses.LPCE()(LOGITS, LABELS.int()), TypeError, "targets must be int64"),
    (lambda: gr.losses.LPCE()(LOGITS, LABELS[:5]), ValueError, r"targets must be \[12\]"),
    (lambda: gr.losses.LPCE()(LOGITS, LABELS + 1), ValueError, r"targets must be labels in \[0, 7\)"),
    (lambda: gr.losses.LPCE()(LOGITS, LABELS - 1), ValueError, r"targets must be labels in \[0, 7\)"),
    (lambda: gr.losses.LPCE()(LOGITS, LOGITS[:, :6]), ValueError, r"targets must be \[12, 7\]"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_it_is_a_module():
    loss = gr.losses.LPCE(label_smoothing=0.1)
    assert isinstance(loss, torch.nn.Module)
    assert repr(loss) == "LPCE(label_smoothing=0.1, reduction='mean')"
    assert not list(loss.parameters())
