"""Visual atoms on a GPU: grid, shared memory and arguments of the kernel in ``gpu.cu``."""

from typing import NamedTuple

import numpy as np
import torch

from gpurender.kernels.visual_atom import tables
from gpurender.kernels.visual_atom.params import Atoms
from gpurender.numerics.streams import halves
from gpurender.runtime import cuda

STATIC_SHARED = 4 << 10  # bytes: the table of the noise, the greys of 2,048 rings
PIXELS_A_VERTEX = 8  # bytes of shared memory per vertex, as in gpu.cu
STATE_A_VERTEX = 64  # bytes of global memory per vertex, as in gpu.cu
MAX_THREADS = 1024
NEAR = float(1 << 13)  # pixels; below it coordinates fit 16 bits, and lines clip in 32
LEAST_ROWS = 32  # minimum rows of a band beside the vertices; if they do not fit, the vertices go to global memory


class Layout(NamedTuple):
    """How a canvas is divided among blocks.

    Attributes:
        bands: number of blocks per image, the smallest that fits, as each block repeats the walk: of 512 x 512 pixels
            and up to 1,000 vertices two on Hopper and A100, three on Ada. A smaller window may need fewer, which the
            kernel finds out.
        room: bytes of shared memory for a band's pixels, a multiple of sixteen.
        shared: bytes of dynamic shared memory per block.
        inside: whether the vertices are in registers and shared memory.
    """

    bands: int
    room: int
    shared: int
    inside: bool


def layout(size: int, vertices: int, reach: float, limits: cuda.Limits) -> Layout:
    """Return the layout for canvases of size x size pixels and atoms of so many vertices and such a reach."""
    free = limits.shared_a_block - STATIC_SHARED
    pixels = vertices * PIXELS_A_VERTEX
    fits = (free - pixels) // size >= min(size, LEAST_ROWS)
    inside = fits and vertices <= MAX_THREADS and reach < NEAR
    room = min((free - (pixels if inside else 0)) // 16, -(-size * size // 16)) * 16
    return Layout(-(-size // (room // size)), room, room + (pixels if inside else 0), inside)


def render_atoms(
    atoms: Atoms,
    which: torch.Tensor,
    centres: torch.Tensor,
    draw_ids: torch.Tensor,
    greys: tuple[int, int],
    seed: int,
    size: int,
    walk: bool,
    windows: torch.Tensor | None = None,
    smooth: bool = False,
    ground: int = 0,
    axes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Render images; uint8 ``[N, size, size]``; arguments as in :func:`gpurender.kernels.visual_atom.render_atoms`."""
    device, n, most = atoms.rings.device, len(which), atoms.most_vertices
    bands, room, shared, inside = layout(size, most, atoms.reach, cuda.limits(device))
    images = torch.empty((n, size, size), dtype=torch.uint8, device=device)
    scratch = None
    if not inside:
        scratch = torch.empty((n * bands, most * STATE_A_VERTEX), dtype=torch.uint8, device=device)
    low, high = halves(seed)
    cuda.launch(
        "visual_atom", "visual_atom_render", device=device, blocks=n * bands, shared=shared,
        threads=min(-(-most // 32) * 32, MAX_THREADS),
        arguments=(
            *(tensor.contiguous() for tensor in atoms.tensors()), tables.gradients(device), np.int64(len(atoms)),
            which.contiguous(), None if axes is None else axes.contiguous(), centres.contiguous(),
            draw_ids.contiguous(), windows, np.uint32(low), np.uint32(high), np.int32(walk), np.int32(smooth),
            np.int32(ground), np.int32(greys[0]), np.int32(greys[1] - greys[0] + 1), np.int32(size), np.int32(bands),
            np.int32(room), np.int32(most), scratch, images,
        ),
    )  # fmt: skip
    return images
