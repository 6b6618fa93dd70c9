"""What a step costs on machines one does not have: compiled ahead of time, read, and turned into time."""
