"""Client of the inspection helper process. Light."""
