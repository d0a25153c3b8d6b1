"""The addresses of all randomness.

There is one generator, Philox4x32-10, and every number drawn has one address::

    key     = (seed low, seed high)                        the recipe's or the loader's 64-bit seed
    counter = (block, stream, draw id low, draw id high)   four uint32

*stream* is the purpose (:class:`Stream`), *draw id* identifies the owner of the number (for a sample: epoch x len +
index) and *block* counts within one purpose, four words per block. So any number can be computed again anywhere, by
anyone, in any order; and no address is a sum of two things (seed 0, epoch 1 is not seed 1, epoch 0).

``LAYOUT`` is the version of these addresses and of everything drawn from them. It is part of every fingerprint, and it
changes, with a line in the CHANGELOG, whenever a pixel, a label or a parameter would change.
"""

from enum import IntEnum

from gpurender.util import kernel_sources

kernel_sources.fingerprint()  # taken now, at import: kernels inline Stream, and are imported when first used

LAYOUT = 2


class Stream(IntEnum):
    """The purposes of randomness. Append only: a value that changes its meaning changes every dataset."""

    POINTS = 1  # chaos game: the next map
    MASK = 2  # patch masks: one fair bit per pixel
    MASK_EXCESS = 3  # patch masks: the gaps between the pixels lit in addition, for 256/511 instead of 1/2
    NOISE = 4  # visual atoms, RCDB: abscissae of the Perlin noise
    LINE_COLOR = 5  # visual atoms, RCDB: one grey per line
    NUCLEUS = 6  # visual atoms, RCDB: the position; RCDB: also radius and resizing factors
    CLASS = 7  # visual atoms, RCDB: the parameters of a class
    SEARCH = 8  # FractalDB: candidate systems
    SYSTEM = 9  # 1p-frac, colour fractals: candidate base systems of a given sigma-factor
    PERTURBATION = 10  # recipes of perturbations: that of a class, or of an image of the class
    ORDER = 11  # the loader's permutation
    CROP = 12  # RandomResizedCrop: area, aspect ratio, position, interpolation
    FLIP = 13  # horizontal and vertical flip
    LAYER = 14  # RandAugment and AutoAugment: which image operations, whether to apply them, magnitudes
    JITTER = 15  # colour jitter, grayscale, blur: order, factors
    MIX = 16  # mixup and CutMix: which of them, weight, patch
    ERASING = 17  # random erasing: whether to erase, how many boxes, the boxes, the key of the noise
    ERASED = 18  # random erasing: the noise itself, keyed by image
    VIEW = 19  # the keys of several views of one sample
    LABEL = 20  # label noise: whether to change the label, and to which other class
    SPACE_SEARCH = 21  # ExFractalDB: candidate systems
    VIEWPOINT = 22  # ExFractalDB: the camera of an image
    OBJECT = 23  # colour fractals: patch, orientation, colours, view, size and place of an object, blur of its image
    SYSTEM_JITTER = 24  # colour fractals: the variation of an object's system
    BACKGROUND = 25  # diamond-square textures: corners and noise
    TEXTURE = 26  # diamond-square textures: decay and colours
    COMPOSITION = 27  # colour fractals of several objects: how many, of which classes
    TASK = 28  # downstream tasks: which images are labelled, which held out
    STEP = 29  # training: the randomness of the model at a step
    EXAMPLE = 30  # fine-tuning: order and augmentation of real images
    PIXEL_NOISE = 31  # noise images: the variates of pixels
    CONFIG = 32  # searches: the parameters of random configs
    SELECTION = 33  # data servers: which files of a folder are recommended


def halves(value: int) -> tuple[int, int]:
    """Return the low and high 32 bits of an unsigned 64-bit integer."""
    return value & 0xFFFFFFFF, value >> 32
