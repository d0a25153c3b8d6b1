"""Ready spaces: the studies of "Exploring the Potential of Neural Dataset Search" (Yamada, Shinoda, Kataoka).

Their grids are whole studies: ``gpurender search init … --proposer grid --images 90000000`` trains every config for the
paper's 90 epochs of a million images on one rung.
"""

import math
from collections.abc import Mapping
from typing import Any

COUNTS = (512, 1024, 2048, 4096)  # of categories and of instances, section 5.3
RESNETS = ("resnet18", "resnet50", "resnet152")
FRACTALDB = {"family": "fractaldb", "variant": "paper"}  # its four turns are by 90 degrees, section 3.1
TRAINING = {"image_size": 224}

READY: Mapping[str, Mapping[str, Any]] = {
    "nds-representation": {  # tables 2 and 3: the parameters vary one at a time there, here together
        "recipe": {
            **FRACTALDB,
            "weights": {"choice": ["small", "base", "large"]},
            "image_size": {"choice": [256, 362, 512]},
        },
        "model": "resnet50",
        "preset": "fractaldb-resnet",
        "training": TRAINING,
    },
    "nds-categories": {  # figure 2
        "recipe": {**FRACTALDB, "classes": {"choice": list(COUNTS)}},
        "model": {"choice": list(RESNETS)},
        "preset": "fractaldb-resnet",
        "training": TRAINING,
    },
    "nds-instances": {  # figure 3; 25 weights x 4 turns x as many patches as are needed
        "recipe": {"choice": [{**FRACTALDB, "instances": n, "patches": math.ceil(n / 100)} for n in COUNTS]},
        "model": {"choice": list(RESNETS)},
        "preset": "fractaldb-resnet",
        "training": TRAINING,
    },
}
