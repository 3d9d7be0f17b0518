"""Recipes shipped with ftwizard, and the data and the starter model of the quick start."""
