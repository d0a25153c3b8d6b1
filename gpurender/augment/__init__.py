"""Augmentation policies: draw the parameters of every sample by its address, then apply them.

>>> policy = gr.augment.DeiT()
>>> parameters = policy.draw([0, 1, 2], seed=0, canvas_size=512)  # boxes, flips, operations, arguments, ...
>>> images = policy.apply(renderer([0, 1, 2]), parameters)  # float32 [3, 3, 224, 224]
>>> targets = policy.targets(renderer.labels([0, 1, 2]), parameters, classes=1000)  # float32 [3, 1000]
"""

from gpurender.augment.crop import Crop
from gpurender.augment.deit import DeiT
from gpurender.augment.image_op import op
from gpurender.augment.pixmix import PixMix
from gpurender.augment.policy import Policy
from gpurender.augment.resize import Resize, resized_crop
from gpurender.augment.views import MultiCrop, TwoViews
from gpurender.kernels.image_ops import Operation

__all__ = ["Crop", "DeiT", "MultiCrop", "Operation", "PixMix", "Policy", "Resize", "TwoViews", "op", "resized_crop"]
