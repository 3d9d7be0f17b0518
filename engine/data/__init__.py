"""Stage 1: sources, formats, splits, rendering to tokens and masks."""
