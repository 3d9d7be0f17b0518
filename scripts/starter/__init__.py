"""How the starter model and the quick start's data are made: generator, tokenizer, pre-training, data writer, check."""
