"""The headspace test: the first batches of a loader, kept and repeated."""

import pytest
import torch

import gpurender as gr

RECIPE = gr.Noise(classes=4, instances=8, image_size=16)


def loader(**keywords):
    return gr.DataLoader(RECIPE, 5, image_size=16, shuffle=True, device="cpu", **keywords)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_first_batches_are_kept_and_repeated(count):
    whole, cached = list(loader()), gr.Cached(loader(), batches=count)
    assert len(cached) == 7
    first, second = list(cached), list(cached)
    assert len(first) == len(second) == 7
    for number, (images, targets) in enumerate(first):
        assert torch.equal(images, whole[number % count][0])
        assert torch.equal(targets, whole[number % count][1])
        assert second[number][0] is images is first[number % count][0]


def test_the_rest_of_a_resumed_pass_is_kept_and_repeated():
    feed, whole = loader(), list(loader())
    feed.load_state_dict(feed.state_dict() | {"position": 25})
    found = list(gr.Cached(feed, batches=4))
    assert [torch.equal(found[n][0], whole[5 + n % 2][0]) for n in range(7)] == [True] * 7


def test_nothing_is_rendered_after_the_first_batches(monkeypatch):
    feed, taken = loader(), []
    plain = type(feed).__iter__
    monkeypatch.setattr(type(feed), "__iter__", lambda self: (taken.append(b) or b for b in plain(self)))
    cached = gr.Cached(feed, batches=2)
    assert taken == []
    for _ in range(3):
        list(cached)
    assert len(taken) == 2


def test_it_looks_like_its_loader():
    feed = loader()
    cached = gr.Cached(feed, batches=2)
    assert (cached.batch_size, cached.dataset) == (5, feed.dataset)
    cached.set_epoch(3)
    assert feed.epoch == 0
    assert repr(cached) == f"Cached({feed!r}, batches=2)"
    assert list(gr.Cached(["a", "b", "c"], batches=2)) == ["a", "b", "a"]
    assert gr.Cached([1]).dataset is gr.Cached([1]).batch_size is None
    assert list(gr.Cached([])) == []


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (8, ValueError), (1.0, TypeError)])
def test_what_cannot_be_kept_is_refused(count, error):
    with pytest.raises(error, match=rf"^batches must be an integer in \[1, 7\], got {count}$"):
        gr.Cached(loader(), batches=count)


def test_a_loader_without_a_length_is_refused():
    with pytest.raises(TypeError, match=r"^loader must be a gr.DataLoader with a length, got <generator"):
        gr.Cached(x for x in "abc")
