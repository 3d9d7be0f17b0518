"""All runs in one table, and several of them in one picture."""
