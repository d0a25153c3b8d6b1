"""The seeds of views, at their addresses."""

import numpy as np
import pytest

import gpurender as gr
from gpurender.augment.views import view_seed
from gpurender.kernels.philox import philox
from gpurender.numerics.streams import Stream


@pytest.mark.parametrize("seed", [0, 5, 2**32 + 7, 2**64 - 1])
@pytest.mark.parametrize("view", [0, 1, 63])
def test_a_view_has_the_first_two_words_at_its_address(seed, view):
    counter = np.array([[0, int(Stream.VIEW), view, 0]], np.uint32)
    low, high, _, _ = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[0].tolist()
    assert view_seed(seed, view) == low + 2**32 * high


def test_views_are_drawn_by_their_own_policies_sizes_and_seeds():
    """Recorded: what each policy of one view is asked to draw, and for which sizes it is checked."""
    asked = []

    class Recorded(gr.augment.Policy):
        def __init__(self, name):
            self.name = name

        def draw(self, numbers, **where):
            asked.append((self.name, list(numbers), where))
            return {}

        def apply(self, canvases, parameters, **finish):
            raise AssertionError

        def check_sizes(self, canvas_size, image_size):
            asked.append((self.name, canvas_size, image_size))

    first, second = Recorded("first"), Recorded("second")
    gr.augment.MultiCrop((first, 2), (second, 1, 12)).draw([7, 9], seed=5, canvas_size=33, image_size=24)
    gr.augment.TwoViews(second, first).draw([7, 9], seed=5, canvas_size=33, image_size=24)
    wanted = [("first", 0, 24), ("first", 1, 24), ("second", 2, 12), ("second", 0, 24), ("first", 1, 24)]
    assert asked == [
        (name, [7, 9], {"seed": view_seed(5, view), "canvas_size": 33, "image_size": size})
        for name, view, size in wanted
    ]
    asked.clear()
    gr.augment.MultiCrop((first, 2), (second, 1, 12)).check_sizes(33, 24)
    gr.augment.TwoViews(second).check_sizes(33, 24)
    assert asked == [("first", 33, 24), ("first", 33, 24), ("second", 33, 12), ("second", 33, 24), ("second", 33, 24)]
