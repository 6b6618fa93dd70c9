"""The JAX networks held against their PyTorch twins: same weights, same batch, and their differences."""
