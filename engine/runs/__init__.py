"""The run directory and the life of a run. Light."""
