"""Workers of a made-up study on a Ray cluster of three nodes on this machine, of which one is lost.

python -m tests.search.cluster FOLDER    # makes FOLDER/calm and FOLDER/ray; prints what happened, and the status

A worker, the dispatcher and a node are killed while the workers work.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import gpurender as gr
from gpurender.search import ray_engine, study
from tests.search import storm

LONGEST = 800.0  # seconds


def trained(config, tasks, ladder, rung, checkpoints, room, device):
    """Stands for a training: says who works, and for how long nothing else happens."""
    root = checkpoints.parent.parent
    (root / f"worker-{os.getpid()}-{ray.get_runtime_context().get_node_id()}").touch()
    time.sleep(0.35)
    return storm.trained(config, tasks, ladder, rung, checkpoints, room, device)


def faked():
    """Let trainings take no time in this process, a worker of Ray."""
    study.trained = trained


def until(condition):
    """Wait until a condition holds, and return what it returned."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError


def attacked(root, cluster, node, happened):
    """Kill a worker, the dispatcher and a node, each when the study has gone on since."""
    results = root / "results"

    def more(count):
        until(lambda: results.is_dir() and len(list(results.glob("*.json"))) >= count)

    def workers(inside):
        names = [path.name.split("-") for path in root.glob("worker-*")]
        return [int(pid) for _, pid, where in names if (where == node.node_id) == inside]

    more(1)
    victim = until(lambda: workers(False))[0]
    os.kill(victim, signal.SIGKILL)
    happened["worker"] = victim
    more(3)
    actor = ray_engine.dispatcher(str(root.resolve()))
    happened["dispatcher"] = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    os.kill(happened["dispatcher"], signal.SIGKILL)
    more(5)
    until(lambda: workers(True))
    cluster.remove_node(node, allow_graceful=False)
    happened["node"] = node.node_id


def main(folder):
    plain, study.trained = study.trained, storm.trained
    storm.make(folder, "calm").work(device="cpu")
    study.trained = plain
    made, happened = storm.make(folder, "ray"), {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    node = cluster.add_node(num_cpus=1)
    ray.init(
        address=cluster.address, namespace=ray_engine.NAMESPACE,
        runtime_env={"worker_process_setup_hook": "tests.search.cluster.faked"},
    )  # fmt: skip
    thread = threading.Thread(target=attacked, args=(made.root, cluster, node, happened), daemon=True)
    thread.start()
    done = ray_engine.work(made, 3, None, None)
    thread.join(10.0)
    status = gr.search.Study(made.root).status()
    try:
        ray.get_actor(ray_engine.name_of(str(made.root.resolve())), ray_engine.NAMESPACE)
        left = True
    except ValueError:
        left = False
    pids = {path.name.split("-")[1] for path in made.root.glob("worker-*")}
    print(json.dumps({"made": done, "left": left, "workers": len(pids), **happened, **status}), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
