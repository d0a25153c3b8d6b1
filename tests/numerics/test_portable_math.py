"""exp and log of the four operations against decimal arithmetic."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from gpurender.numerics.portable_math import exp, log


@pytest.mark.parametrize("x", [0.0, 1.0, -1.0, 1e-9, 0.34657359, 0.3465736, 9.01, -700.0, 700.0, 123.456, -2.5e-300])
def test_exp_against_decimal_arithmetic(x):
    exact = Decimal(x).exp()
    assert abs(Decimal(float(exp(x))) - exact) <= Decimal("2e-15") * exact


@pytest.mark.parametrize(
    "x", [1.0, 3 / 4, 4 / 3, 0.7071067811865476, 0.7071067811865475, 8192.0, 1e300, 3e-308, 1 + 2**-52]
)
def test_log_against_decimal_arithmetic(x):
    exact = Decimal(x).ln()
    assert abs(Decimal(float(log(x))) - exact) <= Decimal("2e-15") * max(abs(exact), 1)


def test_exp_and_log_of_arrays_and_of_what_they_refuse():
    x = np.random.default_rng(0).uniform(-20, 20, (50, 20))
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=4e-15)
    np.testing.assert_allclose(log(exp(x)), x, rtol=0, atol=1e-14)
    assert np.array_equal(exp(x), [[float(exp(value)) for value in row] for row in x.tolist()])
    for wrong in (701.0, -701.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="x must be within"):
            exp(wrong)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="x must be positive"):
            log(wrong)


def test_errors_are_little_more_than_a_unit_in_the_last_place():
    """One term fewer of either series, or a coarser ln 2, would show: e**x would be 2.4 units off."""
    x = np.random.default_rng(0).uniform(-8, 8, 2000)
    with localcontext() as context:
        context.prec = 50
        powers = [float(abs(Decimal(float(y)) - Decimal(float(z)).exp())) for y, z in zip(exp(x), x, strict=True)]
        y = np.exp(x)
        logs = [float(abs(Decimal(float(a)) - Decimal(float(b)).ln())) for a, b in zip(log(y), y, strict=True)]
    assert (powers / np.spacing(exp(x))).max() < 1.5
    assert (logs / np.spacing(np.maximum(1.0, abs(x)))).max() < 1.5
