"""The policies that a training takes: those of one image per sample."""

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.augment.policy import Policy


def one_view(augment: PolicyLike | str) -> Policy:
    """Return the policy of a name, or a policy.

    Raises:
        TypeError, ValueError: it is neither, or the policy gives several views of a sample.
    """
    policy = as_policy(augment, required=True)
    if policy.views:
        raise ValueError(f"augment must give one view of a sample, and {policy!r} gives {policy.views}")
    return policy
