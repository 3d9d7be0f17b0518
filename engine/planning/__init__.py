"""What this machine will do with a recipe. Light."""
