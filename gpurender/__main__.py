"""``python -m gpurender`` is the command ``gpurender``."""

import sys

from gpurender.cli import main

sys.exit(main())
