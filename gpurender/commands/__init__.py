"""``cli.py`` is the program; a file per command has its ``add`` and ``run``; folders have what doctor and export do."""
