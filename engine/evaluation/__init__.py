"""Stage 5: before and after, metrics, report."""
