"""Policies by name: what ``augment="deit"`` and ``--augment deit`` stand for."""

from collections.abc import Callable

from gpurender.augment.crop import Crop
from gpurender.augment.deit import DeiT
from gpurender.augment.policy import Policy
from gpurender.util import checks

POLICIES: dict[str, Callable[[], Policy]] = {
    "crop": Crop,
    "deit": DeiT,
    "onepfrac": DeiT.onepfrac,
    "ofdb": DeiT.ofdb,
    "fractaldb": DeiT.fractaldb,
    "visualatom": DeiT.visualatom,
    "resnet": DeiT.resnet,
}


def policy(name: str, parameter: str = "augment") -> Policy:
    """Return the policy of a name: ``crop``, ``deit``, or the policy of a paper.

    ``parameter``: what the name is given for; errors say it.
    """
    return POLICIES[checks.choice(parameter, name, tuple(POLICIES))]()
