"""The wizard's list of base models: what suits first, of that what fits, of that the objective's usual kind."""

from engine.catalog.base_models import BASE_MODELS
from tests.unit.made_plans import gpu, with_gpus
from tui.engine_backend import EngineBackend, machine_of

SMALL, LARGE = machine_of(with_gpus(gpu(4))), machine_of(with_gpus(gpu(80)))


def names(objective: str, machine=LARGE) -> list[str]:
    return [offer.reference for offer in EngineBackend().model_offers(machine, objective) if not offer.unsuited]


def test_every_model_is_listed_once_and_the_unsuited_come_last():
    offers = EngineBackend().model_offers(LARGE, "chat")
    assert sorted(offer.reference for offer in offers) == sorted(card.name for card in BASE_MODELS)
    suited = [not offer.unsuited for offer in offers]
    assert suited == sorted(suited, reverse=True)
    bert = next(offer for offer in offers if offer.reference == "google-bert/bert-base-uncased")
    assert "trains decoders; this is an encoder" in bert.unsuited
    assert bert.fit == ""


def test_what_does_not_fit_stands_behind_what_does():
    offers = [offer for offer in EngineBackend().model_offers(SMALL, "chat") if not offer.unsuited]
    blocked = [bool(offer.blocked) for offer in offers]
    assert True in blocked
    assert False in blocked
    assert blocked == sorted(blocked)


def test_the_usual_kind_of_an_objective_comes_first():
    assert names("classification")[0] == "answerdotai/ModernBERT-base"
    assert names("chat")[0] == "Qwen/Qwen3-0.6B"


def test_the_starter_ends_what_fits():
    fitting = [
        one.reference for one in EngineBackend().model_offers(LARGE, "chat") if not (one.unsuited or one.blocked)
    ]
    assert fitting[-1] == "builtin:starter"


def test_offers_carry_what_a_row_shows():
    offers = {offer.reference: offer for offer in EngineBackend().model_offers(None, "chat")}
    llama = offers["meta-llama/Llama-3.2-1B-Instruct"]
    assert (llama.licence, llama.gated, llama.context_length) == ("llama3.2", True, 131072)
    assert llama.weights_bytes == 2 * llama.num_params
    assert llama.fit == ""  # no machine was read yet
    assert offers["openai-community/gpt2"].weights_bytes == 4 * 124_439_808
