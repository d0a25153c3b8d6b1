"""What may be given for a policy: a :class:`Policy`, its name, or any object with ``draw`` and ``apply``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gpurender.augment import named
from gpurender.augment.parameters import Parameters
from gpurender.augment.policy import ImagesT_co, Policy, capturable
from gpurender.augment.resize import Resize
from gpurender.util import checks


@runtime_checkable
class PolicyLike(Protocol[ImagesT_co]):
    """An object with the two methods of a :class:`Policy` that have no default."""

    @property
    def draw(self) -> Callable[..., Parameters]: ...

    @property
    def apply(self) -> Callable[..., ImagesT_co]: ...


def as_policy(given: PolicyLike | str | None, name: str = "augment", *, required: bool = False) -> Policy:
    """Return the policy that an argument stands for: ``None`` becomes :class:`Resize`, a name its policy (``"crop"``,
    ``"deit"`` ...: :mod:`gpurender.augment.named`), and a foreign object is adapted.

    Args:
        given: the argument.
        name: the argument's name, for errors.
        required: refuse ``None``.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if isinstance(given, Policy):
        return given
    if isinstance(given, str):
        return named.policy(given, name)
    if given is None and not required:
        return Resize()
    if isinstance(given, type) or not isinstance(given, PolicyLike):  # a class has both methods as well
        nothing = "" if required else "None or "
        raise TypeError(
            f"{name} must be {nothing}a policy such as gr.augment.Crop() or its name, got {checks.shown(given)}"
        )
    return Adapted(given)


def _foreign(name: str) -> Any:
    """Return a property of :class:`Adapted`: the foreign object's attribute or method, or the default."""
    return property(lambda self: getattr(self.policy, name, getattr(super(Adapted, self), name)))


@dataclass(frozen=True)
class Adapted(Policy):
    """A foreign policy as a :class:`Policy`. Attributes and methods that the object lacks are those of :class:`Policy`;
    the adapted policy is hashable if the object is.
    """

    policy: Any

    views, num_aug_repeats, soft = _foreign("views"), _foreign("num_aug_repeats"), _foreign("soft")
    mean, std = _foreign("mean"), _foreign("std")
    draw, apply, targets = _foreign("draw"), _foreign("apply"), _foreign("targets")
    check_sizes = _foreign("check_sizes")

    def at_epoch(self, epoch: int) -> Policy:
        return self._adapted(getattr(self.policy, "at_epoch", lambda _: self.policy)(epoch))

    def unmixed(self) -> Policy:
        return self._adapted(getattr(self.policy, "unmixed", lambda: self.policy)())

    def _adapted(self, policy: Any) -> Policy:
        name = f"what at_epoch() or unmixed() of {self.class_name} returns"
        return self if policy is self.policy else as_policy(policy, name, required=True)

    @property
    def capturable(self) -> bool:  # type: ignore[override]
        return bool(getattr(self.policy, "capturable", False)) and capturable(self.policy)

    @property
    def class_name(self) -> str:
        return type(self.policy).__name__
