"""Memory of results is used again, and never while anybody holds the result or a view of it."""

import gc
import threading

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.runtime import host_memory

SHAPE = (3, 700, 700)  # 5.9 MB of float32


@pytest.fixture(autouse=True)
def nothing_free():
    gc.collect()
    host_memory._free.clear()
    yield
    host_memory._free.clear()


def address(array):
    return array.__array_interface__["data"][0]


def test_what_nobody_holds_is_used_again():
    first = host_memory.empty(SHAPE, np.float32)
    assert (first.shape, first.dtype, first.flags.writeable, first.flags.c_contiguous) == (
        SHAPE,
        np.float32,
        True,
        True,
    )
    where = address(first)
    del first
    assert len(host_memory._free) == 1
    other_type = host_memory.empty((3, 700, 1400), np.int16)  # as many bytes
    assert address(other_type) == where
    assert not host_memory._free


HOLDERS = {
    "array": lambda array: array,
    "slice": lambda array: array[1:],
    "transposed": lambda array: array.transpose(2, 0, 1),
    "view of a view": lambda array: array[1][::-1].T,
    "other dtype": lambda array: array.view(np.uint8),
    "tensor": torch.from_numpy,
    "tensor of a view": lambda array: torch.from_numpy(array.transpose(1, 2, 0)),
    "view of a tensor": lambda array: torch.from_numpy(array).view(torch.int32)[1, 3:5],
    "array of a tensor": lambda array: torch.from_numpy(array)[2].numpy(),
    "memory": lambda array: memoryview(array),
    "dlpack": lambda array: torch.from_dlpack(torch.from_numpy(array)),
    "storage": lambda array: torch.from_numpy(array).untyped_storage(),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_holds_is_not_used_again(name):
    array = host_memory.empty(SHAPE, np.float32)
    array[:] = 7
    holder, where = HOLDERS[name](array), address(array)
    del array
    gc.collect()
    assert not host_memory._free
    others = [host_memory.empty(SHAPE, np.float32) for _ in range(3)]
    assert all(address(other) != where for other in others)
    del others, holder
    gc.collect()
    assert len(host_memory._free) == host_memory.KEPT
    assert where in [address(block) for block in host_memory._free]


def test_only_the_latest_blocks_are_kept_and_those_of_another_size_are_let_go():
    arrays = [host_memory.empty(SHAPE, np.float32) for _ in range(5)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert [address(block) for block in host_memory._free] == places[-2:]
    larger = host_memory.empty((4, *SHAPE[1:]), np.float32)
    assert not host_memory._free
    assert larger.nbytes == 4 * 700 * 700 * 4


def test_small_arrays_are_ordinary():
    array = host_memory.empty((1023, 1024), np.uint8)
    assert array.base is None
    del array
    assert not host_memory._free
    assert host_memory.empty((0, 3, 5000, 5000), np.float32).shape == (0, 3, 5000, 5000)
    for shape, kept in (((2**20 - 1,), 0), ((1024, 1024), 1)):  # the least is a megabyte
        array = host_memory.empty(shape, np.uint8)
        del array
        assert len(host_memory._free) == kept


def test_very_large_arrays_are_given_back_to_the_system():
    for size, kept in ((host_memory.MOST + 1, 0), (host_memory.MOST, 1)):
        array = host_memory.empty((size,), np.uint8)
        del array
        assert len(host_memory._free) == kept
        host_memory._free.clear()


def test_threads_never_share_a_block():
    failures = []

    def work(value):
        for _ in range(300):
            array = host_memory.empty((1 << 20,), np.uint8)
            array[::4096] = value
            if not (array[::4096] == value).all():
                failures.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("augment", ["crop", "deit", None])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_batches_that_are_kept_do_not_change(augment, memory_format):
    recipe = gr.OnePFrac(
        classes=64, base=[[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0.5]], points=500, image_size=64, fill_rate=0.0
    )
    loader = gr.DataLoader(recipe, batch_size=16, image_size=96, augment=augment, memory_format=memory_format)
    kept = [images for images, _ in loader]
    copies = [images.clone() for images in kept]
    for images, _ in loader:
        images.zero_()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(kept, copies, strict=True))
