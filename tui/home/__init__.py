"""The first screen: the machine, recent runs, presets."""
