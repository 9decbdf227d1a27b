"""From a source of texts to padded batches."""

from rnn_jax.data.batches import Batch, Batches, BatchSource, bucket_lengths
from rnn_jax.data.pipeline import Data, Documents, RunData, load_data, load_documents
from rnn_jax.data.sentences import Sentence, Tagged, read_tagged
from rnn_jax.data.sources import read_source, read_texts
from rnn_jax.data.splits import Corpus, Split, load_corpus
from rnn_jax.data.tagged import Spelling, TagBatch, TagBatches, TaggedData, load_tagged, train_spelling
from rnn_jax.data.tokenizer import Tokenizer, truncate
from rnn_jax.data.windows import Window, Windows

__all__ = [
    "Batch",
    "BatchSource",
    "Batches",
    "Corpus",
    "Data",
    "Documents",
    "RunData",
    "Sentence",
    "Spelling",
    "Split",
    "TagBatch",
    "TagBatches",
    "Tagged",
    "TaggedData",
    "Tokenizer",
    "Window",
    "Windows",
    "bucket_lengths",
    "load_corpus",
    "load_data",
    "load_documents",
    "load_tagged",
    "read_source",
    "read_tagged",
    "read_texts",
    "train_spelling",
    "truncate",
]
