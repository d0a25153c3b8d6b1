"""What PixMix draws of an image: its picture, the number of rounds, and what each round mixes and how.

Law (Hendrycks et al., "PixMix", CVPR 2022, and the authors' released program). An image is augmented with probability
1/2. Then follow n rounds, n uniform in 0 .. k: each mixes in, with probability 1/2 each, an augmented copy of the
original image or the picture, by addition or by multiplication, with the weights ::

    a ~ Beta(beta, 1),      b ~ Beta(1, beta)         with probability 1/2
    a ~ 1 + Beta(1, beta),  b ~ -Beta(1, beta)        otherwise

An augmentation is one operation, uniform among nine (or thirteen), of a level l ~ U(0.1, severity).

Both Beta laws have inverses in closed form: with u uniform in (0, 1), u^(1/beta) has the law Beta(beta, 1), and 1 minus
that has the law Beta(1, beta).

Addresses: in ``(seed, Stream.PIXMIX, number)``, block 0 has the picture, its draw id and n, block 1 the place of its
window and whether the image is augmented. Slot s has the blocks 2 + 2 s and 3 + 2 s; slot 0 is the image's own
augmentation, slot r that of round r.
"""

from dataclasses import dataclass

import numpy as np

from gpurender.augment.rand_augment import LEVELS
from gpurender.kernels.augment_params import Level
from gpurender.kernels.image_ops import Operation
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.portable_math import exp, log
from gpurender.numerics.streams import Stream

OPERATIONS = (
    Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.POSTERIZE, Operation.ROTATE, Operation.SOLARIZE,
    Operation.SHEAR_X, Operation.SHEAR_Y, Operation.TRANSLATE_X, Operation.TRANSLATE_Y,
)  # fmt: skip
# These are among the corruptions of ImageNet-C, by which the paper measures robustness
ALL_OPERATIONS = (
    *OPERATIONS, Operation.COLOR, Operation.CONTRAST, Operation.BRIGHTNESS, Operation.SHARPNESS,
)  # fmt: skip
LEAST_LEVEL = 0.1
PICTURE_BITS = 62  # of a picture's draw id: two images share one with probability 2^-62


@dataclass(frozen=True)
class Law:
    """Parameters of the draws.

    Attributes:
        seed: unsigned 64-bit key.
        pictures: number of pictures to choose from.
        k: largest number of rounds.
        beta: of the weights.
        severity: upper end of the levels.
        operations: those that may be drawn.
        size: height and width of the images in pixels.
    """

    seed: int
    pictures: int
    k: int
    beta: float
    severity: float
    operations: tuple[Operation, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Draws:
    """What is drawn of N images, on the host; slot 0 is the image's own augmentation, slot r that of round r.

    Attributes:
        pictures, picture_ids: int64 ``[N]``, index and draw id of the picture.
        places: int64 ``[N, 2]``, words that place the window of the picture: down, right.
        rounds: int64 ``[N]``, number of rounds, 0 to k.
        operations: int32 ``[N, k + 1]``; 0: the image is not augmented, or the round mixes in the picture.
        arguments: float64 ``[N, k + 1]``.
        multiplies: bool ``[N, k + 1]``, whether the round multiplies; slot 0 has no meaning.
        weights: float32 ``[N, k + 1, 2]``, a and b of the round; slot 0 has no meaning.
    """

    pictures: np.ndarray
    picture_ids: np.ndarray
    places: np.ndarray
    rounds: np.ndarray
    operations: np.ndarray
    arguments: np.ndarray
    multiplies: np.ndarray
    weights: np.ndarray


def draw(numbers: np.ndarray, law: Law) -> Draws:
    """Draw for numbers, uint64 ``[N]``."""
    slots = law.k + 1
    u = words(law.seed, Stream.PIXMIX, numbers, 2 + 2 * slots)
    wide = u[:, 1:3].astype(np.int64)
    of_slot = u[:, 8:].reshape(-1, slots, 8)
    operations, arguments = augmentations(of_slot[..., :3], law)
    augmented = of_slot[..., 3] >> np.uint32(31) == 0
    return Draws(
        bounded(u[:, 0], law.pictures),
        (wide[:, 0] << PICTURE_BITS - 32) | (wide[:, 1] >> 64 - PICTURE_BITS),
        u[:, 4:6].astype(np.int64),
        bounded(u[:, 3], slots),
        np.where(augmented, operations, 0).astype(np.int32),
        arguments,
        of_slot[..., 4] >> np.uint32(31) == 1,
        mixing_weights(of_slot[..., 5:], law.beta),
    )


def augmentations(u: np.ndarray, law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and arguments of operations, int64 and float64 of one shape, from words, uint32 ``[..., 3]``."""
    which = bounded(u[..., 0], len(law.operations))
    rules = [rule_of(operation, law.size) for operation in law.operations]
    gain, offset = (np.array([getattr(rule, name) for rule in rules])[which] for name in ("gain", "offset"))
    whole, signed, falling = (
        np.array([getattr(rule, name) for rule in rules])[which] for name in ("whole", "signed", "falling")
    )
    level = LEAST_LEVEL + (law.severity - LEAST_LEVEL) * uniform(u[..., 1])
    strength = level * gain / 10.0
    strength = np.where(whole, np.trunc(strength), strength)
    negative = falling | (signed & (u[..., 2] >> np.uint32(31) == 1))
    return np.array(law.operations)[which], offset + np.where(negative, -strength, strength)


def rule_of(operation: Operation, size: tuple[int, int]) -> Level:
    """Return the rule that converts a level to an operation's argument; ``size``: height and width of the images."""
    if operation in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y):
        side = size[operation == Operation.TRANSLATE_X]
        return Level(gain=side / 3.0, whole=True, signed=True)
    if operation == Operation.ROTATE:
        return LEVELS["Rotate"]._replace(whole=True)
    falling = operation in (Operation.POSTERIZE, Operation.SOLARIZE)
    return LEVELS[operation.spec.names[falling]]  # timm's second name of these two is that of the rule used here


def mixing_weights(u: np.ndarray, beta: float) -> np.ndarray:
    """Return weights, float32 ``[..., 2]``, from words, uint32 ``[..., 3]``."""
    root = exp(log((u[..., 1:].astype(np.float64) + 0.5) * 2.0**-32) / beta)  # Beta(beta, 1)
    rest = 1.0 - root  # Beta(1, beta)
    inside = np.stack([root[..., 0], rest[..., 1]], -1)
    beyond = np.stack([1.0 + rest[..., 0], -rest[..., 1]], -1)
    return np.where((u[..., :1] >> np.uint32(31)) == 0, inside, beyond).astype(np.float32)
