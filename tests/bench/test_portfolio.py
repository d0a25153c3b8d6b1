"""Shares of the oracle's gain, by hand and by trying all choices."""

import itertools
import json

import numpy as np
import pytest

from bench import portfolio


def test_the_best_of_some_by_trying_all_choices():
    scores = np.array([0.3, 0.9, 0.1, 0.5, 0.5])
    for count in range(1, 6):
        expected = np.mean([max(some) for some in itertools.combinations(scores, count)])
        assert portfolio.best_of_random(scores, count) == pytest.approx(expected)


def test_gains_on_unseen_tasks():
    table = np.array([[0.9, 0.1, 0.5], [0.1, 0.8, 0.6], [0.2, 0.4, 0.9]])
    found = portfolio.gains(table, [0, 1], [2], 1)  # means of the known ones: 0.5, 0.45, 0.55
    assert found["oracle"] == pytest.approx([0.4])
    assert found["portfolio"] == found["best on average"] == pytest.approx([0.4])
    assert found["random"] == pytest.approx([0.0])
    two = portfolio.gains(table, [1, 2], [0], 2)  # means 0.15, 0.6, 0.75: 2 first, then 1 (0.85 against 0.75)
    assert two["portfolio"] == pytest.approx([0.5 - 0.5])
    assert two["best on average"] == pytest.approx([0.0])
    assert two["random"] == pytest.approx([(0.9 + 0.9 + 0.5) / 3 - 0.5])


def test_shares_over_all_splits_when_there_are_few():
    table = np.random.default_rng(0).random((5, 7))
    rows = {row["recommender"]: row for row in portfolio.shares(table, range(5), 2, 1, 200, 0)}
    own = [portfolio.gains(table, [t for t in range(5) if t != u], [u], 2) for u in range(5)]
    oracle = sum(one["oracle"][0] for one in own)
    for name in rows:
        assert rows[name]["share"] == pytest.approx(sum(one[name][0] for one in own) / oracle)
        assert rows[name]["p5"] <= rows[name]["share"] <= rows[name]["p95"]
    assert rows["oracle"]["share"] == rows["oracle"]["p5"] == rows["oracle"]["p95"] == 1.0
    assert portfolio.shares(table, range(5), 2, 1, 200, 0) == portfolio.shares(table, range(5), 2, 1, 5, 0)


def test_one_recipe_for_every_task_needs_no_portfolio():
    table = np.tile([0.1, 0.9, 0.5], (4, 1))
    rows = {row["recommender"]: row["share"] for row in portfolio.shares(table, range(4), 1, 2, 3, 1)}
    assert rows["portfolio"] == rows["best on average"] == 1.0
    assert rows["random"] == pytest.approx(0.0)


@pytest.mark.parametrize("held_out", [0, 4])
def test_some_tasks_are_known_and_some_are_not(held_out):
    with pytest.raises(ValueError, match=f"held_out must be 1 to 3, got {held_out}"):
        portfolio.shares(np.zeros((4, 3)), range(4), 1, held_out, 10, 0)


def test_tasks_of_one_source_are_unseen_together_and_count_as_one():
    table = np.random.default_rng(1).random((4, 6))
    rows = {row["recommender"]: row for row in portfolio.shares(table, ["a", "b", "b", "c"], 2, 1, 200, 0)}
    splits = [([1, 2, 3], [0]), ([0, 3], [1, 2]), ([0, 1, 2], [3])]
    own = [portfolio.gains(table, known, unseen, 2) for known, unseen in splits]
    for name, row in rows.items():
        assert row["gain"] == pytest.approx(np.mean([one[name].mean() for one in own]))
    with pytest.raises(ValueError, match="held_out must be 1 to 2, got 3"):
        portfolio.shares(table, ["a", "b", "b", "c"], 2, 3, 200, 0)


def test_the_table_of_a_comparison_has_the_complete_recipes_besides_the_found_one(tmp_path):
    rows = [
        {
            "rival": rival, "fingerprint": rival[0], "task": task, "source": "of " + task, "seed": seed,
            "accuracy": 0.1 * base + 0.01 * place + 0.001 * seed,
        }
        for base, rival in enumerate(("found", "b", "c", "find", "b again", "d"))
        for place, task in enumerate(("x", "y"))
        for seed in range(3)
    ]  # fmt: skip
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"search_study": {"comparison": rows[:-1]}}))
    tasks, sources, table = portfolio.compared(path, 2)
    assert (tasks, sources) == (["x", "y"], ["of x", "of y"])
    assert table == pytest.approx(np.array([[0.401, 0.201], [0.411, 0.211]]))
    with pytest.raises(
        ValueError, match=r"study\.json has 2 recipes that were measured on all tasks, and 3 are needed"
    ):
        portfolio.compared(path, 3)
    path.write_text(json.dumps({"search_study": {"comparison": []}}))
    with pytest.raises(ValueError, match="has 0 recipes"):
        portfolio.compared(path, 1)
