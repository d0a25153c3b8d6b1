"""Transferability scores: how well features of a model suit labelled images, without fine-tuning; larger is better."""

from typing import Any

import numpy as np

from gpurender.util import checks

__all__ = ["h_score", "leep", "log_me", "regularised_h_score", "scores", "spearman", "trans_rate"]

EPSILON = 1e-4  # distortion of TransRate, in squared units of the features
RATIO = 1e10  # alpha / beta of LogME lies in [1 / RATIO, RATIO]: the evidence of a perfect fit would have no maximum
STEPS = 1000  # of LogME's iteration, at most: tens are usual, more where the features say next to nothing on a class
TOLERANCE = 1e-6  # relative, of alpha / beta; the evidence is flat at its maximum, so that its error is of second order


def scores(features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return all scores of a model on a task: ``logme``, ``h_score``, ``h_score_regularised``, ``leep``, ``transrate``.

    Args:
        features: of the model's last layer before the head, float ``[N, D]``, finite.
        probabilities: of the model's head for its Z source classes, float ``[N, Z]``; see :func:`leep`.
        labels: of the task, int64 ``[N]``, from 0, of two classes or more.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    return {
        "logme": log_me(features, labels),
        "h_score": h_score(features, labels),
        "h_score_regularised": regularised_h_score(features, labels),
        "leep": leep(probabilities, labels),
        "transrate": trans_rate(features, labels),
    }


def log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the logarithm of the maximum evidence per sample, the mean over classes, in nats.

    The targets y of a class are 1 for its samples and 0 for the others. With weights w ~ N(0, I / alpha) and
    y ~ N(F w, I / beta) the evidence is (You et al., LogME, ICML 2021, arXiv:2102.11005, equation 2)::

        log p(y | F) = N/2 log beta + D/2 log alpha - N/2 log 2 pi - beta/2 |F m - y|² - alpha/2 |m|² - 1/2 log |A|
        A = alpha I + beta F'F,   m = beta A⁻¹ F'y

    Its maximum over alpha and beta is a fixed point of ``alpha = gamma / |m|²``, ``beta = (N - gamma) / |F m - y|²``
    with ``gamma = sum of beta s² / (alpha + beta s²)`` over the singular values s of F. The features are not centred,
    and their scale does not matter. In the terms of t = alpha / beta, D (log alpha) - log |A| is the sum of
    -log(1 + s² / t), in which singular values of 0 have no part: this holds for N < D, too.

    Args:
        features: F, float ``[N, D]``, finite.
        labels: int64 ``[N]``, from 0, of two classes or more.

    Returns:
        a score that has no bounds but by that of alpha / beta, which is held within [1e-10, 1e10] squares of the
        largest singular value: a perfect fit has a large score, not an infinite one.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    x, members = _checked("features", features, labels)
    u, s = _svd(x)
    z = u.T @ members  # [K, C]: the targets in the directions of the features
    outside = ((members - u @ z) ** 2).sum(0)  # [C]: what no weights can fit
    lengths = (s / s.max(initial=0.0))[:, None] ** 2  # [K, 1]: s², with features scaled to a largest s of 1
    return float(np.mean(_evidence(lengths, z**2, outside, len(x))) / len(x))


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the H-score, ``trace(pinv(cov f) cov E[f | y])``: variance between classes in whitened features.

    With centred features F = U S V' and the projection P that replaces each sample by the mean of its class::

        H = trace(pinv(F'F) F'PF) = trace(U'PU) = sum over classes c of n_c |mean of the rows of U in c|²

    Invertible linear maps of the features leave it unchanged. Where N <= D it says nothing: it is C - 1 for nearly
    any features, and :func:`regularised_h_score` is to be taken.

    Source: Bao et al., An information-theoretic approach to transferability in task transfer learning, ICIP 2019.

    Args:
        features: f, float ``[N, D]``, finite.
        labels: y, int64 ``[N]``, from 0, of C classes, two or more.

    Returns:
        a score in [0, min(D, C - 1)].

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    x, members = _checked("features", features, labels)
    u, _ = _svd(_centred(x))
    return float(_between(u, members).sum())


def regularised_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the H-score with a covariance shrunk to a multiple of the identity; for few samples, N < D, as well.

    With the covariance ``Σ`` of the features, divided by N, and mu = trace(Σ) / D::

        H_a = (1 - a) trace(Σ_a⁻¹ cov E[f | y]),   Σ_a = (1 - a) Σ + a mu I
        a   = min(1, sum over samples of |f f' - Σ|² / N² / |Σ - mu I|²)       (Frobenius norms, centred f)

    Source: Ibrahim et al., Newer is not always better, arXiv:2110.06893, with a of Ledoit and Wolf, A well-conditioned
    estimator for large-dimensional covariance matrices, 2004.

    Args:
        features: f, float ``[N, D]``, finite.
        labels: y, int64 ``[N]``, from 0, of C classes, two or more.

    Returns:
        a score in [0, min(D, C - 1)].

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    x, members = _checked("features", features, labels)
    x = _centred(x)
    u, s = _svd(x)
    variances = s**2 / len(x)  # [K]: the eigenvalues of Σ that are not 0
    mean = variances.sum() / x.shape[1]  # mu
    distance = ((variances - mean) ** 2).sum() + (x.shape[1] - len(s)) * mean**2  # |Σ - mu I|²
    error = (np.mean((x**2).sum(1) ** 2) - (variances**2).sum()) / len(x)
    a = min(error / distance, 1.0) if distance > 0.0 else 0.0
    shrunk = (1 - a) * variances + a * mean
    return float((1 - a) * (_between(u, members) * variances / shrunk).sum())


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the log expected empirical prediction: the mean log-likelihood of the labels given source classes.

    With the source probabilities θ(x)_z (Nguyen et al., LEEP, ICML 2020, arXiv:2002.12462, section 3)::

        P(y, z) = 1/N sum of θ(x_i)_z over the samples i of class y,   P(y | z) = P(y, z) / sum over y of P(y, z)
        LEEP    = 1/N sum over i of log(sum over z of P(y_i | z) θ(x_i)_z)

    Args:
        probabilities: of the source head, float ``[N, Z]``, in [0, 1], with rows that sum to 1 (within 0.001).
        labels: int64 ``[N]``, from 0, of two classes or more.

    Returns:
        a score in nats, at most 0.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    theta, members = _checked("probabilities", probabilities, labels)
    sums = theta.sum(1)
    if theta.min() < 0.0 or np.abs(sums - 1.0).max() > 1e-3:
        raise ValueError(
            "probabilities must be 0 or more, with rows that sum to 1, got "
            f"a least value of {theta.min():g} and sums of {sums.min():g} to {sums.max():g}"
        )
    joint = theta.T @ members  # [Z, C]: N P(y, z)
    total = joint.sum(1, keepdims=True)
    given = joint / np.where(total > 0.0, total, 1.0)  # [Z, C]: P(y | z); a source class that never occurs has no part
    return float(np.mean(np.log(((theta @ given) * members).sum(1))))


def trans_rate(features: np.ndarray, labels: np.ndarray) -> float:
    """Return TransRate, an estimate of the mutual information of features and labels by coding rates, in nats.

    With the centred features Z and the rows Z_c of class c, which are n_c (Huang et al., Frustratingly easy
    transferability estimation, ICML 2022, arXiv:2106.09362)::

        R(Z)    = 1/2 log det(I + Z'Z / (N epsilon)),   epsilon = 1e-4
        TransRate = R(Z) - sum over c of n_c / N R(Z_c)

    The code printed in the paper takes the plain mean over classes, which is the same for classes of equal size; the
    weights n_c / N are those of the authors' repository. Rows of Z_c keep the mean of their class. As epsilon is fixed,
    the scale of the features matters: compare models only on features of the same mean square.

    Args:
        features: float ``[N, D]``, finite.
        labels: int64 ``[N]``, from 0, of two classes or more.

    Returns:
        a score of 0 or more, but for rounding errors; 0 as well for two classes that mirror each other.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    x, members = _checked("features", features, labels)
    x = _centred(x)
    within = sum(mask.mean() * _coding_rate(x[mask]) for mask in members.T > 0.0)
    return float(_coding_rate(x) - within)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of two lists: Pearson's of the ranks, with the mean rank for equal values.

    Args:
        x, y: float ``[N]``, finite, N at least 1.

    Returns:
        the correlation, in [-1, 1]; 0.0 if one side is constant.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    a, b = _numbers("x", x, 1), _numbers("y", y, 1)
    if len(a) != len(b):
        raise ValueError(f"y must have as many values as x, {len(a)}, got {len(b)}")
    a, b = _ranks(a), _ranks(b)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0.0 else 0.0


def _evidence(lengths: np.ndarray, z: np.ndarray, outside: np.ndarray, samples: int) -> np.ndarray:
    """Return the logarithm of the maximum evidence of each class, ``[C]``, by the iteration of :func:`log_me`.

    Args:
        lengths: squared singular values of F, ``[K, 1]``, none of them 0.
        z: squares of U'y, ``[K, C]``.
        outside: ``|y|² - |U'y|²``, ``[C]``.
        samples: N.
    """
    t = np.ones(z.shape[1])  # [C]: alpha / beta
    for _ in range(STEPS):
        gamma = (lengths / (lengths + t)).sum(0)
        rest = samples - len(lengths) + (t / (lengths + t)).sum(0)  # N - gamma
        norm = (lengths * z / (lengths + t) ** 2).sum(0)  # |m|²
        residual = (z * (t / (lengths + t)) ** 2).sum(0) + outside  # |F m - y|²
        over, under = gamma * residual, rest * norm
        new = over / np.maximum(np.maximum(under, over / RATIO), np.finfo(np.float64).tiny)  # at most RATIO
        new = np.maximum(new, 1 / RATIO)
        change = np.abs(new - t) / t
        t = new
        if change.max() <= TOLERANCE:
            break
    alpha = samples / ((z / (lengths + t)).sum(0) + outside / t)  # best for this t: alpha |m|² + beta |F m - y|² = N
    return (samples * (np.log(alpha / t / (2 * np.pi)) - 1) - np.log1p(lengths / t).sum(0)) / 2


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values, from 1, float64 ``[N]``; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _coding_rate(z: np.ndarray) -> float:
    """Return ``1/2 log det(I + Z'Z / (n epsilon))`` of rows, float64 ``[n, D]``, by the singular values of Z."""
    s = np.linalg.svd(z, compute_uv=False)
    return float(np.log1p(s**2 / (len(z) * EPSILON)).sum() / 2)


def _between(u: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return ``diag(U'PU)``, ``[K]``: how much of each direction ``[N, K]`` lies between the classes ``[N, C]``."""
    return ((u.T @ members) ** 2 / members.sum(0)).sum(1)


def _centred(x: np.ndarray) -> np.ndarray:
    """Subtract the mean of each column; twice, so that nothing remains of a constant column of large values."""
    x = x - x.mean(0)
    return x - x.mean(0)


def _svd(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return U, ``[N, K]``, and the K singular values, ``[K]``, that are no rounding errors, of a matrix ``[N, D]``."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = int((s > s[0] * max(x.shape) * np.finfo(float).eps).sum())
    return u[:, :rank], s[:rank]


def _checked(name: str, values: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return checked values, float64 ``[N, D]``, and which class each sample is of, 0.0 or 1.0, float64 ``[N, C]``."""
    x, y = _numbers(name, values, 2), _numbers("labels", labels, 1)
    if np.asarray(labels).dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {np.asarray(labels).dtype}")
    if len(y) != len(x):
        raise ValueError(f"labels must be as many as rows of {name}, {len(x)}, got {len(y)}")
    classes = np.unique(y)
    if classes[0] < 0 or len(classes) < 2:
        raise ValueError(f"labels must be 0 or more and of two classes or more, got {checks.shown(classes.tolist())}")
    return x, (y[:, None] == classes).astype(np.float64)


def _numbers(name: str, values: Any, axes: int) -> np.ndarray:
    """Return finite numbers of a shape of ``axes`` axes, none of them empty, as float64."""
    shape = ("[N]", "[N, D]")[axes - 1]
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{name} must be an array {shape}, got {checks.shown(values)}") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array {shape} of numbers, got {checks.shown(values)} of {array.dtype}")
    if array.ndim != axes or array.size == 0:
        raise ValueError(f"{name} must be an array {shape} that is not empty, got the shape {list(array.shape)}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]} among its values")
    return array
