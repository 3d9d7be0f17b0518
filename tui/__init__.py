"""What a person sees: the `ftwizard` command, the wizard, the monitor and the results. Imports no torch."""
