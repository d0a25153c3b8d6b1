"""Training on rendered images: the papers' pre-training as presets, fine-tuning, probes, a warm-up for any model.

Needs the extra ``train``: timm's models, optimisers and schedules, Accelerate's devices, processes and precision.
"""

from gpurender.training.checkpoint import describe, load
from gpurender.training.finetune import finetune
from gpurender.training.pretrain import pretrain
from gpurender.training.probe import probe
from gpurender.training.warm_up import warm_up

__all__ = ["describe", "finetune", "load", "pretrain", "probe", "warm_up"]
