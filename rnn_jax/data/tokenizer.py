"""Texts to numbers: words, characters or pieces of words, and truncation to a number of them."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

from rnn_jax.data.chunks import LINE_BREAK, SEPARATORS, WORD_PATTERN, Chunks
from rnn_jax.data.vocabularies import (
    ALL_BYTES,
    BPE_FIELDS,
    BYTES,
    MARK,
    NOTHING,
    SPECIAL_WORDS,
    SUBWORDS,
    Learned,
    filled,
    learn,
    model_of,
    taken_from,
)
from rnn_jax.data.vocabularies import PAD as PAD
from rnn_jax.data.vocabularies import UNK as UNK
from rnn_jax.errors import InputError, choose, require
from rnn_jax.files import read_text

TEXTS_AT_ONCE = 1000  # that are encoded together: bounds the memory of the library's encodings

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
PATTERNS = {"words": WORD_PATTERN, "characters": r"\S", "scripts": SCRIPT_PATTERN, "bytes": "."}
PATTERNS |= dict.fromkeys(SUBWORDS, WORD_PATTERN)  # which are words in pieces
TOKENIZERS = ("auto", "words", "characters", "bytes", *SUBWORDS)  # what text.tokenizer may be
NO_SPACE = re.compile(rf"[{UNSPACED}\u3000-\u303f\uff00-\uffef]")  # beside these, and their punctuation
LOOKED_AT = 1000  # texts that tell the script


class Tokenizer:
    """A tokeniser over a fixed vocabulary of V words: whole words, characters, bytes, or pieces of words.

    Id 0, PAD, occurs in no text; id 1, UNK, stands for any word outside the vocabulary.

    Attributes:
      backend: the tokeniser of the `tokenizers` library.
      kind: what a word is, as in `train`.

    >>> tokenizer = Tokenizer.train(["a film, a film!"], vocab_size=100, lowercase=True, strip_html=False)
    >>> tokenizer.words
    ['[PAD]', '[UNK]', 'a', 'film', '!', ',']
    >>> tokenizer.encode(["A good film!"])[0].tolist()
    [2, 1, 3, 4]
    """

    def __init__(self, backend: tokenizers.Tokenizer, kind: str = "words"):
        """Takes a backend as `train` makes it of a kind."""
        self.backend, self.kind = backend, kind

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        lowercase: bool,
        strip_html: bool,
        kind: str = "words",
    ) -> "Tokenizer":
        """Returns a tokeniser over the most frequent words of `texts`, or over pieces learned from them.

        Args:
          texts: the texts to count words in.
          vocab_size: V, the number of ids, PAD and UNK included, at least 3; it is smaller where the texts
            have fewer words. Equally frequent words are taken in the order of their characters. Bytes have
            258 ids whatever the texts: byte b has id b + 2.
          lowercase: fold case before splitting.
          strip_html: turn `<br />` into a space.
          kind: what a word is, a key of PATTERNS: "words"; "characters", each alone; "scripts", words, but
            each character of a script without spaces alone; "bytes", those of the text in UTF-8, white space
            too; or "bpe" and "unigram", pieces of "words".

        Raises:
          InputError: a `vocab_size` below 3, or too small for a unigram model or bytes; or another `kind`.
        """
        require(vocab_size > 2, f"vocab_size is {vocab_size}; PAD and UNK take two ids, so give at least 3")
        choose("kind", kind, PATTERNS)
        backend = _backend(NOTHING, lowercase, strip_html, kind)
        learned = learn(kind, backend, map(_encodable, texts), vocab_size)
        # A trained backend would read "[PAD]" inside a text as padding; a new one splits it into words.
        return cls(_backend(learned, lowercase, strip_html, kind), kind)

    @classmethod
    def of_words(cls, words: Iterable[str], lowercase: bool) -> "Tokenizer":
        """Returns a tokeniser whose ids 2, 3, ... are those of `words`, each once and none a special word.

        >>> Tokenizer.of_words(["film", "a"], lowercase=True).encode(["A film"])[0].tolist()
        [3, 2]
        """
        vocabulary = {word: index for index, word in enumerate([*SPECIAL_WORDS, *words])}
        return cls(_backend({"vocab": vocabulary}, lowercase, strip_html=False))

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
        # Only what was learned is taken. A file could have patterns that take for ever, or padding that fills
        # the memory; and the library ends the process on some files.
        learned, options = _read(text)
        return cls(_backend(learned, **options), options["kind"])

    def to_json(self) -> str:
        """Returns the tokeniser in the JSON format of the `tokenizers` library."""
        return self.backend.to_str(pretty=True)

    def filled(self, vocab_size: int) -> "Tokenizer":
        """Returns this tokeniser with words that no text has, so that there are `vocab_size` ids.

        >>> Tokenizer.train(["a film"], 100, lowercase=True, strip_html=False).filled(6).words
        ['[PAD]', '[UNK]', 'a', 'film', '[UNUSED 4]', '[UNUSED 5]']
        """
        learned, options = _read(self.to_json())
        return Tokenizer(_backend(filled(self.kind, learned, vocab_size), **options), self.kind)

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
            rows.extend(self._encode(list(map(_encodable, texts[start : start + TEXTS_AT_ONCE]))))
        return rows

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        """Returns int32[words] of each text, which UTF-8 can hold."""
        if self.kind == "bytes":
            changed = map(self.backend.normalizer.normalize_str, texts)
            bytes_of = (np.frombuffer(text.encode(), np.uint8) for text in changed)
            return [found.astype(np.int32) + len(SPECIAL_WORDS) for found in bytes_of]
        spaced = self.kind != "scripts" and not any(mark in text for text in texts for mark in SEPARATORS)
        if spaced:
            return self._chunks.encode(texts)
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    @cached_property
    def _chunks(self) -> Chunks:
        return Chunks(self.backend, whole_words=self.kind == "words")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.backend, self.kind)  # and nothing of what was computed once

    def spell(self, text: str) -> tuple[np.ndarray, list[str]]:
        """Returns the ids of a text, as `encode` does, and each word as the text writes it, known or not.

        A piece that only marks where a word begins is "", and so is a byte that goes on with a character.

        Raises:
          TypeError: the text is not a string.
        """
        ids, spans = self.spans(text)
        text = _encodable(text)
        return ids, [text[start:end] for start, end in spans]

    def spans(self, text: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Returns the ids of a text, and where each word begins and ends in it; raises as `spell` does."""
        if not isinstance(text, str):
            raise TypeError(f"text is {text!r}, not a string")
        encoding = self.backend.encode(_encodable(text), add_special_tokens=False)
        mark = self.backend.token_to_id(MARK) if self.kind in SUBWORDS else None
        written = [
            (start, start if index == mark else end)
            for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        if self.kind == "bytes":  # the library gives each byte of a character the whole of it
            pairs = itertools.pairwise([None, *written])
            written = [(now[1], now[1]) if now == before else now for before, now in pairs if now]
        return np.array(encoding.ids, dtype=np.int32), written

    def joined(self, words: Sequence[str], after: str = "") -> str:
        """Returns words as a text that goes on from `after`, with spaces where the tokeniser has them.

        >>> Tokenizer.of_words(["film", "a"], lowercase=True).joined(["film", "!"], after="a")
        'a film !'
        """
        if self.kind == "characters":
            return after + "".join(words)
        if self.kind == "bytes":
            known = (BYTES.index(word) for word in words if word in BYTES)
            return after + bytes(known).decode("utf-8", "replace")
        if self.kind in SUBWORDS:
            text = "".join(words).replace(MARK, " ")
            return after + text if after else text.removeprefix(" ")
        for word in words:
            glued = not after or (
                self.kind == "scripts" and (NO_SPACE.match(word) or NO_SPACE.match(after[-1]))
            )
            after += word if glued else f" {word}"
        return after

    def words_of(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns the words of each text as `encode` splits it, "[UNK]" for those outside the vocabulary."""
        words = self.words  # one string for all uses of a word: a list of tokens would make one for each
        return [[words[index] for index in row.tolist()] for row in self.encode(texts)]


def check_tokenizer(name: str) -> None:
    """Raises InputError, with the nearest name, where a name is no value of `text.tokenizer`."""
    choose("text.tokenizer", name, dict.fromkeys(TOKENIZERS))


def tokenizer_kind(name: str, texts: Sequence[str]) -> str:
    """Returns the key of PATTERNS that a name stands for: of "auto", what the script of the texts takes.

    Args:
      name: of a kind but "scripts", or "auto": words, but where most letters are of scripts without spaces
        between words, "scripts": each of their characters is a word.
      texts: to train on; LOOKED_AT of them, spread evenly, are looked at.

    Raises:
      InputError: another name.

    >>> tokenizer_kind("auto", ["a fine film"]), tokenizer_kind("auto", ["\u5f88\u597d\u7684 film"])
    ('words', 'words')
    >>> tokenizer_kind("auto", ["\u5f88\u597d\u7684\u7535\u5f71 DVD"])
    'scripts'
    """
    check_tokenizer(name)
    if name != "auto":
        return name
    letters = unspaced = 0
    for text in texts[:: max(1, len(texts) // LOOKED_AT)]:
        unspaced += 0 if text.isascii() else len(re.findall(f"[{UNSPACED}]", text))
        letters += sum(map(str.isalpha, text))
    return "scripts" if 2 * unspaced > letters else "words"


def _backend(
    learned: Learned, lowercase: bool, strip_html: bool, kind: str = "words"
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model_of(kind, learned))
    steps: list[normalizers.Normalizer] = []
    if strip_html:
        steps.append(normalizers.Replace(Regex(LINE_BREAK), " "))
    if lowercase:
        steps.append(normalizers.Lowercase())
    backend.normalizer = normalizers.Sequence(steps)
    if kind == "bytes":
        mapped = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
        each = pre_tokenizers.Split(Regex(PATTERNS[kind]), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([mapped, each])
        return backend
    words = pre_tokenizers.Split(Regex(PATTERNS[kind]), "removed", invert=True)
    marked = [words, pre_tokenizers.Metaspace(MARK)] if kind in SUBWORDS else []
    backend.pre_tokenizer = pre_tokenizers.Sequence(marked) if marked else words
    return backend


def _read(text: str) -> tuple[Learned, dict[str, Any]]:
    """Returns what was learned and the options of a tokeniser that `_backend` could have made, in JSON."""
    try:
        value = json.loads(text)
        learned, value["model"] = taken_from(value["model"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not a tokeniser: {type(error).__name__}: {error}"[:300]) from error
    for kind, lowercase, strip_html in itertools.product(PATTERNS, (False, True), (False, True)):
        options: dict[str, Any] = {"lowercase": lowercase, "strip_html": strip_html, "kind": kind}
        known = json.loads(_backend(NOTHING, **options).to_str())
        # Another version of the library may lack a field, or have one more without a value.
        model = known["model"]
        fields = {name for name in BPE_FIELDS if model.pop(name, None) is not None}
        same = all(value.get(key, known.get(key)) == known.get(key) for key in value.keys() | known.keys())
        listed = isinstance(learned["vocab"], list) == (kind == "unigram")
        if kind == "bytes":
            same = same and ALL_BYTES["vocab"].items() <= dict(learned["vocab"]).items()
        if same and listed and fields == learned.keys():
            return learned, options
    raise InputError("it is of another kind than the tokenisers that this version of rnn_jax saves")


def _encodable(text: str) -> str:
    """Returns the text with lone surrogates, which UTF-8 cannot hold, replaced by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


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
