"""Stage entry points for the inspection helper process."""
