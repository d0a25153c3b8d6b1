"""The policies that a training takes: those of one image per sample."""

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.augment.policy import Policy
from gpurender.util import checks

ADDRESS = " object at 0x"  # of Python's own repr


def one_view(augment: PolicyLike | str) -> Policy:
    """Return the policy of a name, or a policy.

    Raises:
        TypeError, ValueError: it is neither, or the policy gives several views of a sample.
    """
    policy = as_policy(augment, required=True)
    if policy.views:
        raise ValueError(f"augment must give one view of a sample, and {policy!r} gives {policy.views}")
    return policy


def identity(policy: Policy) -> str:
    """Return what tells a policy from others: its ``repr``, by which a training that goes on knows its own.

    Raises:
        ValueError: the ``repr`` holds an address, which is another in the next process.
    """
    found = repr(policy)
    if ADDRESS in found:
        raise ValueError(
            f"augment must have a repr that is the same in every process, as a dataclass has, got {checks.shown(found)}"
        )
    return found
