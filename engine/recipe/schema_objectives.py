"""The sections of a recipe that single objectives read. See `engine.recipe.schema`."""

from typing import Literal

from pydantic import Field

from engine.recipe.section import Section, why


class TokenClassificationSection(Section):
    """How words are tagged."""

    tag_names: list[str] | None = Field(
        None,
        title="Names of tags",
        description="Names of tags that the data writes as numbers, in the order of the numbers, such as O, B-PER.",
        json_schema_extra=why("The data's own tags: names, or numbers as they are.", level="advanced"),
    )


class ClassificationSection(Section):
    """How classes are learnt."""

    class_weights: Literal["none", "balanced"] = Field(
        "none",
        title="Class weights",
        description="balanced makes every class count the same in the loss, however rare it is.",
        json_schema_extra=why("What is rare in your data is often rare where it is used.", level="advanced"),
    )
    focal_gamma: float = Field(
        0.0,
        title="Focal loss",
        ge=0,
        le=5,
        description="Above 0, rows that the model is right and sure about count less; 2 is usual.",
        json_schema_extra=why("0, plain cross entropy: right unless easy rows drown the others.", level="advanced"),
    )
