"""Batches for other frameworks, read by one that is not torch: NumPy's own import of DLPack."""

import numpy as np
import pytest
import torch

import gpurender as gr

RECIPE = gr.Noise(classes=4, instances=3, image_size=16)


def loader(**keywords):
    return gr.DataLoader(RECIPE, 5, image_size=16, augment=keywords.pop("augment", "crop"), device="cpu", **keywords)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_numpy_reads_the_batches(memory_format):
    given = loader(memory_format=memory_format).as_dlpack()
    assert len(given) == 3
    count = 0
    for (images, targets), (ours, labels) in zip(given, loader(), strict=True):
        arrays = np.from_dlpack(images), np.from_dlpack(targets)
        assert arrays[0].flags.c_contiguous
        assert np.array_equal(arrays[0], ours.numpy())
        assert np.array_equal(arrays[1], labels.numpy())
        assert (arrays[0].dtype, arrays[1].dtype) == (np.float32, np.int64)
        assert arrays[0].ctypes.data == images.data_ptr()
        count += 1
    assert count == 3


def test_the_memory_outlives_the_batch():
    images, expected = [], [x.clone() for x, _ in loader(prefetch_factor=2)]
    for batch, _ in loader(prefetch_factor=2).as_dlpack():
        images.append(np.from_dlpack(batch))
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(images, expected, strict=True))


def test_views_are_a_tuple():
    views, _ = next(iter(loader(augment=gr.augment.TwoViews("crop")).as_dlpack()))
    ours, _ = next(iter(loader(augment=gr.augment.TwoViews("crop"))))
    assert isinstance(views, tuple)
    assert all(np.array_equal(np.from_dlpack(a), b.numpy()) for a, b in zip(views, ours, strict=True))


def test_what_a_collate_fn_returns_is_refused():
    with pytest.raises(
        ValueError, match=r"^collate_fn must be left out with as_dlpack\(\), got <built-in function len>$"
    ):
        loader(collate_fn=len).as_dlpack()
