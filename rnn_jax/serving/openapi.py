"""The description of the server's API that programs read: OpenAPI 3.1."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from rnn_jax.data.targets import CLASS, LABELS
from rnn_jax.data.targets import NUMBER as NUMBERS
from rnn_jax.serving.limits import JSON_TYPE, Limits

Schema = dict[str, Any]
NUMBER: Schema = {"type": "number"}
HEALTH = {"200": "It does.", "503": "It stops."}
REFUSALS = {
    "400": "The body is not JSON in UTF-8.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": f"The content type is not {JSON_TYPE}.",
    "422": "The JSON is not what is asked for: the message names the field and the fix.",
    "503": "The server is busy or stops; ask again.",
}


def openapi(
    limits: Limits, label_names: Sequence[str], target: str = CLASS, pair: bool = False
) -> dict[str, Any]:
    """Returns the description of a server: of a classifier or another head, of texts or of pairs of them."""
    texts, predictions = (
        {"oneOf": [_named(one), _named(many)]}
        for one, many in (("Text", "Texts"), ("Prediction", "Predictions"))
    )
    question, explanation = _named("Question"), _named("Explanation")
    health = {status: _content(text, _named("Health")) for status, text in HEALTH.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "A classifier of rnn_jax", "version": _version()},
        "paths": {
            "/predict": {"post": _post("The labels of one text or of several", texts, predictions)},
            "/explain": {"post": _post("What each word of a text adds to a label", question, explanation)},
            "/health": {"get": {"summary": "Whether the server answers", "responses": health}},
        },
        "components": {"schemas": _schemas(limits, label_names, target, pair)},
    }


def _answer(label: Schema, target: str) -> Schema:
    """Returns the fields of a prediction."""
    if target == NUMBERS:
        return {"value": NUMBER | {"description": "in the unit of the data"}}
    every = {"type": "object", "additionalProperties": NUMBER, "description": "of every label"}
    if target == LABELS:
        labels = {"type": "array", "items": label, "description": "those with a probability above 0.5"}
        return {"labels": labels, "probabilities": every}
    return {"label": label, "probability": NUMBER | {"description": "of the label"}, "probabilities": every}


def _schemas(limits: Limits, label_names: Sequence[str], target: str, pair: bool) -> Schema:
    text: Schema = {"type": "string", "maxLength": limits.characters}
    if pair:
        text = {
            "type": "array",
            "items": text,
            "minItems": 2,
            "maxItems": 2,
            "description": "what is compared",
        }
    label: Schema = {"type": "string", "enum": list(label_names)}
    if target == NUMBERS:
        label = {"type": "null"}
    prediction = _answer(label, target)
    piece = _object({"text": {"type": "string"}, "score": {"type": ["number", "null"]}})
    explanation = {
        **prediction,
        "explained": label,
        "value": NUMBER | {"description": "the logit of the explained label"},
        "baseline": NUMBER | {"description": "the logit where the vector of every word is zero"},
        "pieces": {"type": "array", "items": piece, "description": "the whole text, in its order"},
    }
    return {
        "Text": _object({"text": text}),
        "Texts": _object({"texts": {"type": "array", "items": text, "maxItems": limits.texts}}),
        "Question": _object({"text": text, "label": label}, required=["text"]),
        "Prediction": _object(prediction),
        "Predictions": _object({"predictions": {"type": "array", "items": _named("Prediction")}}),
        "Explanation": _object(explanation),
        "Error": _object({"error": {"type": "string"}}),
        "Health": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
    }


def _post(summary: str, body: Schema, answer: Schema) -> dict[str, Any]:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {JSON_TYPE: {"schema": body}}},
        "responses": {
            "200": _content("The answer", answer),
            **{status: _content(text, _named("Error")) for status, text in REFUSALS.items()},
        },
    }


def _object(properties: Schema, required: Sequence[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _content(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {JSON_TYPE: {"schema": schema}}}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _version() -> str:
    try:
        return metadata.version("rnn_jax")
    except metadata.PackageNotFoundError:  # run from a folder of sources
        return "0"
