"""Two-sample tests: are these draws of one law? Seeds are fixed, so a test's outcome is, too."""

from collections import Counter

import numpy as np

from tests.support.optional import optional

stats = optional("scipy.stats")

LEAST = 1e-4  # p-value: among the suite's few hundred comparisons of equal laws, none should be below
FEW = 30  # distinct values


def same_law(ours, theirs, name=""):
    """Compare two samples of numbers: their distribution functions (Kolmogorov and Smirnov) and, of integers, which
    may differ by one everywhere and hardly move these, their counts, too (chi-square; neighbours in bins together).
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    assert min(len(ours), len(theirs)), f"{name}: {len(ours)} draws of ours, {len(theirs)} of theirs"
    both = np.concatenate([ours, theirs])
    if len(np.unique(theirs)) <= FEW:
        same_counts(ours.tolist(), theirs.tolist(), name)
        return
    p = stats.ks_2samp(ours, theirs).pvalue
    assert p > LEAST, f"{name}: p = {p:.2g}, means {ours.mean():.4g} and {theirs.mean():.4g}"
    if (both == np.rint(both)).all():
        first = bins(both, min(len(ours), len(theirs)) / len(both))
        names = [(first[np.searchsorted(first, x, side="right") - 1]).tolist() for x in (ours, theirs)]
        same_counts(*names, f"{name}, counts of bins that begin at these")


def bins(values, share):
    """Where bins of neighbouring values begin, each with 5 values at least that the smaller sample should have."""
    distinct, counts = np.unique(values, return_counts=True)
    first, gathered = [], np.inf
    for value, count in zip(distinct, counts, strict=True):
        if gathered * share >= 5:
            first.append(value)
            gathered = 0
        gathered += count
    return np.array(first)


def same_counts(ours, theirs, name=""):
    """Chi-square test of homogeneity of two samples of anything that can be counted; rare values are put together."""
    ours, theirs = Counter(ours), Counter(theirs)
    share = sum(ours.values()) / (sum(ours.values()) + sum(theirs.values()))
    common, rare = [], np.zeros(2)
    for value in ours.keys() | theirs.keys():
        pair = np.array([ours[value], theirs[value]], float)
        if min(share, 1 - share) * pair.sum() >= 5:
            common.append(pair)
        else:
            rare += pair
    if rare.sum():
        common.append(rare)
    if len(common) == 1:
        return
    p = stats.chi2_contingency(np.array(common), correction=False).pvalue
    assert p > LEAST, f"{name}: p = {p:.2g}, {ours.most_common(5)} and {theirs.most_common(5)}"
