"""The rehearsal: the engine's own training step without weights and without a GPU, every storage traced. Heavy."""
