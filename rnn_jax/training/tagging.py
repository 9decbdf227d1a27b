"""The task of a tagger of words: its settings checked, its data, its network, its report."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.workdir import TOKENIZER
from rnn_jax.data.sentences import span_scheme
from rnn_jax.data.sources import Source
from rnn_jax.data.tagged import TaggedData, load_tagged
from rnn_jax.data.tokenizer import SPECIAL_WORDS, Tokenizer
from rnn_jax.distributed.broadcast import say
from rnn_jax.distributed.data_parallel import batch_mesh, check_rows, own_rows
from rnn_jax.errors import require
from rnn_jax.inference.tagger import check_seqeval, load_tagger, span_scores
from rnn_jax.models.scores import class_scores
from rnn_jax.models.tagger import (
    TagMetrics,
    build_tagger,
    make_tagger_loss,
    make_tagger_measure,
)
from rnn_jax.settings import TAGGER, TAGGER_LEAST
from rnn_jax.training.initialisation import WORD2VEC
from rnn_jax.training.regularisers import averaging
from rnn_jax.training.report import CONFUSION_MATRIX, draw_confusion_matrix
from rnn_jax.training.tasks import Network, Results, Task
from rnn_jax.training.trainer import check_plan
from rnn_jax.vectors.words import first_words


def check_tagger(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    build_tagger(3, 3, 2, **config.model)
    check_plan(config)
    averaging(config)
    vectors, more = config.embedding.vectors, config.text.vector_words
    require(bool(config.data.source), "data.source is ''; name a file or folder of tagged sentences")
    require(
        vectors != WORD2VEC,
        f"embedding.vectors is {WORD2VEC!r}, which reads texts; train vectors by rnn-jax vectors, and name "
        "the file that it writes",
    )
    require(
        bool(vectors or config.embedding.from_workdir) or not more,
        f"text.vector_words is {more}, but embedding.vectors names no vectors; name some, or a run in "
        "embedding.from_workdir, or set it to 0",
    )
    if jax.process_count() > 1:  # a process alone pads the batch with rows of zeros
        check_rows("batch.size", config.batch.size, batch_mesh(config.devices))


def load_tagger_data(config: ConfigDict, cache: Path, source: "Source | None" = None) -> TaggedData:
    """Returns the batches of the three splits; this process gets its own rows of each."""
    size, start = config.batch.size, config.embedding
    more_words = _more_words(start.vectors, start.from_workdir, config.text.vector_words)
    read = dict(config.data, source=source or config.data.source)
    data = load_tagged(read, config.text, size, config.batch.buckets, more_words, own_rows(size))
    check_seqeval(data.tag_names)
    return data


def _more_words(vectors: str, workdir: str, count: int) -> list[str]:
    """Returns the first words of vectors; without vectors, all words of the run that this one starts from."""
    if not count:
        return []
    if vectors:
        return first_words(vectors, count)
    return Tokenizer.load(Path(workdir, TOKENIZER)).words[len(SPECIAL_WORDS) :]


def tagger_network(config: ConfigDict, data: TaggedData) -> Network:
    """Returns the tagger of `config.model`, its loss and its measure."""
    sizes = data.tokenizer.vocab_size, data.spelling.letter_count, len(data.tag_names)
    model = build_tagger(*sizes, **config.model)
    loss, measure = make_tagger_loss(model), make_tagger_measure(model)
    return Network(model, loss, measure, regularisers=averaging(config))


def report_tagger(workdir: Path, test: TagMetrics, data: TaggedData) -> Results:
    """Draws what the tagger confuses, and returns the results of each tag, and of spans where there are any.

    Spans are not sums over words: the best checkpoint tags the test sentences once more.
    """
    confusion = np.asarray(test.confusion)
    draw_confusion_matrix(workdir / CONFUSION_MATRIX, confusion, data.tag_names)
    details: Results = {"tags": class_scores(confusion, data.tag_names)}
    if scheme := span_scheme(data.tag_names):
        found = load_tagger(workdir).predict([row.words for row in data.test_sentences]).tags
        details["spans"] = span_scores([row.tags for row in data.test_sentences], found, scheme)
        line = "spans: F1 {f1:.2%}, precision {precision:.2%}, recall {recall:.2%}"
        say(line.format(**details["spans"]["micro"]))
    return details if data.tested else {**details, "tested_on": "validation"}


TAGGING = Task(
    TAGGER,
    TAGGER_LEAST,
    check_tagger,
    load_tagger_data,
    tagger_network,
    "{tested_on} accuracy {accuracy:.2%} on {words:,} words\n"
    "use it: rnn-jax predict --workdir {workdir} 'a text'",
    report_tagger,
)
