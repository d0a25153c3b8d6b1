"""The command ``gpurender``: one file a subcommand."""
