"""One step after another from an objective to a launched run."""
