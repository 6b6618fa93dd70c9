"""The same networks in PyTorch, weight transfer in both directions, and export; the only room that imports torch."""
