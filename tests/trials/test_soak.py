"""Memory stays flat: trials/soak.py, shortened. What it measures over 100,000 batches is in bench/results/."""

import subprocess
import sys


def test_memory_is_flat_over_some_thousand_batches(root):
    """In a process of its own, whose memory no other test has stretched. A leak of 4 kB a batch would show."""
    code = "import torch; from trials import soak; torch.set_num_threads(1); "
    code += "found, growth = soak.soak(4000); print(len(found), growth)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    samples, growth = done.stdout.split()
    assert int(samples) > 100
    assert float(growth) < 1.0
