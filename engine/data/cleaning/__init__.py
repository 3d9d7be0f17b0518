"""Checks of canonical rows: what is found, where, and what the recipe says to do with it."""
