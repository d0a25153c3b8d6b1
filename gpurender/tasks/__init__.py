"""Downstream tasks as data: labelled real images, a budget of labels, a split; JSON in and out.

>>> task = gr.tasks.Task("flowers", labels_per_class=10)  # a folder with train/ and val/
>>> train, test = task.samples("train"), task.samples("test")
>>> image, label = train[0]  # PIL image in RGB, int
"""

from gpurender.tasks.scores import Summary, normalised, summary
from gpurender.tasks.task import Samples, Task

__all__ = ["Samples", "Summary", "Task", "normalised", "summary"]
