"""What an instance of a dataset is made of, on the CPU, by NumPy: the reference.

(Between two batches the caches hold canvases and no code, and ten of torch's operators take 200 us there.)
"""

import numpy as np
import torch

from gpurender.kernels.chaos_game.params import Instances, Parts


def parts_of(indices: torch.Tensor, draw_ids: torch.Tensor, orientations: torch.Tensor, law: Instances) -> Parts:
    """Do ``gpurender.kernels.chaos_game.parts_of`` on the CPU; the arguments are checked."""
    category, instance = np.divmod(indices.numpy(), law.instances)
    group, flip = np.divmod(instance, law.flips)
    return Parts(
        systems=torch.from_numpy(category * law.weights + group // law.patches),
        images=torch.from_numpy(category * law.groups + group),
        masks=draw_ids - torch.from_numpy(flip) if law.shares_masks else draw_ids,
        orientations=torch.from_numpy(orientations.numpy()[flip]),
    )
