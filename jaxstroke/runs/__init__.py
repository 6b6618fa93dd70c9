"""What a run leaves on disk: its description, its journal of figures, its checkpoints with checksums."""
