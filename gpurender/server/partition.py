"""Partition: an image folder in K parts of images that are alike (Neural Data Server, section 3.2.1).

*Superclass*: k-means over the mean features of the classes; a part is some whole classes. *Unsupervised*: k-means over
the features of the images. The paper takes the features from a network trained on ImageNet; here they are those of any
checkpoint, or of a network that is trained on the rotations of all images of the folder.
"""

from collections.abc import Sequence

import numpy as np

SCHEMES = ("superclass", "unsupervised")
RESTARTS = 10


def superclasses(features: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the part of each image by superclass, int64 ``[N]``; see :func:`clusters`.

    Args:
        features: float32 ``[N, C]``.
        labels: classes, int64 ``[N]``, from 0 without gaps.
        count: parts, 1 to the number of classes.
        seed: of k-means.
    """
    classes = int(labels.max()) + 1
    if count > classes:
        raise ValueError(f"k must be at most {classes}, the number of classes, for superclasses, got {count}")
    sums = np.zeros((classes, features.shape[1]), np.float64)
    np.add.at(sums, labels, features)
    return clusters(sums / np.bincount(labels)[:, None], count, seed)[labels]


def clusters(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the part of each row by k-means (the best of ten runs), int64 ``[N]``; parts are in order of first use.

    Args:
        features: ``[N, C]``.
        count: parts, 1 to the number of different rows.
        seed: of the first centres.

    Raises:
        ValueError: there are fewer different rows.
        RuntimeError: scikit-learn is missing.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise RuntimeError(f"partitions need scikit-learn: pip install 'gpurender[serve]' ({error})") from None
    different = len(np.unique(features, axis=0))
    if count > different:
        raise ValueError(f"k must be at most {different}, the number of images or classes that differ, got {count}")
    means = KMeans(n_clusters=count, n_init=RESTARTS, random_state=seed % 2**32)
    return _in_order(means.fit_predict(features.astype(np.float64)))


def _in_order(parts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return parts with numbers in the order of their first image, int64 ``[N]``: names do not depend on a library."""
    _, first, inverse = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[inverse]
