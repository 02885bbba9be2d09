"""What tensors mean: checkpoints, adapters of every known trainer, packed and pickled weights."""
