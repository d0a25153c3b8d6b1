"""The ladder: which configs go on."""

import random
import re

import pytest

import gpurender as gr
from gpurender.search.ladder import promoted

Ladder = gr.search.Ladder


def test_one_in_eta_of_those_so_far_goes_on():
    """Worked out by hand, eta 2: after two results the better of them, after four the best two, and so on."""
    scores = [0.1, 0.5, 0.9, 0.2, 0.3, 0.8]
    assert promoted(scores[:1], 2, False) == []
    assert promoted(scores[:2], 2, False) == [1]
    assert promoted(scores[:3], 2, False) == [1, 2]  # the best one of three has come after the second
    assert promoted(scores[:4], 2, False) == [1, 2]
    assert promoted(scores, 2, False) == [1, 2, 5]
    assert promoted([0.5, 0.5, 0.5, 0.5], 2, False) == [0, 1]


def test_a_place_that_is_chosen_stays_chosen():
    assert promoted([0.1, 0.2, 0.9, 0.8], 2, False) == [1, 2, 3]  # place 1 is no more among the best two


def test_results_count_in_the_order_of_the_queue():
    scores = [0.1, 0.5, None, 0.9, 0.9, 0.9]
    assert promoted(scores, 2, False) == [1]
    for known in range(6):
        full = [0.1, 0.5, 0.7, 0.9, 0.2, 0.3]
        late = [*full[:known], None, *full[known + 1 :]]
        assert promoted(late, 2, True) == promoted(full[:known] + [None] * (6 - known), 2, True)
        assert promoted(full, 2, True)[: len(promoted(late, 2, True))] == promoted(late, 2, True)


def test_promotions_are_those_of_the_definition():
    """Written down again, as it is said: sort all results so far, and take the best n // eta."""
    generator = random.Random(0)
    for _ in range(200):
        eta = generator.randint(2, 5)
        scores = [generator.choice([0.1, 0.2, generator.random()]) for _ in range(generator.randint(0, 40))]
        chosen = []
        for n in range(1, len(scores) + 1):
            best = sorted(range(n), key=lambda place: (-scores[place], place))[: n // eta]
            chosen += sorted(set(best) - set(chosen))
        assert promoted(scores, eta, False) == chosen


def test_of_a_complete_queue_one_goes_on():
    assert promoted([0.1, 0.3, 0.2], 4, False) == []
    assert promoted([0.1, 0.3, 0.2], 4, True) == [1]
    assert promoted([0.1, None, 0.2], 4, True) == []
    assert promoted([], 4, True) == []
    assert promoted([float("-inf")], 4, True) == [0]


def test_rungs_are_judged_by_features_then_by_fine_tuning():
    ladder = Ladder((100, 200, 400), seeds=3)
    assert [ladder.finetunings(rung) for rung in range(3)] == [0, 1, 3]
    assert Ladder([100], seeds=2).finetunings(0) == 2
    assert Ladder([100, 200], seeds=2).finetunings(0) == 0
    assert ladder.rungs == 3
    assert Ladder() == Ladder((50_000, 200_000, 800_000), 4, 200, 3)


WRONG = {
    "images must be a list of 1 to 16 integers, got []": {"images": []},
    "images must be a list of 1 to 16 integers, got 3": {"images": 3},
    "images must be a list of 1 to 16 integers, got '123'": {"images": "123"},
    "images must be a list of 1 to 16 integers, got (1, 2, ": {"images": tuple(range(1, 18))},
    "images must ascend, got (2, 2)": {"images": (2, 2)},
    "images[1] must be an integer in [1,": {"images": (1, 2.5)},
    "eta must be an integer in [2, 1000], got 1": {"eta": 1},
    "finetune_steps must be an integer in [1,": {"finetune_steps": 0},
    "seeds must be an integer in [1, 100], got 0": {"seeds": 0},
    "Ladder() got an unexpected keyword argument 'rungs'": {"rungs": 3},
}


@pytest.mark.parametrize("text", WRONG)
def test_a_bad_ladder_is_refused(text):
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        Ladder(**WRONG[text])
