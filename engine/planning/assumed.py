"""What a plan assumes of data that nobody has named yet, and of models that nobody could ask about. Always said."""

from pathlib import Path

from engine.catalog.objectives import RowFormat, find_objective
from engine.planning.profiles import DataProfile, Finding, LengthProfile, ModelProfile
from engine.text import human_bytes, human_count

ASSUMED_SOURCE = "your-data.jsonl"
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
_CHAT = LengthProfile(count=1000, mean=330, p50=280, p90=640, p99=960, longest=1024, total=330_000, estimated=True)
_TEXT = LengthProfile(
    count=1000, mean=1000, p50=1000, p90=1600, p99=2000, longest=2048, total=1_000_000, estimated=True
)
_REWRITTEN = LengthProfile(count=1000, mean=380, p50=350, p90=590, p99=760, longest=800, total=380_000, estimated=True)
_LABELLED = LengthProfile(count=1000, mean=60, p50=45, p90=120, p99=230, longest=256, total=60_000, estimated=True)
_ASSUMED_FORMATS: dict[RowFormat, RowFormat] = {"messages": "prompt_completion"}


def assumed_data(objective: str) -> DataProfile:
    """Return the data that a plan is made with as long as none is named.

    Args:
        objective: A name of the catalogue.
    """
    goal = find_objective(objective)
    lengths = {"text": _TEXT, "labels": _LABELLED, "tags": _LABELLED}.get(goal.signal, _CHAT)
    if "text_to_text.prefix" in goal.settings:
        lengths = _REWRITTEN
    answers = (
        _CHAT.model_copy(update={"mean": 120, "p50": 100, "p90": 250, "p99": 400, "longest": 512})
        if goal.converses
        else None
    )
    message = (
        f"No data is named, so {human_count(lengths.count)} training rows of {lengths.mean:.0f} tokens on average are "
        f"assumed, the longest with {lengths.longest}."
    )
    return DataProfile(
        format=_ASSUMED_FORMATS.get(goal.formats[0], goal.formats[0]),
        num_rows=lengths.count * 11 // 10,
        num_train=lengths.count,
        num_held_out=lengths.count // 10,
        lengths=lengths,
        answer_lengths=answers,
        held_out_answer_longest=answers.longest if answers else 0,
        bytes=4 * lengths.total,
        findings=[
            Finding(
                code="plan.data_assumed",
                message=message,
                fix="Name yours with --set data.source=FILE; memory and time follow its lengths.",
                path="data.source",
                severity="note",
            )
        ],
    )


def catalogue_profile(profile: ModelProfile, cache: Path, why: str) -> ModelProfile:
    """Return the catalogue's facts of a model with the download that a run would begin with.

    Args:
        profile: Facts without files.
        cache: Where downloads are kept.
        why: Why the hub was not asked, as the end of a sentence.
    """
    size = profile.num_params * _WIDTH.get(profile.weights_dtype, 2)
    message = f"The sizes of this model are those of the catalogue: {why}. A run downloads about {human_bytes(size)}."
    finding = Finding(code="model.from_catalogue", message=message, path="model.base", severity="note")
    return profile.model_copy(
        update={"download_bytes": size, "download_folder": str(cache), "findings": [*profile.findings, finding]}
    )
