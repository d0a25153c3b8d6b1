"""gpurender.interop.dali.Iterator: the same assertions over DALI's own iterator, where DALI is, and over ours."""

import json
import logging

import pytest
import torch

import gpurender as gr
from gpurender.interop import dali as interop

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]


def tiny(classes=2, instances=5, **parameters):
    return gr.OnePFrac(
        classes=classes, instances=instances, image_size=32, points=300, fill_rate=0.0, base=TRIANGLE, **parameters
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The images of the recipe as files, one folder a class."""
    path = tmp_path_factory.mktemp("images")
    dataset = gr.Dataset(tiny())
    for number in range(len(dataset)):
        image, label = dataset[number]
        (path / dataset.classes[label]).mkdir(exist_ok=True)
        image.save(path / dataset.classes[label] / f"{number:05}.png")
    return path


class Real:
    """DALI's iterator over a reader, a decoder and a normalisation."""

    def __init__(self, folder):
        pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI, of the extra 'dali-cuda12' or 'dali-cuda13'")
        from nvidia.dali import fn, pipeline_def

        @pipeline_def(num_threads=1, device_id=None, batch_size=4, enable_checkpointing=True)
        def read():
            files, labels = fn.readers.file(file_root=str(folder), name="Reader", pad_last_batch=True)
            return fn.crop_mirror_normalize(fn.decoders.image(files), mean=[127.5] * 3, std=[127.5] * 3), labels

        self.pipeline = read

    def make(self, drop_last=False, checkpoint=None, **keywords):
        from nvidia.dali.plugin.pytorch import DALIClassificationIterator, LastBatchPolicy

        policy = LastBatchPolicy.DROP if drop_last else LastBatchPolicy.PARTIAL
        pipeline = self.pipeline(checkpoint=checkpoint)
        return DALIClassificationIterator(pipeline, reader_name="Reader", last_batch_policy=policy, **keywords)


class Ours:
    def __init__(self, folder):
        pass

    def make(self, drop_last=False, checkpoint=None, **keywords):
        loader = gr.DataLoader(tiny(), 4, image_size=32, drop_last=drop_last, device="cpu")
        iterator = interop.Iterator(loader, **keywords)
        if checkpoint is not None:
            loader.load_state_dict(json.loads(checkpoint))
        return iterator


@pytest.fixture(params=[Real, Ours], ids=["DALI", "gpurender"], scope="module")
def stack(request, folder):
    return request.param(folder)


def labels(batch):
    return batch[0]["label"].squeeze(-1).long().tolist()


EPOCH = [[0, 0, 0, 0], [0, 1, 1, 1], [1, 1]]


def test_a_batch_is_a_list_of_one_dictionary(stack):
    batch = next(stack.make())
    assert isinstance(batch, list)
    assert [set(part) for part in batch] == [{"data", "label"}]
    images, targets = batch[0]["data"], batch[0]["label"]
    assert (images.shape, images.dtype) == ((4, 3, 32, 32), torch.float32)
    assert targets.shape == (4, 1)
    assert not targets.is_floating_point()
    reference, _ = next(iter(gr.DataLoader(tiny(), 4, image_size=32, device="cpu")))
    assert torch.allclose(images, reference, atol=1e-6)
    assert images.std() > 0.1


@pytest.mark.parametrize("drop_last", [False, True])
def test_lengths(stack, drop_last):
    iterator = stack.make(drop_last)
    assert len(iterator) == (2 if drop_last else 3)
    assert iterator.batch_size == 4
    assert iterator.size // 4 == iterator._size // 4 == 2  # DALI counts the dropped samples, too
    assert [labels(batch) for batch in iterator] == EPOCH[: len(iterator)]
    assert len(iterator) == (2 if drop_last else 3)


@pytest.mark.parametrize("auto_reset", [False, None, "no"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_is_over_until_reset(stack, auto_reset, drop_last):
    iterator = stack.make(drop_last, auto_reset=auto_reset)
    for _ in range(3):
        assert [labels(batch) for batch in iterator] == EPOCH[: len(iterator)]
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(iterator)
        iterator.reset()


@pytest.mark.parametrize("auto_reset", [True, "yes"])
def test_an_epoch_that_resets_itself(stack, auto_reset, caplog):
    iterator = stack.make(auto_reset=auto_reset)
    for _ in range(2):
        for expected_labels in EPOCH:
            assert labels(iterator.next()) == expected_labels
        with pytest.raises(StopIteration):
            iterator.next()
    assert [labels(batch) for batch in iterator] == EPOCH
    assert not caplog.records


def test_iter_is_the_iterator_and_begins_the_next_epoch(stack):
    iterator = stack.make()
    assert iter(iterator) is iter(iterator) is iterator
    for _ in range(3):
        assert [labels(batch) for batch in iterator] == EPOCH


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_loop_of_len_batches_may_reset_without_asking_for_one_more(stack, drop_last, caplog):
    iterator = stack.make(drop_last)
    for _ in range(3):
        assert [labels(next(iterator)) for _ in range(len(iterator))] == EPOCH[: len(iterator)]
        iterator.reset()
    assert not caplog.records


def test_a_pass_of_steps_ends_anywhere_in_an_epoch(caplog):
    """Ten samples in batches of four: passes of four batches end in the first, the second and the last batch."""
    loader = gr.DataLoader(tiny(), 4, image_size=32, device="cpu", steps_per_epoch=4)
    iterator = interop.Iterator(loader)
    expected = [batch for _ in range(4) for batch in EPOCH]
    for number in range(3):
        found = [labels(next(iterator)) for _ in range(len(iterator))]
        assert found == expected[4 * number : 4 * number + 4]
        iterator.reset()
    assert not caplog.records
    for _ in range(3):  # 12 + 3 batches: the end of an epoch, not of the pass
        next(iterator)
    with caplog.at_level(logging.WARNING):
        iterator.reset()
    assert len(caplog.records) == 1
    assert [len(labels(batch)) for batch in [next(iterator)]] == [4]
    with pytest.raises(StopIteration):
        next(iterator)


@pytest.mark.parametrize("again", [lambda iterator: iterator.reset(), iter], ids=["reset", "iter"])
def test_midway_a_reset_is_ignored_with_a_warning(stack, again, caplog):
    iterator = stack.make()
    assert labels(next(iterator)) == EPOCH[0]
    with caplog.at_level(logging.WARNING):
        again(iterator)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert [labels(batch) for batch in [next(iterator), next(iterator)]] == EPOCH[1:]


def test_before_the_first_batch_iter_is_silent_and_reset_is_not(stack, caplog):
    iterator = stack.make()
    iter(iterator)
    assert not caplog.records
    iterator.reset()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert [labels(batch) for batch in iterator] == EPOCH


@pytest.mark.parametrize("done", [0, 1, 2, 4])
def test_a_checkpoint_is_the_place_after_the_last_batch_taken(stack, done):
    iterator = stack.make(auto_reset=True)
    whole = [batch for _ in range(2) for batch in stack.make(auto_reset=True)]
    for _ in range(done + (done > 3)):  # one is the end of the first epoch
        next(iterator, None)
    checkpoints = iterator.checkpoints()
    assert [type(checkpoint) for checkpoint in checkpoints] == [bytes]
    resumed = stack.make(checkpoint=checkpoints[0], auto_reset=True)
    left = [*resumed, *resumed][: 6 - done]
    assert [labels(batch) for batch in left] == [labels(batch) for batch in whole[done:][: len(left)]]
    assert len(left) >= 2
    assert all(torch.equal(a[0]["data"], b[0]["data"]) for a, b in zip(left, whole[done:], strict=False))


@pytest.mark.parametrize("auto_reset", ["maybe", 2, []])
def test_another_auto_reset_is_refused(stack, auto_reset):
    with pytest.raises(ValueError, match="auto_reset"):
        stack.make(auto_reset=auto_reset)


# ------------------------------------------------------------------------------------------------- ours alone


class Smoothed(gr.augment.Resize):
    """A policy with soft targets."""

    def targets(self, labels, parameters, classes):
        return torch.nn.functional.one_hot(labels, classes) * 0.9 + 0.1 / classes


def test_soft_targets_keep_their_shape_and_reach_the_loss():
    loader = gr.DataLoader(tiny(), 4, image_size=32, augment=Smoothed(), device="cpu")
    data = next(interop.Iterator(loader))
    targets = data[0]["label"].squeeze(-1)
    assert (targets.shape, targets.dtype) == ((4, 2), torch.float32)
    assert torch.nn.functional.cross_entropy(torch.zeros(4, 2), targets) > 0
    with pytest.raises(RuntimeError, match="floating"):  # what a script with .long() would see
        torch.nn.functional.cross_entropy(torch.zeros(4, 2), targets.long())


def test_the_output_map_names_the_two_parts():
    loader = gr.DataLoader(tiny(), 4, image_size=32, device="cpu")
    assert list(next(interop.Iterator(loader, ["images", "classes"]))[0]) == ["images", "classes"]
    for wrong in (["data"], ["data", "data"], "data", ["data", 3], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="output_map"):
            interop.Iterator(loader, wrong)
    with pytest.raises(TypeError, match=r"loader must be a gpurender.DataLoader, got list"):
        interop.Iterator([])


def test_epochs_of_an_iterator_are_the_loaders():
    def loader():
        return gr.DataLoader(tiny(), 4, image_size=32, augment=gr.augment.Crop(), shuffle=True, device="cpu")

    plain, iterator = loader(), interop.Iterator(loader(), auto_reset=True)
    for _ in range(3):
        got = [(part["data"], part["label"].squeeze(-1)) for (part,) in iterator]
        want = list(plain)
        assert len(got) == len(want)
        assert all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(got, want, strict=True))


@pytest.mark.parametrize("keywords", [{"batch_sampler": [[1, 2], [3]]}, {"batch_size": 2, "collate_fn": list}])
def test_loaders_whose_batches_dali_does_not_know_are_refused(keywords):
    recipe = gr.OnePFrac(classes=4, instances=6, image_size=32, points=300, fill_rate=0.0)
    with pytest.raises(ValueError, match=[*keywords][-1]):
        interop.Iterator(gr.DataLoader(recipe, image_size=16, **keywords))
