"""What a model with an encoder and a decoder starts and ends its texts with; set once, where it is loaded.

transformers 5 leaves some of it out of configurations that are made new, and base models come with the lengths and the
penalties of the texts that they were last trained to write.
"""

from transformers import GenerationConfig, PreTrainedModel

from engine.recipe.schema import Recipe

LONGEST_TEXT = 256
"""Tokens of a text where nobody said how long one may be; transformers would stop after 20."""


def settle_encoder_decoder(model: PreTrainedModel, recipe: Recipe) -> None:
    """Set the token that the decoder starts from, and how the model writes wherever it is loaded.

    Args:
        model: As loaded.
        recipe: How long a text may be, and how many drafts are kept.
    """
    config, given = model.config, model.generation_config or GenerationConfig()
    # Some families do not even have the word.
    said = vars(config)
    # Those that do not say start from padding, as T5 does.
    named = (said.get("decoder_start_token_id"), given.decoder_start_token_id, said.get("pad_token_id"))
    config.decoder_start_token_id = next((token for token in named if token is not None), None)
    longest = recipe.text_to_text.max_target_length or recipe.evaluation.max_new_tokens or LONGEST_TEXT
    model.generation_config = GenerationConfig(
        bos_token_id=said.get("bos_token_id"),
        eos_token_id=given.eos_token_id if given.eos_token_id is not None else said.get("eos_token_id"),
        pad_token_id=said.get("pad_token_id"),
        decoder_start_token_id=config.decoder_start_token_id,
        forced_bos_token_id=given.forced_bos_token_id,
        num_beams=recipe.text_to_text.num_beams,
        max_new_tokens=longest,
        do_sample=False,
    )
