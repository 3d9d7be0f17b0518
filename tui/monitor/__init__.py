"""One run, live or finished, rebuilt from its run directory."""
