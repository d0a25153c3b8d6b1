"""The data server: which formulas does a task need? (Neural Data Server, Yan, Acuna, Fidler, CVPR 2020.)

>>> server = gr.DataServer("server")  # a folder of `gpurender experts build`, or the address of `gpurender serve`
>>> scores = server.adapt("flowers")  # K numbers, and nothing else of the images
>>> found = server.recommend(scores, budget=10_000_000)
>>> loader = gr.DataLoader(found.recipe, batch_size=256, fresh=True)

Needs the extra ``train``; partitions of image folders and ``gpurender serve`` need the extra ``serve``.
"""

from gpurender.server.building import add, build
from gpurender.server.data_server import DataServer
from gpurender.server.recommend import Recommendation

__all__ = ["DataServer", "Recommendation", "add", "build"]
