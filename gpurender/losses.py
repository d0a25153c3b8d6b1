"""Losses: the locally perturbed cross entropy of 1p-frac."""

import torch

from gpurender.util import checks, keywords

__all__ = ["LPCE"]


@keywords.checked
class LPCE(torch.nn.Module):
    """Locally perturbed cross entropy: cross entropy over the perturbations of one image.

    >>> loader = gr.DataLoader("visualatom-lpce-1k", batch_size=256, augment="visualatom")
    >>> loss = gr.losses.LPCE()(model(images), targets)

    The paper, equations 7 to 9: I_epsilon is the image I with its parameters moved by epsilon, a point of a small
    hypercube R of side delta around the origin. The label of I_epsilon is epsilon itself::

        p_delta(x, y) = 1 / |R| integral over R of d(x - I_epsilon) d(y - epsilon) d epsilon        (7; d: Dirac)
        L_delta       = -E over p_delta of log p_theta(y | x)                                      (8)

    The integral is approximated by L points epsilon_1 ... epsilon_L, drawn uniformly from R once; the label becomes the
    number of the point::

        L_delta ~ -1/L sum over l of log p_theta(l | I_epsilon_l)

    With equally frequent labels the mean over a batch estimates this sum without bias, and so the loss is the cross
    entropy of a network with L outputs. What makes it *locally perturbed* is its data: 1p-frac, and ``perturb`` of
    :class:`gpurender.VisualAtom` and :class:`gpurender.RCDB`.

    The paper leaves open what p_theta(y | x) is for a continuous y, and how the L points become more than L images.
    Chosen: p_theta is a softmax over the L points. With ``fresh=True`` a loader of a recipe with ``perturb``, or of
    ``gr.OnePFrac(redraw=True)``, draws a new point for every image, uniform in a cube of R's volume / L around the
    label's point; each label then stands for its part of the integral (7), of which every epoch is another sample.

    Soft targets t (mixed or smoothed by the loader's policy) give -sum over l of t_l log p_theta(l | x).
    ``label_smoothing`` s replaces a target t by (1 - s) t + s / L, which is what the policies do (their own smoothing
    is 0.1 by default: do not smooth twice).

    Args:
        label_smoothing: s, 0 to 1.
        reduction: ``"mean"`` over the batch, ``"sum"``, or ``"none"``, one value per image.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    def __init__(self, *, label_smoothing: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        self.label_smoothing = checks.real("label_smoothing", label_smoothing, 0.0, 1.0)
        self.reduction = checks.choice("reduction", reduction, ("mean", "sum", "none"))

    def extra_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}, reduction={self.reduction!r}"

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            logits: floating ``[N, L]``; half precision is computed in float32.
            targets: labels, int64 ``[N]`` in ``[0, L)`` (checked on a CPU only: a GPU would have to wait), or soft
                targets, floating ``[N, L]``.

        Returns:
            float32, float64 for logits in float64: a scalar, or ``[N]`` with ``reduction="none"``.

        Raises:
            TypeError, ValueError: logits or targets have another type, shape or range.
        """
        self._check(logits, targets)
        log_p = torch.log_softmax(logits, 1, dtype=torch.promote_types(logits.dtype, torch.float32))
        if targets.is_floating_point():
            own = -(targets.to(log_p.dtype) * log_p).sum(1)
            mass = targets.to(log_p.dtype).sum(1)
        else:
            own = -log_p.gather(1, targets[:, None])[:, 0]
            mass = torch.ones_like(own)
        if self.label_smoothing:
            own = (1.0 - self.label_smoothing) * own - self.label_smoothing * mass * log_p.mean(1)
        if self.reduction == "none":
            return own
        return own.mean() if self.reduction == "mean" else own.sum()

    @staticmethod
    def _check(logits: torch.Tensor, targets: torch.Tensor) -> None:
        for name, value in (("logits", logits), ("targets", targets)):
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"{name} must be a tensor, got {checks.shown(value)}")
        if not logits.is_floating_point():
            raise TypeError(f"logits must be floating, got {logits.dtype}")
        if logits.dim() != 2 or 0 in logits.shape:
            raise ValueError(f"logits must be [N, L] with at least one row and column, got {list(logits.shape)}")
        if targets.is_floating_point():
            if targets.shape != logits.shape:
                raise ValueError(f"targets must be {list(logits.shape)}, as logits are, got {list(targets.shape)}")
            return
        if targets.dtype != torch.int64:
            raise TypeError(f"targets must be int64 labels or floating soft targets, got {targets.dtype}")
        if targets.shape != logits.shape[:1]:
            raise ValueError(f"targets must be [{len(logits)}], one label per row of logits, got {list(targets.shape)}")
        if targets.device.type == "cpu" and not bool(((targets >= 0) & (targets < logits.shape[1])).all()):
            raise ValueError(f"targets must be labels in [0, {logits.shape[1]}), got {checks.shown(targets.tolist())}")
