"""Visual atoms and RCDB's polygons: closed, one-pixel-wide, nested lines; parameters in, uint8 canvases out."""

import torch

from gpurender.kernels.device.boxes import checked_windows
from gpurender.kernels.visual_atom.params import MAX_COORDINATE, MAX_RINGS, MAX_VERTICES, Atoms, check_tensor, within
from gpurender.runtime import dispatch
from gpurender.util import checks

__all__ = [
    "MAX_COORDINATE",
    "MAX_GREY",
    "MAX_RINGS",
    "MAX_VERTICES",
    "RULES",
    "Atoms",
    "draw_centres",
    "render_atoms",
]

MAX_SIZE = 8192
MAX_GREY = 4096  # half of the largest canvas: RCDB's released program draws greys up to half of its canvas
RULES = ("walk", "orbits", "smooth orbits")


def draw_centres(draw_ids: torch.Tensor, *, seed: int, size: int, low: float, high: float, whole: bool) -> torch.Tensor:
    """Draw the centres of atoms.

    Args:
        draw_ids: int64 ``[N]`` (the bits of uint64).
        seed: unsigned 64-bit key.
        size: side of the canvas in pixels.
        low, high: range of a coordinate, where -1 and 1 are the edges of the canvas; if ``whole``, in pixels, integers.
        whole: whether twice a coordinate is a whole number of pixels.

    Returns:
        float32 ``[N, 2]``, x and y in pixels.
    """
    check_tensor("draw_ids", draw_ids, torch.int64, (len(draw_ids),), draw_ids.device)
    implementation = dispatch.implementation("visual_atom", draw_ids.device, "centres")
    return implementation.draw_centres(draw_ids.contiguous(), seed, size, low, high, whole)


def render_atoms(
    atoms: Atoms,
    which: torch.Tensor,
    *,
    centres: torch.Tensor,
    draw_ids: torch.Tensor,
    greys: tuple[int, int],
    seed: int,
    size: int,
    rule: str,
    windows: torch.Tensor | None = None,
    ground: int = 0,
    axes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Render images of atoms, on the atoms' device: grey rings over a ground, every ring over the earlier ones.

    Args:
        atoms: the table.
        which: int64 ``[N]``, the atom of each image (checked on a CPU only; a GPU clamps it to the valid range).
        centres: float32 ``[N, 2]``, x and y in pixels.
        draw_ids: int64 ``[N]`` (the bits of uint64), draw ids of each image's noise and greys.
        greys: darkest and lightest grey of a ring, 0 to ``MAX_GREY``, both included; above 255 a ring is white.
        seed: unsigned 64-bit key.
        size: side of the canvas in pixels, 1 to 8192.
        rule: ``"walk"``, the released generators' rule (radial random walks), ``"orbits"``, the rule of VisualAtom's
            paper (equations 3 to 7) with noise of its own for each vertex, or ``"smooth orbits"``, the same with noise
            that is a smooth function on the circle; the formulas are in ``cpu.py``.
        ground: grey of the canvas under the rings, 0 to 255.
        axes: float32 ``[N, 2]``, half axes of each image; ``None``: those of its atom.
        windows: int32 ``[N, 4]``, top, left, height, width: the part of each canvas that is wanted, inside the canvas
            (checked on a CPU only; a GPU moves it into the canvas). ``None``: the whole canvases.

    Returns:
        uint8 ``[N, size, size]`` on the device. Pixels outside the windows are undefined.

    Raises:
        ValueError: an argument has the wrong shape, dtype, device or range.

    Source: VisualAtom (Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves", CVPR
    2023) and the generator its authors released; RCDB (Kataoka et al., "Replacing Labeled Real-Image Datasets with
    Auto-Generated Contours", CVPR 2022) and the generator its authors released.
    """
    n = len(which)
    device = atoms.rings.device
    check_tensor("which", which, torch.int64, (n,), device)
    check_tensor("centres", centres, torch.float32, (n, 2), device)
    check_tensor("draw_ids", draw_ids, torch.int64, (n,), device)
    if which.device.type == "cpu" and not within(which, 0, len(atoms) - 1):
        raise ValueError(f"which must lie in [0, {len(atoms) - 1}]")
    if axes is not None:
        check_tensor("axes", axes, torch.float32, (n, 2), device)
    if not 0 <= greys[0] <= greys[1] <= MAX_GREY:
        raise ValueError(f"greys must be (darkest, lightest) within 0 to {MAX_GREY}, got {greys}")
    if not 0 <= ground <= 255:
        raise ValueError(f"ground must be 0 to 255, got {ground}")
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be 1 to {MAX_SIZE} pixels, got {size}")
    if windows is not None:
        windows = checked_windows(windows, n, size, device)
    checks.choice("rule", rule, RULES)
    walk, smooth = rule == "walk", rule == "smooth orbits"
    implementation = dispatch.implementation("visual_atom", device)
    return implementation.render_atoms(
        atoms, which, centres, draw_ids, greys, seed, size, walk, windows, smooth, ground, axes
    )
