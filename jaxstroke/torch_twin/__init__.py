"""The same networks in PyTorch and weight transfer in both directions; one of the rooms that import torch."""
