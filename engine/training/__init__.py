"""Stages 3 and 4: the trainer's set-up, callbacks, checkpoints, recovery."""
