"""The data section of a recipe: sources, shape, cleaning, split. See `engine.recipe.schema`."""

from typing import Any, Literal

from pydantic import Field

from engine.catalog.objectives import RowFormat
from engine.recipe.section import Section, why


class WeightedSource(Section):
    """A source of several, with how much it counts."""

    path: str
    weight: float = Field(1.0, gt=0, le=100)


def source_paths(source: Any) -> list[str]:
    """Return what `data.source` names, without weights.

    Args:
        source: The value of the field as a recipe file has it or as it is parsed; None gives nothing.
    """
    listed = source if isinstance(source, list) else [] if source is None else [source]
    return [_source_path(item) for item in listed]


def _source_path(item: Any) -> str:
    if isinstance(item, WeightedSource):
        return item.path
    return str(item.get("path", "")) if isinstance(item, dict) else str(item)


class CleaningSection(Section):
    """What is looked for in the rows, and what is done with what is found; reporting changes nothing."""

    near_duplicates: Literal["report", "drop", "off"] = Field(
        "report",
        title="Near duplicates",
        description="Rows whose question and answer are nearly those of an earlier row; drop keeps the first.",
        json_schema_extra=why(
            "How much alike is too much, you decide; they never part in the split.", level="advanced"
        ),
    )
    leaked_rows: Literal["block", "drop", "report"] = Field(
        "block",
        title="Leaked rows",
        description="Training rows that a held-out file has too; drop also takes out nearly equal ones.",
        json_schema_extra=why(
            "Up to 1 % equal ones are dropped; more block the run: one of the files is wrong.", level="advanced"
        ),
    )
    contradictions: Literal["report", "drop", "off"] = Field(
        "report",
        title="Contradictions",
        description="Rows with one question and different answers or labels; drop takes out all of them.",
        json_schema_extra=why("Several good answers may be meant.", level="advanced"),
    )
    length_outliers: Literal["report", "drop", "off"] = Field(
        "report",
        title="Length outliers",
        description="Rows far longer or shorter than the others.",
        json_schema_extra=why("Most long rows are good ones.", level="advanced"),
    )
    repeated_answers: Literal["report", "drop", "off"] = Field(
        "report",
        title="Repeated answers",
        description="One sentence that answers more than 1 % of the rows; drop keeps the first.",
        json_schema_extra=why("A stock phrase may be what you want to teach.", level="advanced"),
    )
    other_languages: Literal["report", "drop", "off"] = Field(
        "report",
        title="Other languages",
        description="Rows in another script or language than most.",
        json_schema_extra=why("Mixed data is often meant.", level="advanced"),
    )
    hidden_characters: Literal["report", "remove", "drop", "off"] = Field(
        "report",
        title="Hidden characters",
        description="Control, zero-width and direction characters; remove takes them out of the text.",
        json_schema_extra=why("Text is never changed without your word.", level="advanced"),
    )
    double_encoding: Literal["report", "repair", "drop", "off"] = Field(
        "report",
        title="Double encoding",
        description="Text such as cafÃ© for café; repair writes what was meant.",
        json_schema_extra=why("Text is never changed without your word.", level="advanced"),
    )
    secrets: Literal["report", "mask", "drop", "off"] = Field(
        "report",
        title="Secrets",
        description="Private keys and access tokens; mask writes <TOKEN> or <PRIVATE_KEY> for them.",
        json_schema_extra=why("A model can repeat what it learned; you decide.", level="advanced"),
    )
    personal_data: Literal["report", "mask", "drop", "off"] = Field(
        "report",
        title="Personal data",
        description="E-mail, phone, IP, card and account numbers; mask writes <EMAIL>, <PHONE> and so on.",
        json_schema_extra=why("Public contact data may be what is taught; you decide.", level="advanced"),
    )
    class_balance: Literal["report", "oversample", "undersample", "off"] = Field(
        "report",
        title="Class balance",
        description="Rare labels, or answers from a short list; oversample repeats them, undersample drops others.",
        json_schema_extra=why("What is rare in your data may be rare where it is used.", level="advanced"),
    )


class SplitSection(Section):
    """How rows are divided between training, evaluation and a last test."""

    method: Literal["random", "stratified", "group", "time"] = Field(
        "random",
        title="Split",
        description="random, stratified (same shares of each value), group (no value on two sides), time (newest out).",
        json_schema_extra=why("Random suits rows that have nothing to do with each other.", level="advanced"),
    )
    column: str | None = Field(
        None,
        title="Split column",
        min_length=1,
        description="Column that the split goes by: a label, a person or document, a date or number.",
        json_schema_extra=why("Stratified takes the label; group and time need a column.", level="advanced"),
    )
    test: float | None = Field(
        None,
        title="Test share",
        gt=0,
        le=0.5,
        description="Share of rows put aside for a last test before and after; no choice of the run sees them.",
        json_schema_extra=why("None: the held-out rows are enough to compare before and after.", level="advanced"),
    )


class DataSection(Section):
    """What the model learns from."""

    source: str | list[str | WeightedSource] = Field(
        title="Data",
        description="A file, folder, pattern, hub:OWNER/NAME or builtin:commands, or a list, also of {path, weight}.",
    )
    encoding: str | None = Field(
        None,
        title="Encoding",
        description="Encoding of text files that are not Unicode, such as windows-1252 or gb18030.",
        json_schema_extra=why(
            "UTF-8, UTF-16 and UTF-32 are known for certain; others are guesses, and you say yes.", level="advanced"
        ),
    )
    unwrap: str | None = Field(
        None,
        title="Key of the rows",
        min_length=1,
        description="Key that holds the list of rows where a JSON file is one object around them.",
        json_schema_extra=why("A file holds its rows directly.", level="advanced"),
    )
    text_unit: Literal["passage", "paragraph", "file"] = Field(
        "passage",
        title="Row of a text file",
        description="One row of a text file: a passage of at most 1,500 characters, a paragraph or a whole file.",
        json_schema_extra=why("Passages fill sequences evenly and keep every word.", level="advanced"),
    )
    format: RowFormat | None = Field(
        None,
        title="Shape of the rows",
        description="How a row is read, such as messages, text, text_label (text, class) or preference (two answers).",
        json_schema_extra=why("Detected from the columns."),
    )
    mapping: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Which column plays which role, such as prompt: question, completion: answer.",
        json_schema_extra=why("Detected from the usual names of columns.", level="advanced"),
    )
    held_out: str | float | None = Field(
        None,
        title="Held-out rows",
        description="Share of rows kept for evaluation (0.1), or a file with rows of their own.",
        json_schema_extra=why("A tenth of the rows, at most 500, drawn with the seed."),
    )
    max_rows: int | None = Field(
        None,
        title="Row limit",
        ge=2,
        description="Use at most this many rows, drawn with the seed.",
        json_schema_extra=why("All rows.", level="advanced"),
    )
    system_prompt: str | None = Field(
        None,
        title="System prompt",
        description="System message put in front of each conversation that has none.",
        json_schema_extra=why("None is added.", level="advanced"),
    )
    drop_duplicates: bool = Field(
        True,
        title="Drop exact duplicates",
        description="Keep the first of rows that are equal to the letter; the number dropped is reported.",
        json_schema_extra=why("Duplicates teach nothing new and leak into the held-out rows.", level="advanced"),
    )
    allow_all_trained: bool = Field(
        False,
        title="Train on everything",
        description="Start also where every token of the conversations is trained, so that no question stands before.",
        json_schema_extra=why("A chat learns answers to questions; without any, something is wrong.", level="advanced"),
    )
    cleaning: CleaningSection = Field(
        default_factory=CleaningSection,
        title="Cleaning",
        description="What is looked for in the rows, and what is done with what is found.",
    )
    split: SplitSection = Field(
        default_factory=SplitSection,
        title="Split",
        description="How rows are divided between training, evaluation and a last test.",
    )

    def sources(self) -> list[str]:
        """Return what `source` names, without weights."""
        return source_paths(self.source)
