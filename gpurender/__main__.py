"""``python -m gpurender`` runs the command ``gpurender``."""

import sys

from gpurender.commands.cli import main

sys.exit(main())
