"""When and where: the batches of a training loop."""
