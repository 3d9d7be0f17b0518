"""What they learn: one module per objective."""
