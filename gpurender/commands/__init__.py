"""The command ``gpurender``: one file per subcommand."""
