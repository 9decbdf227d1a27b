"""The data of a tagger: words and their letters as numbers, in padded batches with a tag for each word."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data.batches import WHOLE, Batch, Batches, bucket_lengths
from rnn_jax.data.folders import HELD_OUT
from rnn_jax.data.reading import reading_of
from rnn_jax.data.sentences import Sentence, Tagged, read_tagged
from rnn_jax.data.sources import named
from rnn_jax.data.splits import hold_out
from rnn_jax.data.tokenizer import SPECIAL_WORDS, UNK, Tokenizer
from rnn_jax.errors import require
from rnn_jax.hashing import digest_of_arrays, digest_of_json

NO_LETTER, UNKNOWN_LETTER = 0, 1  # the others are numbered from 2


class TagBatch(NamedTuple):
    """One padded batch of sentences. A last batch that is not full has rows of length 0.

    Attributes:
      token_ids: int32[B, T], the words, PAD after the length.
      lengths: int32[B], words of each sentence, from 0 to T.
      letters: int32[B, T, W], the letters of each word, NO_LETTER after its last.
      tags: int32[B, T], from 0 to C - 1; 0 at padding.
      rows: int32[B], positions of the sentences in their split, -1 for none.

    >>> ids = np.array([[5, 2, 0]], np.int32)
    >>> batch = TagBatch(ids, np.array([2]), letters=ids[:, :, None], tags=0 * ids, rows=np.array([0]))
    >>> batch.letters.shape
    (1, 3, 1)
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    letters: np.ndarray
    tags: np.ndarray
    rows: np.ndarray


class Spelling:
    """Words to numbers: the id of each word, and the numbers of its letters.

    A word is looked up as it is written, in lower case if the vocabulary folds case; its letters keep their
    case. Of a word of more than W letters the first and the last half of W are read.

    Attributes:
      tokenizer: the vocabulary. It also splits texts into words where they do not come as words.
      letters: the known letters; the number of letters[i] is i + 2.
      width: W, at least 2.

    >>> spelling = Spelling(Tokenizer.of_words(["dogs"], lowercase=True), letters="sgodD", width=4)
    >>> spelling.word_ids(["Dogs", "bark"]).tolist()
    [2, 1]
    >>> spelling.letters_of(["Dogs", "doings"]).tolist()
    [[6, 4, 3, 2], [5, 4, 3, 2]]
    """

    def __init__(self, tokenizer: Tokenizer, letters: Sequence[str], width: int):
        """Takes the attributes. Raises InputError for a width below 2."""
        require(width > 1, f"text.letters is {width}; read at least 2 letters of a word")
        self.tokenizer, self.letters, self.width = tokenizer, tuple(letters), width
        self.lowercase = bool(tokenizer.backend.normalizer.normalize_str("A") == "a")
        self._id_of = {word: index for index, word in enumerate(tokenizer.words)}
        self._id_of |= dict.fromkeys(SPECIAL_WORDS, UNK)  # a word that reads "[PAD]" is no padding
        self._number_of = {letter: index for index, letter in enumerate(self.letters, UNKNOWN_LETTER + 1)}

    @property
    def letter_count(self) -> int:
        """The number of numbers that letters have, NO_LETTER and UNKNOWN_LETTER included."""
        return len(self.letters) + UNKNOWN_LETTER + 1

    def word_ids(self, words: Sequence[str]) -> np.ndarray:
        """Returns int32[words], UNK for words outside the vocabulary."""
        looked_up = map(str.lower, words) if self.lowercase else words
        return np.array([self._id_of.get(word, UNK) for word in looked_up], np.int32)

    def letters_of(self, words: Sequence[str]) -> np.ndarray:
        """Returns int32[words, W], the numbers of the letters of each word."""
        numbers = np.full((len(words), self.width), NO_LETTER, np.int32)
        head, tail = self.width - self.width // 2, self.width // 2
        for row, word in zip(numbers, words, strict=True):
            read = word if len(word) <= self.width else word[:head] + word[-tail:]
            row[: len(read)] = [self._number_of.get(letter, UNKNOWN_LETTER) for letter in read]
        return numbers


def train_spelling(
    sentences: Iterable[Sequence[str]],
    vocab_size: int,
    lowercase: bool,
    width: int,
    more_words: Sequence[str] = (),
) -> Spelling:
    """Returns the spelling over the most frequent words, and all letters, of the words of sentences.

    Args:
      sentences: the words of each sentence.
      vocab_size: the most words to know, PAD and UNK included, at least 3. Equally frequent words are taken
        in the order of their characters.
      lowercase: look words up in lower case; letters keep their case.
      width: letters of a word that are read.
      more_words: words that join the vocabulary beyond its size, such as those of word vectors.

    Raises:
      InputError: a `vocab_size` below 3, or a width below 2.

    >>> spelling = train_spelling([["The", "the", "end"]], vocab_size=3, lowercase=True, width=8)
    >>> spelling.tokenizer.words, spelling.letters
    (['[PAD]', '[UNK]', 'the'], ('e', 'h', 'T', 'd', 'n', 't'))
    """
    require(vocab_size > 2, f"vocab_size is {vocab_size}; PAD and UNK take two ids, so give at least 3")
    words = Counter(itertools.chain.from_iterable(sentences))
    letters = Counter[str]()
    for word, count in words.items():
        letters.update(dict.fromkeys(word, count))
    folded = Counter[str]()
    for word, count in words.items():
        folded[word.lower() if lowercase else word] += count
    known = _by_frequency(folded)[: vocab_size - len(SPECIAL_WORDS)]
    more = (word.lower() if lowercase else word for word in more_words)
    chosen = dict.fromkeys(word for word in itertools.chain(known, more) if _is_word(word))
    return Spelling(Tokenizer.of_words(chosen, lowercase), _by_frequency(letters), width)


def _by_frequency(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))


def _is_word(word: str) -> bool:
    """Returns whether a vocabulary can hold a word: no special one, and no half of a surrogate pair."""
    return word not in SPECIAL_WORDS and word == word.encode("utf-8", "replace").decode("utf-8")


class TagBatches:
    """The padded batches of the sentences of one split; `batches(seed, step)` is pure, as `Batches` is.

    Attributes:
      plan: which sentences stand in which batch, how they are padded, and the words.
      letters: int32[forms, W], the letters of each word of the split, each spelling once.
      forms: int32[words] of each sentence, rows of `letters`.
      tags: int32[words] of each sentence.

    >>> spelling = Spelling(Tokenizer.of_words(["dogs", "bark"], lowercase=True), "abdgkors", width=4)
    >>> batches = TagBatches([["Dogs", "bark"], ["Bark"]], [[0, 1], [1]], spelling, (3,), batch_size=2)
    >>> (batch,) = batches.in_order()
    >>> batch.token_ids.tolist(), batch.tags.tolist(), batch.letters.shape
    ([[2, 3, 0], [3, 0, 0]], [[0, 1, 0], [1, 0, 0]], (2, 3, 4))
    """

    def __init__(
        self,
        sentences: Sequence[Sequence[str]],
        tags: Sequence[Sequence[int]],
        spelling: Spelling,
        buckets: Sequence[int],
        batch_size: int,
        share: slice = WHOLE,
    ):
        """Takes the words and tags of each sentence; `buckets`, `batch_size` and `share` as in `Batches`."""
        rows = [spelling.word_ids(words) for words in sentences]
        self.plan = Batches(rows, np.zeros(len(rows), np.int32), buckets, batch_size, share)
        form_of: dict[str, int] = {}
        self.forms = [
            np.array([form_of.setdefault(word, len(form_of)) for word in words], np.int32)
            for words in sentences
        ]
        self.letters = spelling.letters_of(list(form_of))
        self.tags = [np.array(row, np.int32) for row in tags]

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that hold every sentence once."""
        return self.plan.steps_per_epoch

    @property
    def predictions(self) -> int:
        """The number of words, each tagged once an epoch."""
        return int(self.plan.lengths.sum())

    @property
    def padding_waste(self) -> float:
        """The share of the words of the batches that are padding."""
        return self.plan.padding_waste

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The [B, T] shapes that occur, shortest first."""
        return self.plan.shapes

    def __call__(self, seed: int, step: int) -> TagBatch:
        """Returns the batch at `step`, counted from 0 over all epochs."""
        return self._with_letters(self.plan(seed, step))

    def in_order(self) -> Iterator[TagBatch]:
        """Yields every sentence once, shortest bucket first."""
        return map(self._with_letters, self.plan.in_order())

    def one_of_each_shape(self) -> Iterator[TagBatch]:
        """Yields one batch of each shape that occurs: what there is to compile."""
        return map(self._with_letters, self.plan.one_of_each_shape())

    def _with_letters(self, batch: Batch) -> TagBatch:
        letters = np.full((*batch.token_ids.shape, self.letters.shape[1]), NO_LETTER, np.int32)
        tags = np.zeros(batch.token_ids.shape, np.int32)
        for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            if length:
                letters[place, :length] = self.letters[self.forms[row]]
                tags[place, :length] = self.tags[row]
        return TagBatch(batch.token_ids, batch.lengths, letters, tags, batch.rows)


class TaggedData(NamedTuple):
    """A tagger's data, as `load_tagged` returns it.

    Attributes:
      train, validation, test: the batches of each split.
      spelling: words to numbers.
      tag_names: the C tags, by position.
      test_sentences: what `test` is made of. Without a test split both are those of validation.
      notes: lines for the log on what was passed over, or is not as one would expect.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "all.conll")
    >>> _ = path.write_text("".join(f"Dog{n} NOUN\\nbarks VERB\\n\\n" for n in range(10)))
    >>> source = {"source": str(path), "word_column": "", "tag_column": "", "split_seed": 0}
    >>> shares = {"validation_share": 0.2, "test_share": 0.2}
    >>> text = {"vocab_size": 50, "lowercase": True, "letters": 6, "max_length": 16}
    >>> data = load_tagged(source | shares, text, batch_size=4, buckets=1)
    >>> data.tag_names, data.train.predictions, data.test.shapes
    (('NOUN', 'VERB'), 12, [(4, 16)])
    """

    train: TagBatches
    validation: TagBatches
    test: TagBatches
    spelling: Spelling
    tag_names: tuple[str, ...]
    test_sentences: list[Sentence]
    notes: tuple[str, ...]

    @property
    def tested(self) -> bool:
        """Whether there is a test split."""
        return self.test is not self.validation

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary of words."""
        return self.spelling.tokenizer

    @property
    def task(self) -> dict[str, object]:
        """What using the model needs beside its config and vocabulary, and the digest of the data."""
        return {
            "tag_names": self.tag_names,
            "letters": self.spelling.letters,
            "buckets": self.train.plan.buckets,
            "data": self.digest(),
        }

    @property
    def uses(self) -> np.ndarray:
        """int[V]: how often each word occurs in the sentences to train on."""
        return np.bincount(np.concatenate(self.train.plan.examples), minlength=self.tokenizer.vocab_size)

    def texts(self) -> list[str]:
        """Returns nothing: word2vec is not trained on tagged sentences."""
        return []

    def digest(self) -> str:
        """Returns a digest that is equal where the sentences, the tags and the vocabulary are equal."""
        arrays = [
            (
                *map(np.concatenate, (split.plan.examples, split.forms, split.tags)),
                split.plan.lengths,
                split.letters,
            )
            for split in (self.train, self.validation, self.test)
        ]
        return digest_of_arrays(arrays) + digest_of_json([self.tokenizer.to_json(), self.tag_names])

    def describe(self) -> str:
        """Returns lines for the log."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        said = [
            f"{len(split.forms):,} {name} ({split.predictions:,} words)" for name, split in splits.items()
        ]
        said[2:] = said[2:] if self.tested else ["no test, so that validation is measured at the end"]
        held = np.concatenate(self.validation.plan.examples)
        names = ", ".join(self.tag_names[:40]) + (", ..." if len(self.tag_names) > 40 else "")
        return "\n".join(
            [
                f"sentences: {', '.join(said)}; {len(self.tag_names)} tags: {names}",
                f"vocabulary: {self.tokenizer.vocab_size:,} words, {(held == UNK).mean():.1%} of validation "
                f"outside it; {len(self.spelling.letters):,} letters",
                *self.notes,
                f"shapes [batch, time]: {self.train.shapes}; padding waste {self.train.padding_waste:.1%}",
            ]
        )


def load_tagged(
    data: Mapping[str, Any],
    text: Mapping[str, Any],
    batch_size: int,
    buckets: int,
    more_words: Sequence[str] = (),
    share: slice = WHOLE,
) -> TaggedData:
    """Reads tagged sentences, cuts missing splits, and lays all out in padded batches; example: `TaggedData`.

    A sentence of more than `text.max_length` words comes in pieces of that length: every word has its tag.

    Args:
      data: `config.data`: source, word_column and tag_column of `read_tagged`; encoding, name and revision of
        `Reading`; shares and split_seed as in `load_corpus`, where a `test_share` of 0 cuts no test split.
      text: `config.text`: vocab_size and lowercase as in `train_spelling`, letters (its width), max_length.
      batch_size, buckets: B, and the number of padded lengths.
      more_words, share: as in `train_spelling`, and as in `Batches`.

    Raises:
      InputError: as `read_tagged` and `train_spelling`; no split "train", or a share that leaves none.
    """
    reading, said = reading_of(data)
    found = read_tagged(data["source"], data["word_column"], data["tag_column"], reading)
    shares = {name: data[f"{name}_share"] for name in HELD_OUT}
    splits = _with_held_out(found.splits, named(data["source"]), shares, data["split_seed"])
    tag_names, notes = _tags_and_notes(found, splits)
    require(len(tag_names) > 1, f"{named(data['source'])} has the tags {list(tag_names)}; a tagger needs two")
    cut = {name: words_and_numbers(rows, tag_names, text["max_length"]) for name, rows in splits.items()}
    words = cut["train"][0]
    spelling = train_spelling(words, text["vocab_size"], text["lowercase"], text["letters"], more_words)
    lengths = bucket_lengths([len(row) for row in words], text["max_length"], buckets)
    batches = {name: TagBatches(*rows, spelling, lengths, batch_size, share) for name, rows in cut.items()}
    batches.setdefault("test", batches["validation"])
    last = splits.get("test", splits["validation"])
    return TaggedData(
        **batches, spelling=spelling, tag_names=tag_names, test_sentences=last, notes=(*said, *notes)
    )


def _tags_and_notes(
    found: Tagged, splits: Mapping[str, list[Sentence]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns all tags, and lines on what was passed over and on tags that training never sees."""
    used = {name: {tag for row in rows for tag in row.tags} for name, rows in splits.items()}
    every = sorted(set().union(*used.values()))
    unseen = [tag for tag in every if tag not in used["train"]]
    notes = [f"passed over: {', '.join(found.passed_over)}"] if found.passed_over else []
    notes += [f"no sentence to train on has the tags {', '.join(unseen[:20])}"] if unseen else []
    return found.tag_names or tuple(every), tuple(notes)


def words_and_numbers(
    sentences: Sequence[Sentence], tag_names: Sequence[str], most: int
) -> tuple[list[list[str]], list[list[int]]]:
    """Returns the words and the positions of their tags, cut into pieces of at most `most` words.

    >>> words_and_numbers([Sentence(["Dogs", "bark"], ["NOUN", "VERB"])], ["VERB", "NOUN"], 1)
    ([['Dogs'], ['bark']], [[1], [0]])
    """
    position = {tag: index for index, tag in enumerate(tag_names)}
    words = [piece for row in sentences for piece in pieces(row.words, most)]
    tags = [piece for row in sentences for piece in pieces([position[tag] for tag in row.tags], most)]
    return words, tags


def pieces(row: list[Any], most: int) -> list[list[Any]]:
    """Returns the row cut into lists of `most` elements, the last one shorter.

    >>> pieces([1, 2, 3], 2)
    [[1, 2], [3]]
    """
    return [row[start : start + most] for start in range(0, len(row), most)]


def _with_held_out(
    splits: Mapping[str, list[Sentence]], source: str, shares: Mapping[str, float], seed: int
) -> dict[str, list[Sentence]]:
    """Returns the three splits; those that are missing are cut from train, equal sentences together."""
    require("train" in splits, f"{source} has no split 'train', but {', '.join(splits)}; name a file for it")
    made = {name: splits[name] for name in ("train", *HELD_OUT) if name in splits}
    total = len(made["train"])
    for name in HELD_OUT:
        if name not in made and (name != "test" or shares[name] != 0):
            rest = ["\t".join(row.words) for row in made["train"]]
            require(len(rest) > 1, f"{source} has {total} sentences, too few to cut the split {name!r} from")
            require(0 < shares[name] < 1, f"{name}_share is {shares[name]}; it must be between 0 and 1")
            held = set(hold_out(rest, min(shares[name] * total / len(rest), 0.99), seed)[1])
            cut = [row for row, key in zip(made["train"], rest, strict=True) if key in held]
            made["train"] = [row for row, key in zip(made["train"], rest, strict=True) if key not in held]
            made[name] = cut
    return {name: made[name] for name in ("train", *HELD_OUT) if name in made}
