"""Curves of a run for other programs: written beside it, and never in its way."""
