"""Rewards: what an answer earns."""
