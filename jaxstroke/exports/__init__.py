"""Trained networks as programs that need nothing of this project, each checked against the network it came from."""
