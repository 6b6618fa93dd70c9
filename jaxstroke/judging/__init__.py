"""What comes of scores: pairs of mask files, tables of systems side by side, folds put together.

No network is needed here, nor JAX.
"""
