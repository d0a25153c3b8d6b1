"""RandAugment, AutoAugment and 3-Augment: the laws of timm, by two-sample tests of what is applied and how strongly."""

import itertools
import math
import random

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment.rand_augment import LEVELS, POLICIES, alternatives, parsed
from gpurender.kernels.augment_params import LayerParams, draw_layers
from gpurender.kernels.image_ops import BY_NAME, Operation
from gpurender.kernels.resized_crop import BICUBIC, BILINEAR
from tests.support.optional import optional
from tests.support.two_sample import same_counts, same_law

timm = optional("timm.data.auto_augment")

COUNT = 20_000
NONE = {Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.INVERT}

RAND = [
    "rand-m9-mstd0.5-inc1", "rand-m9-mstd0.5", "rand-m15-n4-mmax20-mstd3-inc1-p0.8", "rand-n1-mstd101-inc1", "rand",
    "rand-m7-n3-tweights-mstd1", "rand-m6-t3a", "rand-m8-n2-t3aw-mstd2", "rand-m9-n1-p1.0-inc0", "rand-p0-m3",
]  # fmt: skip
AUTO = [*POLICIES, "original-mstd0.5", "v0-mstd200", "v0-mstd2", "3a-mstd1"]


class Recorded:
    """Stands for the image: remembers what is done to it."""

    def __init__(self):
        self.steps = []

    def filter(self, kind):
        self.steps.append(("GaussianBlurRand", kind.radius))
        return self


def as_ours(name, argument):
    """timm's argument as ours: colour that is left, not lost; bits that there are; to a dozen digits."""
    if name == "Desaturate":
        argument = 1.0 - argument
    return round(max(argument, 0.0) if "Posterize" in name else argument, 12)


def recording(operation):
    """timm's operation, which writes its name and argument down instead of changing pixels."""
    if operation.name == "GaussianBlurRand":  # draws its radius itself
        return operation

    def record(image, *arguments, **_):
        argument = arguments[0] if arguments else math.nan
        image.steps.append((operation.name, as_ours(operation.name, argument)))
        return image

    operation.aug_fn = record
    return operation


def theirs(config):
    """Per draw: the operations that timm applies, (name, argument) each."""
    random.seed(1)
    np.random.seed(1)
    if config.startswith("rand"):
        transform = timm.rand_augment_transform(config, {"translate_const": 100})
        transform.ops = [recording(op) for op in transform.ops]
    else:
        transform = timm.auto_augment_transform(config, {"translate_const": 100})
        transform.policy = [[recording(op) for op in choice] for choice in transform.policy]
    found = []
    for _ in range(COUNT):
        image = Recorded()
        transform(image)
        found.append([(BY_NAME[name], argument) for name, argument in image.steps])
    return found


def ours(config, interpolation="bicubic", seed=5):
    """Per draw: the operations that we apply, (code, argument) each."""
    policy = gr.augment.DeiT(auto_augment=config, color_jitter=None, interpolation=interpolation)
    drawn = policy.draw(np.arange(COUNT), seed=seed)
    codes, arguments = drawn["operations"].tolist(), drawn["arguments"].tolist()
    return [
        [(Operation(code), round(argument, 12)) for code, argument in zip(*row, strict=True) if code]
        for row in zip(codes, arguments, strict=True)
    ]


def names(draws):
    return [tuple(code.name for code, _ in draw) for draw in draws]


@pytest.mark.parametrize("config", RAND + AUTO)
def test_the_law_is_timms(config):
    mine, reference = ours(config), theirs(config)
    same_counts(names(mine), names(reference), config)
    for code in {code for draw in reference for code, _ in draw} - NONE:
        samples = [[x for draw in draws for c, x in draw if c == code] for draws in (mine, reference)]
        same_law(*samples, name=f"{config} {code.name}")


@pytest.mark.parametrize("level", [0.0, 0.3, 2.0, 5.0, 9.0, 9.99, 10.0, 14.0])
@pytest.mark.parametrize("name", [n for n, rule in LEVELS.items() if rule.gain])
def test_arguments_of_a_level_are_timms(name, level):
    """Without randomness but for the sign: the very numbers."""
    config = {"translate_const": 100, "magnitude_max": 20}
    params = LayerParams(alternatives([[(name, 1.0, level)]]), highest=20.0, interpolation=2)
    numbers = torch.arange(64)
    codes, arguments, _ = draw_layers(numbers, 3, params)
    assert (codes == BY_NAME[name]).all()
    values = set()
    for seed in range(64):
        random.seed(seed)
        (value,) = timm.LEVEL_TO_ARG[name](level, config)
        values.add(as_ours(name, min(value, 8) if "Posterize" in name else value))
    if name == "GaussianBlurRand":
        (factor,) = values
        assert (arguments >= min(0.1, 2 * factor)).all()
        assert (arguments <= max(0.1, 2 * factor)).all()
    else:
        assert {round(value, 12) for value in arguments.flatten().tolist()} == values


def test_old_weights_without_replacement():
    """w0, which timm has dropped: shares of the first operation as in its table, and never the same twice."""
    params = parsed("rand-m9-w0-p1")
    drawn = draw_layers(torch.arange(COUNT), 0, params)[0]
    assert (drawn[:, 0] != drawn[:, 1]).all()
    found = torch.bincount(drawn[:, 0].long(), minlength=len(Operation)).double() / COUNT
    wanted = torch.zeros_like(found)
    for (each,), weight in zip(params.alternatives, params.weights, strict=True):
        wanted[each.operation] = weight / sum(params.weights)
    assert ((found - wanted).abs() <= 4 * (wanted * (1 - wanted) / COUNT).sqrt()).all()


@pytest.mark.parametrize(("config", "std"), [("100", 100.0), ("100.1", math.inf), ("inf", math.inf), ("0", 0.0)])
def test_a_level_is_uniform_above_a_standard_deviation_of_100(config, std):
    """In RandAugment alone."""
    assert parsed(f"rand-mstd{config}").std == std
    assert parsed(f"v0-mstd{config}").std == float(config)


def test_defaults_of_the_sections_are_timms():
    """And weights are integers, which sum to a million but for their rounding."""
    plain = parsed("rand")
    assert {(each.probability, each.level) for ((each,),) in zip(plain.alternatives, strict=True)} == {(0.5, 10)}
    assert (plain.weights, plain.layers, plain.std, plain.highest, plain.interpolation) == (None, 2, 0.0, 10.0, None)
    auto = parsed("original")
    assert (auto.weights, auto.layers, auto.std, auto.highest) == (None, 1, 0.0, 10.0)
    for config in ("rand-tweights", "rand-t3aw", "rand-w0"):
        assert abs(sum(parsed(config).weights) - 2**20) <= 8
    assert parsed("rand-tweights-n15").layers == 15  # each of them
    assert parsed("rand-n16-p1-mmax1000-m0").layers == 16


def test_interpolations():
    fixed = gr.augment.DeiT(interpolation="bilinear").draw(range(100))["operation_interpolations"]
    assert (fixed == BILINEAR).all()
    either = gr.augment.DeiT(interpolation="random").draw(np.arange(COUNT))["operation_interpolations"].flatten()
    assert set(either.tolist()) == {BILINEAR, BICUBIC}
    assert abs((either == BICUBIC).double().mean() - 0.5) < 4 * math.sqrt(0.25 / len(either))


@pytest.mark.parametrize("config", ["rand-m9-mstd1-n1-p0.7", "rand-tweights-m9-n1-p0.7", "3a-mstd2"])
def test_words_of_a_layer_have_one_use_each(config):
    """Choice, application, strength, sign, interpolation and radius of a sample are independent of each other."""
    codes, arguments, filters = (x[:, 0] for x in draw_layers(torch.arange(COUNT), 8, parsed(config)))
    bicubic = filters == BICUBIC
    independent(bicubic, codes > 0, "interpolation and application")
    for code in codes[codes > 0].unique().tolist():
        own, size = arguments[codes == code], arguments[codes == code].abs()
        uses = {"interpolation": bicubic[codes == code], "sign": own < 0, "strength": size > size.median()}
        for (a, one), (b, other) in itertools.combinations(uses.items(), 2):
            independent(one, other, f"{Operation(code).name}: {a} and {b}")


def independent(one, other, name):
    """Chi-square test of two columns of yes and no; one that is always the same says nothing."""
    table = [((one == a) & (other == b)).sum().item() for a in (False, True) for b in (False, True)]
    rows, columns = (table[0] + table[1], table[2] + table[3]), (table[0] + table[2], table[1] + table[3])
    if min(*rows, *columns) < 40:
        return
    total = sum(table)
    wanted = [row * column / total for row in rows for column in columns]
    square = sum((a - b) ** 2 / b for a, b in zip(table, wanted, strict=True))
    assert square < 20, f"{name}: chi-square {square:.1f} of {table}"  # above: once in 130,000


def test_parameters_of_layers_are_independent():
    """No two words of a sample's layers are one: ranks of the arguments of both layers are uncorrelated."""
    drawn = gr.augment.DeiT(auto_augment="rand-m9-mstd0.5-inc1-p1-n2").draw(np.arange(COUNT))
    both = drawn["operations"] == Operation.ROTATE
    first, second = drawn["arguments"][both[:, 0]][:, 0], drawn["operations"][both[:, 0]][:, 1]
    counts = [
        torch.bincount(second[first > 0].long(), minlength=21),
        torch.bincount(second[first < 0].long(), minlength=21),
    ]
    same_counts(
        [i for i, n in enumerate(counts[0].tolist()) for _ in range(n)],
        [i for i, n in enumerate(counts[1].tolist()) for _ in range(n)],
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("augmix-m3-w3", "must begin with one of rand"),
        ("", "must begin with one of rand"),
        ("rand-q3", "must have sections m, n, p"),
        ("rand-m9.5", "m must be an integer"),
        ("rand-m", "m must be an integer"),
        ("rand-mstdx", "mstd must be a number"),
        ("rand-n0", "n must be an integer, 1 to 16"),
        ("rand-n17", "n must be an integer, 1 to 16"),
        ("rand-p1.5", "p must be a number, 0 to 1"),
        ("rand-m9-m3", "twice"),
        ("rand-tmine", "t must be weights, 3a or 3aw"),
        ("rand-w1", "w must be 0"),
        ("rand-inc2", "inc must be 0 or 1"),
        ("rand-tweights-n16", "n must be at most 15"),
        ("rand-mmax0", "mmax must be an integer, 1 to 1000"),
        ("rand-mmax1001", "mmax must be an integer, 1 to 1000"),
        ("rand-m٩", "m must be an integer"),
        ("rand-p０.5", "p must be a number"),
        ("rand-mstd1.٣", "mstd must be a number"),
        ("rand-m" + "9" * 5000, "m must be an integer, 0 to 999999999"),
        ("v0-m3", "must have sections mstd"),
        ("rand-", "must have sections"),
    ],
)
def test_wrong_strings_are_refused(config, reason):
    with pytest.raises(ValueError, match=f"auto_augment.*{reason}"):
        parsed(config)
    with pytest.raises(ValueError, match="auto_augment"):
        gr.augment.DeiT(auto_augment=config)
