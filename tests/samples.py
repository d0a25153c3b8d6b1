"""Two-sample tests: are these draws of one law? Seeds are fixed, so a test's outcome is, too."""

from collections import Counter

import numpy as np
from scipy import stats

LEAST = 1e-4  # p-value: among the suite's few hundred comparisons of equal laws, none should be below


def same_law(ours, theirs, name=""):
    """Kolmogorov and Smirnov's test of two samples of numbers; of few values, chi-square of their counts."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    assert min(len(ours), len(theirs)), f"{name}: {len(ours)} draws of ours, {len(theirs)} of theirs"
    if len(np.unique(theirs)) <= 30:
        same_counts(ours.tolist(), theirs.tolist(), name)
        return
    p = stats.ks_2samp(ours, theirs).pvalue
    assert p > LEAST, f"{name}: p = {p:.2g}, means {ours.mean():.4g} and {theirs.mean():.4g}"


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
