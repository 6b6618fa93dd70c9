"""The running process: how a door ends, signals, the other processes of its job, those that work for it."""
