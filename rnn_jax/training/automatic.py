"""`recipe="auto"`: the settings that were best for so many labelled texts, by docs/small_data.md."""

import math
from importlib.util import find_spec
from typing import NamedTuple

from ml_collections import ConfigDict

from rnn_jax.data.columns import find_column
from rnn_jax.data.folders import HELD_OUT
from rnn_jax.data.reading import Reading
from rnn_jax.data.sources import Source, read_source
from rnn_jax.data.splits import load_corpus
from rnn_jax.data.targets import NUMBER
from rnn_jax.errors import require
from rnn_jax.settings import recipe

AUTO = "auto"  # the name that stands for a choice
NO_START = (
    f"recipe is {AUTO!r}, which chooses what training starts from, but a run to start from is given too; "
    "give one of the two"
)
FEWEST = 20  # labelled texts, below which nothing was measured and a tenth to validate on says nothing


class Method(NamedTuple):
    """A way to train that docs/small_data.md has measured.

    Attributes:
      recipe: the recipe whose settings are changed.
      vectors: whether word2vec is trained first, which needs gensim.
      unlabelled: whether it is trained on texts without labels.
      evidence: whether n-grams are counted for each class.
      what: the method in words, for the log.
    """

    recipe: str
    vectors: bool
    unlabelled: bool
    evidence: bool
    what: str


METHODS = {
    "plain": Method("bilstm", False, False, False, "a learned embedding"),
    "plain, evidence": Method("bilstm", False, False, True, "a learned embedding, and evidence of n-grams"),
    "labelled vectors": Method("imdb_evidence", True, False, False, "frozen word2vec of the labelled texts"),
    "labelled vectors, evidence": Method(
        "imdb_evidence", True, False, True, "frozen word2vec of the labelled texts, and evidence of n-grams"
    ),
    "word2vec": Method("imdb_evidence", True, True, False, "frozen word2vec of the unlabelled texts"),
    "evidence": Method(
        "imdb_evidence", True, True, True, "frozen word2vec of the unlabelled texts, and evidence of n-grams"
    ),
    "strong": Method(
        "imdb_t0",
        True,
        True,
        True,
        "frozen word2vec of the unlabelled texts, evidence of n-grams, an adversary",
    ),
}
# By the number of labels that were measured, the methods, the best first. Of two whose difference is within
# the deviation over seeds the cheaper one is first.
RANKED: dict[int, tuple[str, ...]] = {
    100: (
        "word2vec",
        "evidence",
        "strong",
        "plain",
        "labelled vectors",
        "plain, evidence",
        "labelled vectors, evidence",
    ),
    500: (
        "strong",
        "evidence",
        "word2vec",
        "labelled vectors, evidence",
        "plain, evidence",
        "labelled vectors",
        "plain",
    ),
    2_000: (
        "strong",
        "evidence",
        "word2vec",
        "plain, evidence",
        "plain",
        "labelled vectors, evidence",
        "labelled vectors",
    ),
    20_000: (
        "strong",
        "evidence",
        "plain, evidence",
        "labelled vectors, evidence",
        "word2vec",
        "labelled vectors",
        "plain",
    ),
}
BATCHES = {100: (16, 20), 500: (16, 10), 2_000: (32, 6)}  # rows and epochs; of more labels the recipe's own
WORD2VEC_EPOCHS = {100: 50, 500: 50}  # on the labelled texts alone; of more labels 15, as imdb_t1


class Given(NamedTuple):
    """What a choice depends on.

    Attributes:
      labels: how many texts are labelled, those to validate on among them.
      unlabelled: the source of texts without labels, `text.vocabulary_source`; "" where there is none.
      gensim: whether gensim is installed, which trains word2vec.
      counts: whether n-grams can be counted for each class: of single texts, whose labels are no numbers.
    """

    labels: int
    unlabelled: str
    gensim: bool
    counts: bool

    def allows(self, method: Method) -> bool:
        """Returns whether a method can be used."""
        return (
            (self.gensim or not method.vectors)
            and (bool(self.unlabelled) or not method.unlabelled)
            and (self.counts or not method.evidence)
        )

    def describe(self) -> str:
        """Returns what is there and what is not, in words."""
        texts = f"texts without labels: {self.unlabelled or 'none (text.vocabulary_source)'}"
        gensim = "" if self.gensim else "; gensim is not installed (the extra `vectors`)"
        counts = "" if self.counts else "; numbers and pairs have no n-grams of a class"
        return f"{self.labels:,} labelled texts; {texts}{gensim}{counts}"


def chosen_method(given: Given) -> str:
    """Returns the name of the best method of METHODS that can be used with what is given.

    >>> chosen_method(Given(150, "", gensim=False, counts=False))
    'plain'
    """
    names = RANKED[measured_size(given.labels)]
    return next(name for name in names if given.allows(METHODS[name]))


def measured_size(labels: int) -> int:
    """Returns the number of labels that was measured and is nearest by its ratio.

    >>> [measured_size(labels) for labels in (20, 220, 230, 10**6)]
    [100, 100, 500, 20000]
    """
    return min(RANKED, key=lambda size: abs(math.log(labels / size)))


def method_settings(name: str, labels: int) -> ConfigDict:
    """Returns the settings of a method of METHODS for so many labelled texts, its source left open.

    >>> config = method_settings("evidence", 500)
    >>> config.batch.size, config.embedding.evidence.orders
    (16, (1, 2, 3))
    """
    method, size = METHODS[name], measured_size(labels)
    config = recipe(method.recipe)
    config.text.vocabulary_source = ""
    config.embedding.evidence.orders = (1, 2, 3) if method.evidence else ()
    if method.unlabelled:
        config.model.embedding_dim, config.embedding.epochs = 128, 8
    elif method.vectors:  # word2vec of few texts leaves its entries near zero
        config.embedding.epochs, config.embedding.scale = WORD2VEC_EPOCHS.get(size, 15), 1.0
    if size in BATCHES:
        config.model.pooling = "mean"
        config.batch.size, config.train.epochs = BATCHES[size]
        config.batch.buckets = 1
        config.train.evaluate_every = float(config.train.epochs)  # too few to validate on to choose an epoch
    return config


def automatic_settings(config: ConfigDict, source: "Source | None" = None) -> tuple[ConfigDict, str]:
    """Returns the settings of the best method for the labelled texts of a run, and a line that says why.

    Args:
      config: settings of a classifier, of which `data` and `text.vocabulary_source` are read and kept.
      source: splits by name, in place of what `config.data.source` names.

    Raises:
      InputError: the texts cannot be read, or too few of them have labels.
    """
    corpus = load_corpus(**dict(config.data, source=source or config.data.source, soft_labels=""))
    labels = len(corpus.train.texts) + len(corpus.validation.texts)
    require(
        labels >= FEWEST,
        f"recipe is {AUTO!r}, which chooses by what was measured at {min(RANKED)} labels and more, but "
        f"{labels} texts have labels; label more, or name a recipe, such as 'bilstm'",
    )
    gensim = find_spec("gensim") is not None
    counts = config.data.target != NUMBER and not config.data.pair_column
    given = Given(labels, unlabelled_source(config, source), gensim, counts)
    name = chosen_method(given)
    chosen = method_settings(name, labels)
    chosen.data = ConfigDict(config.data.to_dict())
    chosen.text.vocabulary_source = given.unlabelled
    if config.train.patience or config.train.monitor:  # which look at several evaluations
        chosen.train.evaluate_every = 1.0
    size = measured_size(labels)
    return chosen, (
        f"recipe {AUTO}: {METHODS[name].what}, the best of what can be used here at {size:,} labels "
        f"(docs/small_data.md); {given.describe()}"
    )


def unlabelled_source(config: ConfigDict, source: "Source | None") -> str:
    """Returns `text.vocabulary_source`, or the run's source where it has texts in a split of their own.

    A source without a test split is not taken: some of its training texts are to test on.
    """
    data = config.data
    if config.text.vocabulary_source or source is not None:
        return config.text.vocabulary_source
    if data.name or data.revision or data.delimiter or data.encoding:  # the vocabulary's source has none
        return ""
    splits = read_source(data.source, Reading(data.text_column))
    others = [part for name, part in splits.items() if name not in ("train", *HELD_OUT)]
    found = any(find_column(part, data.text_column) for part in others)
    return data.source if found and ("test" in splits or not data.test_share) else ""
