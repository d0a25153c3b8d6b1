"""Partitions of images that are alike."""

import numpy as np
import pytest

from gpurender.server import partition

pytest.importorskip("sklearn", reason="needs scikit-learn")


def blobs(centres, each, seed=0):
    generator = np.random.default_rng(seed)
    owners = generator.permutation(np.repeat(np.arange(len(centres)), each))
    return np.array(centres)[owners] + generator.normal(0, 0.1, (len(owners), len(centres[0]))), owners


def same(a, b):
    """Whether two partitions are the same, whatever the numbers of their parts."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def test_clusters_are_the_blobs_and_numbered_by_first_use():
    features, owners = blobs([[0, 0], [5, 0], [0, 5]], 20)
    for seed in range(3):
        found = partition.clusters(features.astype(np.float32), 3, seed)
        assert found.dtype == np.int64
        assert same(found, owners)
        _, first = np.unique(found, return_index=True)
        assert found[0] == 0
        assert list(first) == sorted(first)


def test_superclasses_keep_classes_whole():
    centres = [[0, 0], [0.6, 0], [9, 9], [9, 8.5], [0, 9]]  # classes 0 and 1 are near, 2 and 3, and 4 alone
    features, classes = blobs(centres, 12)
    found = partition.superclasses(features.astype(np.float32), classes, 3, 0)
    for label in range(5):
        assert len(set(found[classes == label])) == 1
    assert same(found, np.array([0, 0, 1, 1, 2])[classes])


def test_superclasses_are_of_class_means_not_of_images():
    features = np.array([[0.0], [10.0], [4.0], [6.0], [20.0]])  # classes 0 (mean 5) and 1 (mean 5), and 2
    found = partition.superclasses(features, np.array([0, 0, 1, 1, 2]), 2, 0)
    assert found.tolist() == [0, 0, 0, 0, 1]


def test_there_are_at_most_as_many_parts_as_things_that_differ():
    with pytest.raises(ValueError, match="k must be at most 2, the number of classes, for superclasses, got 3"):
        partition.superclasses(np.eye(4), np.array([0, 0, 1, 1]), 3, 0)
    with pytest.raises(ValueError, match="k must be at most 1, the number of images or classes that differ, got 2"):
        partition.clusters(np.ones((4, 2)), 2, 0)
    assert partition.clusters(np.ones((4, 2)), 1, 0).tolist() == [0] * 4
    assert partition.superclasses(np.eye(2), np.array([0, 1]), 2, 2**64 - 1).tolist() == [0, 1]


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.cluster", None)
    with pytest.raises(RuntimeError, match=r"partitions need scikit-learn: pip install 'gpurender\[serve\]'"):
        partition.clusters(np.eye(3), 2, 0)
