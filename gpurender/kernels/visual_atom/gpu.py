"""Visual atoms on a GPU: grid, shared memory and arguments of the kernel in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.visual_atom import tables
from gpurender.kernels.visual_atom.params import Atoms
from gpurender.numerics.streams import halves
from gpurender.runtime import cuda

STATIC_SHARED = 2 << 10  # bytes: the table of the noise
BYTES_A_VERTEX = 44  # bytes per vertex, as in gpu.cu
MAX_THREADS = 1024
LEAST_ROWS = 32  # minimum rows of a band beside the vertices; if they do not fit, the vertices go to global memory
ROWS = 16  # a band's rows are a multiple of 16, so that it begins where sixteen bytes can be stored at once


def state_bytes(vertices: int) -> int:
    """Return the bytes that vertices take, as in gpu.cu: a multiple of sixteen, for loads of sixteen bytes."""
    return -(-vertices * BYTES_A_VERTEX // 16) * 16


def bands(size: int, vertices: int, limits: cuda.Limits) -> tuple[int, int, int, bool]:
    """Return a band's rows, the number of bands, the shared bytes per band, and whether these hold the vertices, too.

    The number of bands is the smallest that fits, as each band repeats the walk: at 512 pixels and up to 1,000 vertices
    two bands on Hopper, three on A100, six on Ada.
    """
    room = limits.shared_a_block - STATIC_SHARED
    state = state_bytes(vertices)
    inside = (room - state) // size >= min(size, LEAST_ROWS)
    most = (room - (state if inside else 0) - 16) // size  # 16: the band is rounded up to whole stores
    if most >= size:
        rows = size
    else:
        most = max(most // ROWS * ROWS, 1)
        count = -(-size // most)
        rows = min(-(-size // count // ROWS) * ROWS, most) if most >= ROWS else most
    return rows, -(-size // rows), -(-rows * size // 16) * 16 + (state if inside else 0), inside


def render_atoms(
    atoms: Atoms,
    which: torch.Tensor,
    centres: torch.Tensor,
    draw_ids: torch.Tensor,
    greys: tuple[int, int],
    seed: int,
    size: int,
    walk: bool,
    smooth: bool = False,
    ground: int = 0,
    axes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Render images; uint8 ``[N, size, size]``; arguments as in :func:`gpurender.kernels.visual_atom.render_atoms`."""
    device, n = atoms.rings.device, len(which)
    rows, parts, shared, inside = bands(size, atoms.most_vertices, cuda.limits(device))
    images = torch.empty((n, size, size), dtype=torch.uint8, device=device)
    scratch = None
    if not inside:
        scratch = torch.empty((n * parts, state_bytes(atoms.most_vertices)), dtype=torch.uint8, device=device)
    low, high = halves(seed)
    cuda.launch(
        "visual_atom", "visual_atom_render", device=device, blocks=n * parts, shared=shared,
        threads=min(-(-atoms.most_vertices // 32) * 32, MAX_THREADS),
        arguments=(
            *(tensor.contiguous() for tensor in atoms.tensors()), tables.gradients(device), np.int64(len(atoms)),
            which.contiguous(), None if axes is None else axes.contiguous(), centres.contiguous(),
            draw_ids.contiguous(), np.uint32(low), np.uint32(high), np.int32(walk), np.int32(smooth),
            np.int32(ground), np.int32(greys[0]), np.int32(greys[1] - greys[0] + 1),
            np.int32(size), np.int32(rows), np.int32(parts), np.int32(atoms.most_vertices), scratch, images,
        ),
    )  # fmt: skip
    return images
