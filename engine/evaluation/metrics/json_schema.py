"""JSON Schema: share of answers that are JSON and valid against a schema."""

import json

import datasets
import evaluate

from engine.json_schema import Schema, fits, parse

_DESCRIPTION = "Share of predictions that parse as JSON and are valid against a JSON Schema (draft 2020-12)."
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    schema (str): The schema as JSON; by default everything is valid.
Returns:
    json_schema (float): Between 0 and 1.
"""


def fits_schema(text: str, schema: Schema) -> bool:
    """Return whether a text is JSON that a schema takes.

    Raises:
        TimeoutError: A pattern of the schema took too long.
    """
    try:
        value = parse(text)
    except ValueError:
        return False
    return fits(schema, value)


class JsonSchema(evaluate.Metric):
    """Parse each answer and hold it against the schema."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], schema: str = "true") -> dict[str, float]:
        rules = json.loads(schema)
        return {"json_schema": sum(fits_schema(text, rules) for text in predictions) / len(predictions)}
