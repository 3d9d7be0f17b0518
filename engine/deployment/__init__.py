"""Stage 6: export, merge, model card, chat."""
