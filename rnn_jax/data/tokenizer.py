"""Words to numbers: a word-level tokeniser and vocabulary, and truncation to a number of words."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from rnn_jax.errors import InputError, choose, require
from rnn_jax.files import read_text

PAD, UNK = 0, 1
SPECIAL_WORDS = ("[PAD]", "[UNK]")
TEXTS_AT_ONCE = 1000  # that are encoded together: bounds the memory of the library's encodings

# Words, one token a punctuation mark, and English contractions split as in the Penn Treebank and GloVe:
# "don't" is "do" and "n't", "it's" is "it" and "'s".
WORD_PATTERN = r"(?i)\w+?(?=n't)|n't|'(?:s|re|ve|ll|m|d)\b|\w+|[^\w\s]"
LINE_BREAK = r"(?i)<br\s*/?>"
# Scripts that put no spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
UNSPACED = "".join(
    f"{chr(first)}-{chr(last)}"
    for first, last in [
        (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF),
        (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
        (0x20000, 0x323AF),
    ]
)  # fmt: skip
# A character of these scripts, with its marks, or words as above, which stop where such a character begins.
OTHER = rf"(?:(?![{UNSPACED}])\w)"
SCRIPT_PATTERN = rf"(?i)[{UNSPACED}]\p{{M}}*|{OTHER}+?(?=n't)|n't|'(?:s|re|ve|ll|m|d)\b|{OTHER}+|[^\w\s]"
PATTERNS = {"words": WORD_PATTERN, "characters": r"\S", "scripts": SCRIPT_PATTERN}
TOKENIZERS = ("auto", "words", "characters")  # what text.tokenizer may be
LOOKED_AT = 1000  # texts that tell the script


class Tokenizer:
    """A word-level tokeniser over a fixed vocabulary of V words.

    Id 0, PAD, occurs in no text; id 1, UNK, stands for any word outside the vocabulary.

    Attributes:
      backend: the tokeniser of the `tokenizers` library.

    >>> tokenizer = Tokenizer.train(["a film, a film!"], vocab_size=100, lowercase=True, strip_html=False)
    >>> tokenizer.words
    ['[PAD]', '[UNK]', 'a', 'film', '!', ',']
    >>> tokenizer.encode(["A good film!"])[0].tolist()
    [2, 1, 3, 4]
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        """Takes a backend as `train` makes it."""
        self.backend = backend

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        lowercase: bool,
        strip_html: bool,
        kind: str = "words",
    ) -> "Tokenizer":
        """Returns a tokeniser over the most frequent words of `texts`.

        Args:
          texts: the texts to count words in.
          vocab_size: V, the number of ids, PAD and UNK included, at least 3; it is smaller where the texts
            have fewer words. Equally frequent words are taken in the order of their characters.
          lowercase: fold case before splitting.
          strip_html: turn `<br />` into a space.
          kind: what a word is, a key of PATTERNS: "words"; "characters", each alone; or "scripts", words,
            but each character of a script without spaces alone.

        Raises:
          InputError: a `vocab_size` below 3, or another `kind`.
        """
        require(vocab_size > 2, f"vocab_size is {vocab_size}; PAD and UNK take two ids, so give at least 3")
        choose("kind", kind, PATTERNS)
        backend = _backend({}, lowercase, strip_html, kind)
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIAL_WORDS), show_progress=False
        )
        backend.train_from_iterator(map(_encodable, texts), trainer)
        # A trained backend would read "[PAD]" inside a text as padding; a new one splits it into words.
        return cls(_backend(backend.get_vocab(), lowercase, strip_html, kind))

    @classmethod
    def of_words(cls, words: Iterable[str], lowercase: bool) -> "Tokenizer":
        """Returns a tokeniser whose ids 2, 3, ... are those of `words`, each once and none a special word.

        >>> Tokenizer.of_words(["film", "a"], lowercase=True).encode(["A film"])[0].tolist()
        [3, 2]
        """
        vocabulary = {word: index for index, word in enumerate([*SPECIAL_WORDS, *words])}
        return cls(_backend(vocabulary, lowercase, strip_html=False))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Returns the tokeniser saved at `path`. Raises InputError where there is none."""
        try:
            return cls.from_json(read_text(path))
        except InputError as error:
            raise InputError(f"{path} holds no tokeniser of rnn_jax: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Returns the tokeniser that `to_json` wrote. Raises InputError for anything else."""
        # Only the vocabulary is taken. A file could have patterns that take for ever, or padding that fills
        # the memory; and the library ends the process on some files.
        vocabulary, options = _vocabulary(text)
        return cls(_backend(vocabulary, **options))

    def to_json(self) -> str:
        """Returns the tokeniser in the JSON format of the `tokenizers` library."""
        return self.backend.to_str(pretty=True)

    def filled(self, vocab_size: int) -> "Tokenizer":
        """Returns this tokeniser with words that no text has, so that there are `vocab_size` ids.

        >>> Tokenizer.train(["a film"], 100, lowercase=True, strip_html=False).filled(6).words
        ['[PAD]', '[UNK]', 'a', 'film', '[UNUSED 4]', '[UNUSED 5]']
        """
        vocabulary, options = _vocabulary(self.to_json())
        unused = {f"[UNUSED {index}]": index for index in range(len(vocabulary), vocab_size)}
        return Tokenizer(_backend(vocabulary | unused, **options))

    @property
    def vocab_size(self) -> int:
        """The number of ids, PAD and UNK included."""
        return self.backend.get_vocab_size()

    @property
    def words(self) -> list[str]:
        """The words in the order of their ids."""
        vocabulary = self.backend.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32[words] for each text; a text of no words gives an empty array.

        Raises:
          TypeError: a text is not a string; the message names its position.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts is one string, {texts[:20]!r}; give a list of strings")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"text {position} is {text!r}, not a string; give one string for each text")
        rows: list[np.ndarray] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            chunk = list(map(_encodable, texts[start : start + TEXTS_AT_ONCE]))
            encodings = self.backend.encode_batch_fast(chunk, add_special_tokens=False)
            rows.extend(np.array(encoding.ids, dtype=np.int32) for encoding in encodings)
        return rows

    def spell(self, text: str) -> tuple[np.ndarray, list[str]]:
        """Returns the ids of a text, as `encode` does, and each word as the text writes it, known or not.

        Raises:
          TypeError: the text is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"text is {text!r}, not a string")
        text = _encodable(text)
        encoding = self.backend.encode(text, add_special_tokens=False)
        words = [text[start:end] for start, end in encoding.offsets]
        return np.array(encoding.ids, dtype=np.int32), words

    def words_of(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns the words of each text as `encode` splits it, "[UNK]" for those outside the vocabulary."""
        words = self.words  # one string for all uses of a word: a list of tokens would make one for each
        return [[words[index] for index in row.tolist()] for row in self.encode(texts)]


def tokenizer_kind(name: str, texts: Sequence[str]) -> str:
    """Returns the key of PATTERNS that a name stands for: of "auto", what the script of the texts takes.

    Args:
      name: "words", "characters", or "auto": words, but where most letters are of scripts without spaces
        between words, "scripts": each of their characters is a word.
      texts: to train on; LOOKED_AT of them, spread evenly, are looked at.

    Raises:
      InputError: another name.

    >>> tokenizer_kind("auto", ["a fine film"]), tokenizer_kind("auto", ["\u5f88\u597d\u7684 film"])
    ('words', 'words')
    >>> tokenizer_kind("auto", ["\u5f88\u597d\u7684\u7535\u5f71 DVD"])
    'scripts'
    """
    choose("text.tokenizer", name, dict.fromkeys(TOKENIZERS))
    if name != "auto":
        return name
    letters = unspaced = 0
    for text in texts[:: max(1, len(texts) // LOOKED_AT)]:
        unspaced += 0 if text.isascii() else len(re.findall(f"[{UNSPACED}]", text))
        letters += sum(map(str.isalpha, text))
    return "scripts" if 2 * unspaced > letters else "words"


def _backend(
    vocabulary: dict[str, int], lowercase: bool, strip_html: bool, kind: str = "words"
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_WORDS[UNK]))
    steps: list[normalizers.Normalizer] = []
    if strip_html:
        steps.append(normalizers.Replace(Regex(LINE_BREAK), " "))
    if lowercase:
        steps.append(normalizers.Lowercase())
    backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERNS[kind]), "removed", invert=True)
    return backend


def _vocabulary(text: str) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns the vocabulary and the options in the JSON of a tokeniser that `_backend` could have made."""
    try:
        value = json.loads(text)
        vocabulary = value["model"].pop("vocab")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not a tokeniser: {type(error).__name__}: {error}"[:300]) from error
    words = isinstance(vocabulary, dict) and all(type(index) is int for index in vocabulary.values())
    require(words, "it has no vocabulary: a number for each word")
    special = tuple(sorted(vocabulary, key=vocabulary.__getitem__)[:2])
    require(special == SPECIAL_WORDS, f"ids 0 and 1 are {str(special)[:100]}, not {SPECIAL_WORDS}")
    counted = sorted(vocabulary.values()) == list(range(len(vocabulary)))
    require(counted, "the numbers of its words are not 0, 1, 2, ..., each once")
    require(all(word == _encodable(word) for word in vocabulary), "a word has half of a surrogate pair")
    for kind, lowercase, strip_html in itertools.product(PATTERNS, (False, True), (False, True)):
        options: dict[str, Any] = {"lowercase": lowercase, "strip_html": strip_html, "kind": kind}
        known = json.loads(_backend({}, **options).to_str())
        del known["model"]["vocab"]
        # Another version of the library may lack a field, or have one more without a value.
        if all(value.get(key, known.get(key)) == known.get(key) for key in value.keys() | known.keys()):
            return vocabulary, options
    raise InputError(
        "it is of another kind than the word-level tokenisers that this version of rnn_jax saves"
    )


def _encodable(text: str) -> str:
    """Returns the text with lone surrogates, which UTF-8 cannot hold, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _head_tail(ids: np.ndarray, size: int) -> np.ndarray:
    head = size // 4
    return np.concatenate([ids[:head], ids[len(ids) - (size - head) :]])


TRUNCATIONS = {
    "head": lambda ids, size: ids[:size],
    "tail": lambda ids, size: ids[-size:],
    "head_tail": _head_tail,
}


def truncate(rows: Sequence[np.ndarray], max_length: int, keep: str) -> list[np.ndarray]:
    """Returns the rows, those of more than `max_length` words cut to that many.

    Args:
      rows: int32[words] of each text.
      max_length: the most words to keep, positive.
      keep: which words: the first ("head"), the last ("tail"), or a quarter of them from the start and the
        rest from the end ("head_tail", after Sun et al. 2019, How to Fine-Tune BERT for Text Classification).

    Raises:
      InputError: another `keep`, or a `max_length` below 1.

    >>> truncate([np.arange(9)], 4, "head_tail")[0].tolist()
    [0, 6, 7, 8]
    """
    cut = choose("truncate", keep, TRUNCATIONS)
    require(max_length > 0, f"max_length is {max_length}; give a positive number of words")
    return [row if len(row) <= max_length else cut(row, max_length) for row in rows]
