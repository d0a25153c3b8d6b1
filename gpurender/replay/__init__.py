"""Look back: what exactly a model saw, from the few integers that a checkpoint or a loader's state holds.

>>> recorder = gr.replay.Recorder(loader)  # keeps the numbers of the batches at loss spikes
>>> recorder.note(loss)  # after each batch
>>> for batch in gr.replay.replay("run/checkpoint.safetensors", range(12000, 12004)):
...     batch.images, batch.facts
"""

from gpurender.replay.batches import SeenBatch, replay
from gpurender.replay.recorder import Recorder, Spike

__all__ = ["Recorder", "SeenBatch", "Spike", "replay"]
