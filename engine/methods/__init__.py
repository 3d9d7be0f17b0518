"""Which weights learn: one module per method."""
