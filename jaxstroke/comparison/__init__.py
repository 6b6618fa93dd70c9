"""The JAX networks held against their PyTorch twins: same weights, same batch, differences and times."""
