"""What is said of texts, as lines of JSON, cells of a table and columns of a file."""

import json
from collections.abc import Sequence
from typing import Any

from rnn_jax.data.row_streams import Row
from rnn_jax.data.targets import CLASS, LABELS, NUMBER, Text
from rnn_jax.errors import require
from rnn_jax.inference.tagger import Tagger
from rnn_jax.inference.text_model import TextModel

# The columns that a file of predictions has more, of a tagger WORDS and PREDICTED.
WORDS, PREDICTED, PROBABILITY, PROBABILITIES = "words", "predicted", "probability", "probabilities"
TAGGER_COLUMNS: tuple[str, ...] = (WORDS, PREDICTED)
ADDED_COLUMNS: dict[str, tuple[str, ...]] = {  # of the others, by data.target
    CLASS: (PREDICTED, PROBABILITY),
    LABELS: (PREDICTED, PROBABILITIES),
    NUMBER: (PREDICTED,),
}


def json_lines(texts: Sequence[Text], answers: Sequence[Row]) -> list[str]:
    """Returns a line for each text, or pair of texts, and what is said of it."""
    return [json.dumps({**cells_of(text), **answer}) for text, answer in zip(texts, answers, strict=True)]


def cells_of(text: Text) -> dict[str, str]:
    """Returns a text, or both of a pair, by the name of a column."""
    return {"text": text} if isinstance(text, str) else dict(zip(("text", "pair"), text, strict=True))


def added_columns(model: TextModel | Tagger, every: bool) -> tuple[str, ...]:
    """Returns the columns that a file of predictions has more, with `every` the probabilities of all classes.

    Raises:
      InputError: `every` of a model that has no such column.
    """
    if isinstance(model, Tagger) or model.head.target == NUMBER:
        require(not every, "--probabilities is given, but the model gives no probabilities of classes")
    if isinstance(model, Tagger):
        return TAGGER_COLUMNS
    own = ADDED_COLUMNS[model.head.target]
    return own if PROBABILITIES in own or not every else (*own, PROBABILITIES)


def decision(answer: Row, separator: str) -> Row:
    """Returns what is added to a row of a file: the decision, and how probable it and the others are.

    >>> decision({"label": "fine", "probabilities": {"dull": 0.25, "fine": 0.75}}, "")
    {'predicted': 'fine', 'probability': 0.75, 'probabilities': '{"dull": 0.25, "fine": 0.75}'}
    >>> decision({"labels": ["war", "love"], "probabilities": {"war": 0.75, "love": 0.5625}}, "|")
    {'predicted': 'war|love', 'probabilities': '{"war": 0.75, "love": 0.5625}'}
    >>> decision({"value": 3.5}, "")
    {'predicted': 3.5}
    """
    if "value" in answer:
        return {PREDICTED: answer["value"]}
    probabilities = json.dumps(answer["probabilities"])
    if "labels" in answer:
        return {PREDICTED: separator.join(answer["labels"]), PROBABILITIES: probabilities}
    most = max(answer["probabilities"].values())
    return {PREDICTED: answer["label"], PROBABILITY: most, PROBABILITIES: probabilities}


def separator_of(model: TextModel) -> str:
    """Returns what is written between labels of a text: as in the data, or a bar where they were lists."""
    return model.config.data.separator or "|"


def check_joined(model: TextModel | Tagger) -> None:
    """Raises InputError for a name that holds what --out writes between tags, or between several labels."""
    if isinstance(model, Tagger):
        spaced = [tag for tag in model.tag_names if tag.split() != [tag]]
        require(
            not spaced,
            f"the tag {spaced[:1]} has a space in it, but --out joins tags by spaces; use --format jsonl",
        )
    elif model.head.target == LABELS:
        joint = separator_of(model)
        odd = [name for name in model.label_names if joint in name]
        require(
            not odd,
            f"the label {odd[:1]} has {joint!r} in it, but --out joins labels by that; use --format jsonl",
        )


def shown(answer: Row) -> tuple[str, ...]:
    """Returns the cells that a table shows of an answer."""
    if "value" in answer:
        return (f"{answer['value']:.6g}",)
    if "labels" in answer:
        return (", ".join(answer["labels"]) or "-",)
    return answer["label"], f"{max(answer['probabilities'].values()):.3f}"


# The columns of the table of predictions, by data.target.
SHOWN_COLUMNS = {CLASS: ("label", "probability"), LABELS: ("labels",), NUMBER: ("value",)}


def cells_of_rows(model: TextModel | Tagger, prediction: Any, columns: Sequence[str]) -> list[Row]:
    """Returns what the columns hold that a file of predictions has more."""
    if isinstance(model, Tagger):
        return [
            {WORDS: " ".join(words), PREDICTED: " ".join(tags)}
            for words, tags in zip(prediction.words, prediction.tags, strict=True)
        ]
    decisions = (decision(answer, separator_of(model)) for answer in model.head.as_json(prediction))
    return [{name: cells[name] for name in columns} for cells in decisions]
