"""Pictures: curves of a run, a mask over its study."""
