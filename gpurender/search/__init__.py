"""Searches for the best dataset: a space of recipes and models, measured on tasks by many workers.

>>> space = gr.search.Space.from_json(open("space.json").read())
>>> study = gr.search.create("study", space, {"flowers": gr.tasks.Task("flowers", labels_per_class=10)})
>>> study.work(minutes=60)  # any number of processes may do this at once, and be killed
>>> recipe = study.best()

Needs the extra ``train``; the proposers ``tpe`` and ``gp`` need the extra ``search``.
"""

from gpurender.search.config import Config
from gpurender.search.ladder import Ladder
from gpurender.search.space import Space
from gpurender.search.study import Study, create

__all__ = ["Config", "Ladder", "Space", "Study", "create"]
