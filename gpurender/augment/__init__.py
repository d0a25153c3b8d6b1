"""Augmentation policies: draw the parameters of every sample by its address, then apply them.

>>> policy = gr.augment.Crop(hflip=0.5)
>>> parameters = policy.draw([0, 1, 2], seed=0, canvas_size=512)  # boxes, flips, interpolations
>>> images = policy.apply(renderer([0, 1, 2]), parameters)  # float32 [3, 3, 224, 224]
"""

from gpurender.augment.crop import Crop
from gpurender.augment.policy import Policy
from gpurender.augment.resize import Resize, resized_crop

__all__ = ["Crop", "Policy", "Resize", "resized_crop"]
