"""README.md of a saved model: what it is, what it was trained on, how good it is, how it is loaded."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from rnn_jax.checkpoints.workdir import CLASSIFY, LANGUAGE, TAG, Json
from rnn_jax.data.targets import LABELS, NUMBER
from rnn_jax.errors import require

if TYPE_CHECKING:
    from rnn_jax.inference.model_folder import TrainedModel

CARD = "README.md"
MOST_LABELS = 50  # that are listed
COUNTS = ("step", "examples", "words")  # beside the measures of an evaluation
USES = {
    CLASSIFY: ("text-classification", "load", ""),
    TAG: ("token-classification", "load", 'model.predict(["a text", ["or", "its", "words"]]).tags'),
    LANGUAGE: (
        "text-generation",
        "load_language_model",
        'model.write("a text", words=20, temperature=0.8, top_k=40, seed=0)',
    ),
}


class About(NamedTuple):
    """What a model card says and no run knows.

    Attributes:
      license: an identifier of the hub, such as "apache-2.0"; "" says that none is named.
      language: of the texts, such as "en".
      dataset: the hub's name of the data, "user/name"; "" gives the name of the file or folder.
      address: what the card loads the model from, such as "hf://user/name"; "" is the folder.

    >>> About(license="mit", language="en").check().license
    'mit'
    """

    license: str = ""
    language: str = ""
    dataset: str = ""
    address: str = ""

    def check(self) -> "About":
        """Returns it. Raises InputError for what is no printable string on one line."""
        for name, value in self._asdict().items():
            plain = isinstance(value, str) and (value == "" or value.isprintable()) and len(value) <= 1000
            require(
                plain, f"{name} is {str(value)[:100]!r}; give one printable line, at most 1000 characters"
            )
        return self


def model_card(model: "TrainedModel", results: Mapping[str, Json], about: About) -> str:
    """Returns Markdown with the front matter in YAML that the Hugging Face hub reads."""
    config, task = model.config, model.config.get("task", CLASSIFY)
    kind, loader, use = USES.get(task, USES[CLASSIFY])
    if task == CLASSIFY:
        use = _use(config)
    elif _reads_backward(config):
        use = "model.config.direction"  # `write` refuses it
    measures = _measures(results)
    called = "tag" if task == TAG else "label"
    names = [str(name) for name in model.task.get(f"{called}_names", ())]  # type: ignore[attr-defined]
    parts = [
        f"---\n{_front_matter(kind, config, measures, about)}\n---",
        f"# {_title(about)}\n",
        _sentence(task, config, len(names)),
        "## Use it\n\n```python\nimport rnn_jax\n\n"
        f"model = rnn_jax.{loader}({about.address!r})\nprint({use})\n```",
        "## Data\n\n" + _table(["", ""], _data(config, called, names, about)),
        "## Results\n\n" + _results(results, measures, model.step),
        "## Licence\n\n"
        + (f"`{about.license}`" if about.license else "None is named: ask who made the model."),
        "## Files\n\n`model.safetensors` holds the parameters, `config.json` the settings of the run, "
        f"`tokenizer.json` the words and `task.json` the {called}s. None of them holds code.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _front_matter(kind: str, config: Any, measures: Mapping[str, float], about: About) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    dataset = about.dataset or _source(config)
    evaluations = [EvalResult(kind, dataset, dataset, name, value) for name, value in measures.items()]
    data = ModelCardData(
        license=about.license or None,
        language=about.language or None,
        library_name="rnn_jax",
        pipeline_tag=kind,
        tags=["rnn_jax", "jax", "rnn", str(config.model.cell)],
        datasets=[about.dataset] if about.dataset else None,
        metrics=[*measures] or None,
        model_name=_title(about) if measures else None,
        eval_results=evaluations or None,
    )
    return data.to_yaml()


def _measures(results: Mapping[str, Json]) -> dict[str, float]:
    """Returns the test's numbers: those that the validation has too, such as the accuracy, and the scores."""
    validation, scores = (
        found if isinstance(found := results.get(name), dict) else {} for name in ("validation", "scores")
    )
    measured = {name: results.get(name) for name in validation} | (scores if validation else {})
    return {
        name: round(float(value), 6)
        for name, value in measured.items()
        if name not in COUNTS and isinstance(value, int | float)
    }


def _title(about: About) -> str:
    return PurePath(about.address.removeprefix("hf://").split("@")[0]).name or "model"


def _sentence(task: str, config: Any, labels: int) -> str:
    model = config.model
    direction = "bidirectional " if model.get("bidirectional", False) else ""
    what = {LANGUAGE: _writer(config), TAG: f"A tagger of words with {labels} tags"}.get(
        task, _decision(config, labels)
    )
    return (
        f"{what}: {model.layers} {direction}{model.cell} layer{'s' * (model.layers > 1)} of {model.hidden} "
        "hidden units, made with rnn_jax (recurrent networks for text in JAX)."
    )


def _reads_backward(config: Any) -> bool:
    return bool(config.get("direction", "forward") != "forward")  # of language models alone


def _writer(config: Any) -> str:
    more = " that reads backward: classifiers start from it, and it writes no texts"
    return "A language model" + more * _reads_backward(config)


def _decision(config: Any, labels: int) -> str:
    texts = "pairs of texts" if config.data.get("pair_column") else "texts"
    kinds = {
        LABELS: f"A classifier of {texts}, each of which may have several of {labels} labels",
        NUMBER: f"A regressor that gives {texts} numbers",
    }
    return kinds.get(config.data.get("target"), f"A classifier of {texts} into {labels} labels")


def _use(config: Any) -> str:
    """Returns a call that the card shows."""
    pairs = bool(config.data.get("pair_column"))
    texts = '[("a text", "its pair"), ("another", "and its pair")]' if pairs else '["a text", "another"]'
    return f"model.predict({texts}).{'values' if config.data.get('target') == NUMBER else 'labels'}"


def _data(config: Any, called: str, names: list[str], about: About) -> list[tuple[str, str]]:
    shown = ", ".join(map(_code, names[:MOST_LABELS]))
    more = f" and {len(names) - MOST_LABELS:,} more" if len(names) > MOST_LABELS else ""
    rows = [("trained on", _code(about.dataset or _source(config)))]
    rows += [(f"{called}s", shown + more)] if names else []
    return [*rows, ("language", about.language or "not named")]


def _source(config: Any) -> str:
    """Returns the name of the data; of a file or folder the last part, since a card may be published."""
    source = str(config.data.source)
    return Path(source).name if source.startswith(("/", "~", ".")) or Path(source).exists() else source


def _results(results: Mapping[str, Json], measures: Mapping[str, float], step: int) -> str:
    if not measures:
        return f"The parameters are those of training step {step:,}; no results are known of them."
    validation = results["validation"]
    rows = [
        (name, f"{value:.4f}", f"{float(validation[name]):.4f}" if name in validation else "")
        for name, value in measures.items()
    ]
    count = next((results[name] for name in COUNTS if isinstance(results.get(name), int)), None)
    on = f", test on {count:,}" if count is not None else ""
    return f"At training step {step:,}{on}.\n\n" + _table(["", "test", "validation"], rows)


def _table(names: list[str], rows: list[Any]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    """Returns text as code in a cell of a table: what would end the cell or begin markup is replaced."""
    shown = "".join(c if c.isprintable() else " " for c in text[:200]).replace("`", "'").replace("|", "\\|")
    return f"`{shown or ' '}`"
