"""A trained tagger in use: `load_tagger(workdir)` gives an object that tags words of sentences and texts."""

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.restore import check_buckets, read_config, read_settings, restored
from rnn_jax.checkpoints.workdir import CONFIG, TAG, TASK, TOKENIZER
from rnn_jax.data.in_memory import missing, values_of
from rnn_jax.data.sentences import Sentence, span_scheme
from rnn_jax.data.tagged import Spelling, TagBatch, TagBatches, pieces, words_and_numbers
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError, require
from rnn_jax.inference.hub import local_folder
from rnn_jax.inference.model_card import About
from rnn_jax.inference.model_folder import save_model
from rnn_jax.inference.parts import in_parts
from rnn_jax.models.scores import class_scores
from rnn_jax.models.tagger import TagMetrics, WordTagger, build_tagger, make_tagger_measure
from rnn_jax.progress import Bar
from rnn_jax.trees import Params

TAGGER_KEYS = ("model.cell", "model.letter_hidden", "text.letters", "text.max_length", "batch.size")


class TaggerTask(TypedDict):
    """What a tagger's task.json holds: the tags, the known letters, and the padded numbers of words."""

    tag_names: list[str]
    letters: list[str]
    buckets: list[int]


class TagPrediction(NamedTuple):
    """What a tagger says of n sentences or texts, as `Tagger.predict` returns it.

    Attributes:
      words: the words of each, as they were given, or as a text was split.
      tags: the tag of each word.
      probabilities: float32[words] of each, the probability of the word's tag.

    >>> prediction = TagPrediction([["Dogs", "bark"]], [["NOUN", "VERB"]], [np.array([0.75, 0.5])])
    >>> list(zip(prediction.words[0], prediction.tags[0]))
    [('Dogs', 'NOUN'), ('bark', 'VERB')]
    """

    words: list[list[str]]
    tags: list[list[str]]
    probabilities: list[np.ndarray]


class Tagger:
    """A trained tagger of words, as `load` returns it.

    >>> tagger = load_tagger("runs/tagger")  # doctest: +SKIP
    >>> tagger.predict([["Dogs", "bark", "."]]).tags  # doctest: +SKIP
    [['NOUN', 'VERB', 'PUNCT']]

    Attributes:
      config: the resolved config of its run.
      model, params: `model.apply({"params": params}, token_ids, lengths, letters)`, as WordTagger says.
      spelling: words to numbers.
      tag_names: the C tags, by position.
      buckets: the numbers of words that sentences are padded to.
      step: the training step of the checkpoint.
      workdir: the folder of the run, or of the saved model.
      task: what task.json holds of it: the tags, the letters and the buckets.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: WordTagger,
        params: Params,
        spelling: Spelling,
        task: TaggerTask,
        step: int,
        workdir: Path | None = None,
    ):
        """Takes what `load_tagger` reads; the attributes have the same names."""
        self.config, self.model, self.params = config, model, params
        self.spelling, self.step, self.workdir = spelling, step, workdir
        self.task = task
        self.tag_names: tuple[str, ...] = tuple(task["tag_names"])
        self.buckets: tuple[int, ...] = tuple(task["buckets"])
        self._measure = jax.jit(make_tagger_measure(model))
        self._found = jax.jit(partial(likeliest_tags, model))

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary of words, which also splits a text into words."""
        return self.spelling.tokenizer

    @property
    def evidence(self) -> None:
        """The n-grams that its network reads: none, which count for the classes of texts."""

    def predict(
        self, sentences: Iterable[str | Sequence[str] | None], progress: bool = True
    ) -> TagPrediction:
        """Returns a tag for each word, in the order of the sentences.

        Args:
          sentences: in any iterable, which is read a part at a time, each a list of words, which keeps its
            words as they are, or a text. A text is split at white space, and punctuation marks are words:
            "don't go." is "do", "n't", "go" and ".". A missing one, None or NaN, has no words.
          progress: whether a terminal or a notebook shows a bar where this takes more than 2 seconds.

        Raises:
          TypeError: `sentences` is one string, or holds something else than texts and lists of words.
        """
        parts = list(self.predict_parts(sentences, progress))
        return TagPrediction(
            [words for part in parts for words in part.words],
            [tags for part in parts for tags in part.tags],
            [values for part in parts for values in part.probabilities],
        )

    def predict_parts(
        self, sentences: Iterable[str | Sequence[str] | None], progress: bool = True
    ) -> Iterator[TagPrediction]:
        """Yields predictions of PART sentences each, in their order, as `predict` makes them.

        Only one part of the sentences is in memory at a time.

        Raises:
          TypeError: as `predict`.
        """
        for part, bar in in_parts(_sentences_in(sentences), sentences, progress):
            yield self._predict_part(part, bar)

    def save(self, folder: str | Path, *, license: str = "", language: str = "", dataset: str = "") -> None:
        """Writes a folder that `load` reads, whole or not at all; docs/serving.md says what is in it.

        Arguments and errors are those of `Predictor.save`.

        >>> load_tagger("runs/tagger").save("tagger", license="mit", language="en")  # doctest: +SKIP
        """
        save_model(self, folder, About(license, language, dataset).check())

    def _predict_part(self, sentences: list[str | list[str]], bar: Bar) -> TagPrediction:
        words = [self.words_of(sentence) for sentence in sentences]
        cut = [(row, piece) for row, own in enumerate(words) for piece in pieces(own, self.buckets[-1])]
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, int), np.zeros(0, np.float32))] * len(cut)
        for batch in self._batches([piece for _, piece in cut], [[0] * len(piece) for _, piece in cut]):
            read = batch.token_ids, batch.lengths, batch.letters
            tags_BT, p_BT = map(np.asarray, self._found({"params": self.params}, *read))
            for place, row in enumerate(batch.rows[batch.rows >= 0]):
                here = place, slice(batch.lengths[place])
                found[row] = tags_BT[here], p_BT[here]
            bar.advance(int((batch.rows >= 0).sum()))
        tags: list[list[str]] = [[] for _ in words]
        parts: list[list[np.ndarray]] = [[np.zeros(0, np.float32)] for _ in words]
        for (row, _), (numbers, values) in zip(cut, found, strict=True):
            tags[row].extend(self.tag_names[number] for number in numbers)
            parts[row].append(values)
        return TagPrediction(words, tags, [np.concatenate(values) for values in parts])

    def evaluate(self, sentences: Iterable[Sentence]) -> dict[str, Any]:
        """Returns the loss a word, the accuracy of words and their number, and the results of each tag.

        They are under "loss", "accuracy", "words" and "tags". Where tags mark spans ("B-PER"), "spans" has
        the precision, recall, F1 and support of each kind of span and of all ("micro"), by seqeval.

        Args:
          sentences: words with a tag each, such as `read_tagged` returns, or pairs (words, tags); at least
            one word.

        Raises:
          InputError: no words, not one tag for each, or a tag that the training data did not have.
        """
        sentences = [Sentence(*row) for row in sentences]
        require(any(row.words for row in sentences), "there are no sentences with words to evaluate on")
        for number, (words, tags) in enumerate(sentences):
            require(
                len(words) == len(tags),
                f"sentence {number} has {len(words)} words and {len(tags)} tags; give one tag for each word",
            )
        unknown = sorted({tag for row in sentences for tag in row.tags}.difference(self.tag_names))
        require(not unknown, f"the sentences have tags that the run does not know: {', '.join(unknown[:20])}")
        cut = words_and_numbers(sentences, self.tag_names, self.buckets[-1])
        parts = [self._measure(self.params, (), batch)[0] for batch in self._batches(*cut)]
        metrics = TagMetrics(*(np.sum(field, axis=0, dtype=float) for field in zip(*parts, strict=True)))
        results = {**metrics.summary(), "tags": class_scores(np.asarray(metrics.confusion), self.tag_names)}
        if scheme := span_scheme(self.tag_names):
            found = self.predict([row.words for row in sentences]).tags
            results["spans"] = span_scores([row.tags for row in sentences], found, scheme)
        return results

    def words_of(self, sentence: str | Sequence[str]) -> list[str]:
        """Returns the words of a text as `predict` splits it, and of a list of words the words."""
        if isinstance(sentence, str):
            return self.spelling.tokenizer.spell(sentence)[1]
        return list(sentence)

    def _batches(self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> Iterator[TagBatch]:
        if words:
            yield from TagBatches(words, tags, self.spelling, self.buckets, self.config.batch.size).in_order()


def likeliest_tags(
    model: WordTagger, variables: Params, token_ids: jax.Array, lengths: jax.Array, letters: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns int32[B, T], the likeliest tags of each row, and float32[B, T], the probability of each."""
    apply: Callable[..., jax.Array] = partial(model.apply, variables)  # type: ignore[assignment]
    scores = apply(token_ids, lengths, letters)
    tags_BT = apply(scores, lengths, method="decode")
    p_BTC = apply(scores, lengths, method="marginals")
    return tags_BT, jnp.take_along_axis(p_BTC, tags_BT[:, :, None], axis=2)[:, :, 0]


def _sentences_in(sentences: object) -> Iterator[Any]:
    """Yields texts and lists of words. Raises TypeError for anything else."""
    if isinstance(sentences, str):
        raise TypeError(
            f"sentences is one string, {sentences[:40]!r}; give a list of texts or lists of words"
        )
    if not isinstance(sentences, Iterable):
        raise TypeError(f"sentences is a {type(sentences).__name__}; give a list of texts or lists of words")
    for row, sentence in enumerate(values_of(sentences, "sentences")):
        words: Any = sentence.tolist() if isinstance(sentence, np.ndarray) else sentence
        words = [] if missing(words) else words
        if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"sentence {row} is {str(sentence)[:80]!r}, neither a text nor a list of words")
        yield words


def check_seqeval(tag_names: Sequence[str]) -> None:
    """Raises InputError where tags mark spans and the package that measures those is not installed."""
    if span_scheme(tag_names):
        require_seqeval()


def require_seqeval() -> None:
    """Raises InputError where the package that measures spans is not installed."""
    require(
        importlib.util.find_spec("seqeval") is not None,
        "the tags mark spans, which seqeval measures; install it with: pip install -e '.[tag]'",
    )


def span_scores(
    true: Sequence[Sequence[str]], found: Sequence[Sequence[str]], scheme: str
) -> dict[str, dict[str, float]]:
    """Returns precision, recall, F1 and support of each kind of span, and of all under "micro", by seqeval.

    Args:
      true, found: the tags of each sentence, as they should be and as they were found.
      scheme: as `span_scheme` returns it. "BIO" counts as the program conlleval of CoNLL-2003 does, so that
        an I- after another kind of span begins one; "BILOU" takes only spans that are complete.

    Raises:
      InputError: seqeval is not installed.

    >>> true, found = [["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]]
    >>> scores = span_scores(true, found, "BIO")  # doctest: +SKIP
    >>> scores["micro"]["precision"], scores["micro"]["recall"]  # doctest: +SKIP
    (1.0, 0.5)
    """
    require_seqeval()
    from seqeval.metrics import classification_report
    from seqeval.scheme import BILOU

    strict = {"mode": "strict", "scheme": BILOU} if scheme == "BILOU" else {}
    rows = [list(row) for row in true], [list(row) for row in found]
    with warnings.catch_warnings():  # it takes a mean over no kinds where there are no spans
        warnings.simplefilter("ignore", RuntimeWarning)
        report = classification_report(*rows, output_dict=True, zero_division=0, **strict)
    names = {"micro avg": "micro"} | {name: name for name in report if not name.endswith(" avg")}
    keys = {"precision": "precision", "recall": "recall", "f1-score": "f1", "support": "support"}
    return {
        names[name]: {
            keys[key]: int(value) if key == "support" else float(value) for key, value in values.items()
        }
        for name, values in report.items()
        if name in names
    }


def load_tagger(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Tagger:
    """Returns a trained tagger, on the default device; arguments are those of `rnn_jax.load`.

    Raises:
      InputError: no run of a tagger, no such checkpoint, or one that cannot be read or is of another network.

    >>> load_tagger("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: workdir is 'runs/none', which is not the folder of a run: ...
    """
    workdir = local_folder(workdir)
    config = read_config(workdir, TAG, TAGGER_KEYS)
    tokenizer, task = Tokenizer.load(workdir / TOKENIZER), _read_task(workdir / TASK, config)
    spelling = Spelling(tokenizer, task["letters"], config.text.letters)
    try:
        sizes = tokenizer.vocab_size, spelling.letter_count, len(task["tag_names"])
        model = build_tagger(*sizes, **config.model)
    except TypeError as error:
        raise InputError(f"{workdir / CONFIG} is not of this version of rnn_jax: {error}") from error
    params, step = restored(workdir, model, which, fallback)
    return Tagger(config, model, params, spelling, task, step, workdir.absolute())


def _read_task(path: Path, config: ConfigDict) -> TaggerTask:
    """Returns the tags, letters and buckets of a run. Raises InputError where they make no sense."""
    task = read_settings(path, list(TaggerTask.__annotations__))
    for name, least in (("tag_names", 2), ("letters", 0)):
        values = task[name]
        texts = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
        require(texts and len(set(values)) == len(values) >= least, f"{path}: {name} are no texts, each once")
    check_buckets(path, task["buckets"], config.text.max_length)
    return {"tag_names": task["tag_names"], "letters": task["letters"], "buckets": task["buckets"]}
