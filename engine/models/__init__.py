"""Stage 2: loading models and tokenizers."""
