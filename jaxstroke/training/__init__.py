"""Training: the state, the step, the loop, and what stops it. Never imports torch."""
