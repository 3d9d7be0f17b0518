"""The engine: recipe, plan, run and the seven stages. Knows nothing of screens."""
