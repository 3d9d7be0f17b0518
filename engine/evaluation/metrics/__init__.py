"""Metric modules for the `evaluate` library that live in the package, because hub look-ups fail offline."""
