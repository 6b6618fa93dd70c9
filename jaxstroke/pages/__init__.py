"""Pages that a browser opens from disk: a run's report, with everything it needs inside one file."""
