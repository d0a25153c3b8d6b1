"""What an instance of a dataset is made of, on the CPU, by torch's operators: the reference."""

import torch

from gpurender.kernels.chaos_game.params import Instances, Parts


def parts_of(indices: torch.Tensor, draw_ids: torch.Tensor, orientations: torch.Tensor, law: Instances) -> Parts:
    """Do ``gpurender.kernels.chaos_game.parts_of`` on the CPU; the arguments are checked."""
    category, instance = indices // law.instances, indices % law.instances
    flip = instance % law.flips
    return Parts(
        systems=category * law.weights + instance // (law.patches * law.flips),
        images=category * law.groups + instance // law.flips,
        masks=draw_ids - flip if law.shares_masks else draw_ids,
        orientations=orientations[flip],
    )
