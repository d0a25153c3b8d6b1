"""Where real images come from: image folders, IDX files, NPZ files, torchvision's datasets, all as one kind of set.

A :class:`Set` knows its labels at once and opens an image when it is asked for it, so that a folder of a million files
costs no memory.
"""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gpurender.util import checks

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
IDX_NAMES = {"train": "train", "test": "t10k"}  # LeCun's names of the files of MNIST, which Fashion-MNIST kept
IDX_TYPES: dict[int, Any] = {8: np.uint8, 9: np.int8, 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
DAMAGED = (  # what unpacking a file raises that is cut off, spoiled or of another kind
    OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
MAX_PIXELS = 100_000_000  # of one image: a file of a few bytes may unpack to gigabytes


@dataclass(frozen=True)
class Set:
    """Labelled images.

    Attributes:
        names: of the images, in a fixed order; they address the choice of few labels.
        labels: int64 ``[N]``.
        classes: the names of the classes, by label.
        image: returns image ``i`` as a PIL image in RGB.
    """

    names: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    image: Callable[[int], Image.Image]


def read(source: str, kind: str, part: str) -> Set:
    """Return the images of a part, ``"train"`` or ``"test"``, of a source.

    Args:
        source: path of the folder or the file; for ``kind="torchvision"``, ``NAME:ROOT``.
        kind: ``"folder"``, ``"idx"``, ``"npz"`` or ``"torchvision"``.

    Raises:
        ValueError: the source is missing, empty or malformed; the message names it.
    """
    return READERS[kind](source, part)


def kind_of(source: str) -> str:
    """Return the kind of a source by what it looks like: see :func:`read`."""
    path = Path(source)
    if path.suffix == ".npz":
        return "npz"
    if not path.exists() and ":" in source:
        return "torchvision"
    if path.is_dir() and _idx_file(path, "train", "images") is not None:
        return "idx"
    return "folder"


# ------------------------------------------------------------------------------------------------------------ folders


def _folder(source: str, part: str) -> Set:
    root = _part_of(Path(source), part)
    classes = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found:
            raise ValueError(f"data: {root / name} has no image ({', '.join(SUFFIXES)})")
        files += found
        labels += [label] * len(found)
    if len(classes) < 2:
        raise ValueError(f"data: {root} must have a folder for each of two or more classes, got {len(classes)}")
    names = [path.relative_to(root).as_posix() for path in files]
    return Set(names, np.array(labels, np.int64), classes, lambda i: open_image(files[i]))


def _part_of(folder: Path, part: str) -> Path:
    """Return the subfolder of a part: ``train``, or ``val``, ``test`` or ``validation`` for the test images."""
    if not folder.is_dir():
        raise ValueError(f"data must be a folder with train/ and val/, and there is no folder {str(folder)!r}")
    wanted = ("train",) if part == "train" else ("val", "test", "validation")
    for name in wanted:
        if (folder / name).is_dir():
            return folder / name
    raise ValueError(f"data: {str(folder)!r} has no folder {' or '.join(repr(name) for name in wanted)}")


def open_image(path: Path) -> Image.Image:
    """Return the image of a file in RGB.

    Raises:
        ValueError: the file is no image, is cut off or holds more than 100 million pixels; the message names it.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise ValueError(f"{path} has {size} pixels; an image must have at most {MAX_PIXELS:,}")
            return _in_bytes(image).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: Pillow's for a broken PNG
        raise ValueError(f"{path} cannot be read as an image: {error}") from None


def _in_bytes(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits per pixel in the upper 8: Pillow's conversion to RGB cuts levels above 255 off."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


# ----------------------------------------------------------------------------------------------------- IDX, NPZ, others


def _idx(source: str, part: str) -> Set:
    folder = Path(source)
    paths = [_idx_file(folder, IDX_NAMES[part], what) for what in ("images", "labels")]
    if None in paths:
        raise ValueError(f"data: {folder} has no {IDX_NAMES[part]}-images-idx3-ubyte and -labels-idx1-ubyte (or .gz)")
    return _arrays(source, *(read_idx(path) for path in paths if path is not None))


def _idx_file(folder: Path, part: str, what: str) -> Path | None:
    rank = 3 if what == "images" else 1
    for name in (f"{part}-{what}-idx{rank}-ubyte", f"{part}-{what}.idx{rank}-ubyte"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def read_idx(path: Path) -> np.ndarray:
    """Return the array of an IDX file (two zero bytes, type, rank, sizes in big endian, values), also if compressed.

    Raises:
        ValueError: the file is malformed or cut off.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise ValueError(f"{path} is no IDX file")
    rank = data[3]
    shape = struct.unpack_from(f">{rank}I", data, 4) if len(data) >= 4 + 4 * rank else ()
    dtype = np.dtype(IDX_TYPES[data[2]])
    count = int(np.prod(shape, dtype=np.int64)) if shape else 0
    if not shape or len(data) != 4 + 4 * rank + count * dtype.itemsize:
        raise ValueError(f"{path} is cut off or too long for its header")
    return np.frombuffer(data, dtype, offset=4 + 4 * rank).reshape(shape)


def _npz(source: str, part: str) -> Set:
    names = (f"x_{part}", f"y_{part}")
    try:
        with np.load(source, allow_pickle=False) as file:
            found = {name: file[name] for name in names if name in file}
    except DAMAGED as error:
        raise ValueError(f"data: {source} cannot be read: {error}") from None
    for name in names:
        if name not in found:
            raise ValueError(f"data: {source} must hold x_train, y_train, x_test and y_test; no {name}")
    return _arrays(source, *(found[name] for name in names))


def _torchvision(source: str, part: str) -> Set:
    name, _, root = source.partition(":")
    try:
        import torchvision.datasets as datasets
    except ImportError as error:
        raise RuntimeError(f"data={source!r} needs torchvision: pip install 'gpurender[train]' ({error})") from None
    known = [word for word in datasets.__all__ if word[0].isupper()]
    if name not in known:
        raise ValueError(f"data must name a dataset of torchvision, got {name!r}{checks.did_you_mean(name, known)}")
    make: Any = getattr(datasets, name)
    try:
        found = make(root, train=part == "train")
    except TypeError:
        found = make(root, split=part)
    except RuntimeError as error:
        raise ValueError(f"data: {name} in {root!r}: {' '.join(str(error).split())}") from None
    labels = np.asarray(getattr(found, "targets", getattr(found, "labels", None)), np.int64)
    classes = tuple(getattr(found, "classes", None) or map(str, range(int(labels.max()) + 1)))
    return Set([str(i) for i in range(len(labels))], labels, classes, lambda i: found[i][0].convert("RGB"))


def _arrays(source: str, images: np.ndarray, labels: np.ndarray) -> Set:
    """Return the set of images, uint8 ``[N, H, W]`` or ``[N, H, W, 3]``, and labels, integers ``[N]``."""
    labels = labels.reshape(len(labels)) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        shape = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"data: images of {source} must be uint8 [N, H, W] or [N, H, W, 3], got {shape}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or not len(labels) or labels.min() < 0:
        shape = f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"data: labels of {source} must be integers of 0 or more, one per image, got {shape}")
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    if len(classes) < 2:
        raise ValueError(f"data: {source} must have two or more classes, got {len(classes)}")
    names = [str(i) for i in range(len(labels))]
    return Set(names, labels.astype(np.int64), classes, lambda i: Image.fromarray(images[i]).convert("RGB"))


READERS: dict[str, Callable[[str, str], Set]] = {
    "folder": _folder,
    "idx": _idx,
    "npz": _npz,
    "torchvision": _torchvision,
}
