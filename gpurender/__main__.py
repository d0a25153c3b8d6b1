"""``python -m gpurender`` is the command ``gpurender``."""

import sys

from gpurender.commands.cli import main

sys.exit(main())
